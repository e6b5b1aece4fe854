#!/usr/bin/env bash
# Makes what deploy/compose.yaml needs and nobody else may have, under deploy/compose/secrets (or the directory named as
# argument): an authority with certificates of a year for each server, passwords, DSNs. What is there already is kept, so
# delete a file to have it made again. The directory is closed to others; the files in it are not, for each server reads its
# own under an account of its own.
set -euo pipefail
dir=${1:-$(dirname "${BASH_SOURCE[0]}")/secrets}
mkdir -p "$dir"
chmod 700 "$dir"
cd "$dir"
umask 022

have() { [[ -s $1 ]]; }
password() { have "$1" || openssl rand -hex 24 >"$1"; }

have ca.key || openssl ecparam -name prime256v1 -genkey -noout -out ca.key
chmod 600 ca.key
have ca.crt || openssl req -x509 -new -key ca.key -days 3650 -subj "/CN=lockstep compose" -out ca.crt \
	-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign

# certificate FILE NAME...: for servers of these names, and to show as a client.
certificate() {
	local file=$1 names=IP:127.0.0.1 name
	shift
	have "$file.crt" && return
	for name in "$@"; do names+=,DNS:$name; done
	openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$file.key"
	chmod 644 "$file.key"
	openssl req -new -key "$file.key" -subj "/CN=$1" |
		openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out "$file.crt" -extfile <(
			printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$names"
		) 2>/dev/null
}
certificate mysql mysql-source mysql-replica
certificate redis redis-1 redis-2 redis-3
certificate nats nats-1 nats-2 nats-3
certificate node node-1 node-2 localhost
certificate balancer localhost
cat balancer.crt balancer.key >balancer.pem

for name in seal mysql_root mysql_node mysql_read mysql_migrate_password mysql_replication redis_password \
	nats_password_alpha nats_password_beta nats_password_route grafana_password; do
	password "$name"
done

# Where the source is may have changed since: a failover is not taken back by a new certificate.
have mysql_source || echo "lockstep:$(<mysql_node)@tcp(mysql-source:3306)/lockstep" >mysql_source
have mysql_replicas || echo "lockstep_read:$(<mysql_read)@tcp(mysql-replica:3306)/lockstep" >mysql_replicas
have mysql_migrate || echo "lockstep_migrate:$(<mysql_migrate_password)@tcp(mysql-source:3306)/lockstep" >mysql_migrate
echo "requirepass $(<redis_password)" >redis_password.conf
for user in alpha beta route; do echo "$user: \"$(<nats_password_$user)\""; done >nats_passwords.conf
route=$(<nats_password_route)
for number in 1 2 3; do echo "\"nats-route://route:$route@nats-$number:6222\""; done | paste -sd, | sed 's/.*/routes: [&]/' >nats_routes.conf
