#!/bin/bash
# Run once, by the image's entrypoint, when a data directory is made: the accounts, and on a replica where its source is.
# It has to be executable, for what is not is read into the entrypoint's own shell. Nodes have no DDL rights, so that a
# statement slipped into one cannot drop a table. Passwords are made by secrets.sh of letters and digits, and need no quoting.
set -euo pipefail
secret() { cat "/run/secrets/$1"; }

accounts() {
	cat <<SQL
SET SESSION sql_log_bin = OFF;
CREATE USER 'lockstep'@'%' IDENTIFIED BY '$(secret mysql_node)' REQUIRE SSL;
GRANT SELECT, INSERT, UPDATE, DELETE ON lockstep.* TO 'lockstep'@'%';
CREATE USER 'lockstep_read'@'%' IDENTIFIED BY '$(secret mysql_read)' REQUIRE SSL;
GRANT SELECT ON lockstep.* TO 'lockstep_read'@'%';
GRANT REPLICATION CLIENT ON *.* TO 'lockstep_read'@'%';
CREATE USER 'lockstep_migrate'@'%' IDENTIFIED BY '$(secret mysql_migrate_password)' REQUIRE SSL;
GRANT ALL PRIVILEGES ON lockstep.* TO 'lockstep_migrate'@'%';
CREATE USER 'lockstep_replica'@'%' IDENTIFIED BY '$(secret mysql_replication)' REQUIRE SSL;
GRANT REPLICATION SLAVE ON *.* TO 'lockstep_replica'@'%';
-- What the making of this server has logged is of no other one.
RESET BINARY LOGS AND GTIDS;
SQL
}

source_only() {
	cat <<SQL
SET SESSION sql_log_bin = ON;
CREATE DATABASE lockstep CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
SQL
}

# Replication begins when the server is started in earnest, which the entrypoint does next.
replica_only() {
	cat <<SQL
CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'mysql-source', SOURCE_USER = 'lockstep_replica',
	SOURCE_PASSWORD = '$(secret mysql_replication)', SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1,
	SOURCE_SSL = 1, SOURCE_SSL_CA = '/run/secrets/ca.crt', SOURCE_SSL_VERIFY_SERVER_CERT = 1;
SET PERSIST super_read_only = ON;
SQL
}

{ accounts; "${ROLE}_only"; } | MYSQL_PWD=$(secret mysql_root) mysql --protocol=socket --user=root
