package servers_test

import (
	"database/sql"
	"testing"

	"lockstep/cluster/local/servers"
)

func TestX(t *testing.T) {
	s := servers.Shared(t)
	t.Logf("%+v", s)
	d := s.Database(t)
	db, _ := sql.Open("mysql", d.Migrate)
	defer db.Close()
	_, err := db.Exec("create table a (b int primary key)")
	t.Log(err)
}
