package servers_test

import (
	"bufio"
	"database/sql"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lockstep/cluster/local/process"
	"lockstep/cluster/local/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func exec1(t *testing.T, dsn, statement string) error {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.ExecContext(t.Context(), statement)
	return err
}

func exists(t *testing.T, s *servers.Servers, database string) bool {
	t.Helper()
	db, err := sql.Open("mysql", s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int
	if err := db.QueryRowContext(t.Context(),
		"SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name=?", database).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n == 1
}

func TestAllUsersGetTheSameServers(t *testing.T) {
	t.Parallel()
	var got [4]*servers.Servers
	var asking sync.WaitGroup
	for i := range got {
		asking.Go(func() { got[i] = servers.Shared(t) })
	}
	asking.Wait()
	for _, s := range got[1:] {
		if s.SourceAddr != got[0].SourceAddr || s.ReplicaAddr != got[0].ReplicaAddr {
			t.Errorf("two sets of servers: %s and %s", s.SourceAddr, got[0].SourceAddr)
		}
	}
	for _, address := range append([]string{got[0].SourceAddr, got[0].ReplicaAddr}, got[0].RedisAddrs...) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Error(err)
			continue
		}
		_ = conn.Close()
	}
	if len(got[0].RedisAddrs) != 3 {
		t.Errorf("%d Redis servers", len(got[0].RedisAddrs))
	}
}

func TestADatabaseHasProductionsAccounts(t *testing.T) {
	t.Parallel()
	db := servers.Shared(t).Database(t)
	for _, try := range []struct {
		account, dsn, statement string
		allowed                 bool
	}{
		{"lockstep_migrate", db.Migrate, "CREATE TABLE a (id INT PRIMARY KEY)", true},
		{"lockstep_migrate", db.Migrate, "CREATE TABLE mysql.a (id INT)", false},
		{"lockstep", db.Source, "INSERT INTO a VALUES (1)", true},
		{"lockstep", db.Source, "UPDATE a SET id=2", true},
		{"lockstep", db.Source, "DELETE FROM a", true},
		{"lockstep", db.Source, "ALTER TABLE a ADD b INT", false},
		{"lockstep", db.Source, "DROP TABLE a", false},
		{"lockstep_read", db.Replica, "SHOW REPLICA STATUS", true},
		{"lockstep_read", db.Replica, "INSERT INTO a VALUES (1)", false},
		{"lockstep_read", db.Replica, "SET GLOBAL read_only=0", false},
	} {
		if err := exec1(t, try.dsn, try.statement); (err == nil) != try.allowed {
			t.Errorf("%s: %s: %v", try.account, try.statement, err)
		}
	}
}

// judged is a test whose verdict and end this test decides.
type judged struct {
	testing.TB
	failed bool
	end    []func()
}

func (j *judged) Failed() bool     { return j.failed }
func (j *judged) Cleanup(f func()) { j.end = append(j.end, f) }

func TestADatabaseIsDroppedIfItsTestPassedAndKeptIfItFailed(t *testing.T) {
	t.Parallel()
	s := servers.Shared(t)
	for _, failed := range []bool{false, true} {
		test := &judged{TB: t, failed: failed}
		db := s.Database(test)
		if !exists(t, s, db.Name) {
			t.Fatalf("there is no database %s", db.Name)
		}
		for _, f := range test.end {
			f()
		}
		if exists(t, s, db.Name) != failed {
			t.Errorf("the database of a test that failed=%v exists=%v", failed, !failed)
		}
		if failed {
			if err := exec1(t, s.Admin, "DROP DATABASE "+db.Name); err != nil {
				t.Error(err)
			}
		}
	}
}

// keeper runs a keeper in the place and returns it with its output.
func keeper(t *testing.T, place servers.Place, idle string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	program := filepath.Join(string(place), "keeper")
	if out, err := exec.Command("go", "build", "-o", program, "./keeper").CombinedOutput(); err != nil {
		t.Fatalf("build the keeper: %v\n%s", err, out)
	}
	cmd := exec.Command(program, "run", string(place), idle)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = place.Stop() })
	said := bufio.NewScanner(stdout)
	if !said.Scan() || said.Text() != servers.Ready {
		t.Fatalf("the keeper says %q", said.Text())
	}
	return cmd, said
}

func source(t *testing.T, place servers.Place) string {
	t.Helper()
	text, err := os.ReadFile(place.State())
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), `"source_addr": "`)
	address, _, _ := strings.Cut(rest, `"`)
	return address
}

func TestServersThatNobodyUsesEndByThemselves(t *testing.T) {
	t.Parallel()
	place := servers.Place(t.TempDir())
	cmd, _ := keeper(t, place, "500ms")
	address := source(t, place)
	if err := cmd.Wait(); err != nil { // it ends: nobody asked it to
		t.Fatalf("the keeper ended with %v", err)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("its servers still listen")
	}
	if _, err := os.Stat(place.State()); err == nil {
		t.Error("their state file is still there")
	}
}

func TestServersInUseStayAndStopEndsThem(t *testing.T) {
	t.Parallel()
	const idle = 300 * time.Millisecond
	place := servers.Place(t.TempDir())
	users, err := process.LockShared(place.Users())
	if err != nil {
		t.Fatal(err)
	}
	defer users.Close()
	cmd, said := keeper(t, place, idle.String())
	address := source(t, place)
	for end := time.Now().Add(5 * idle); time.Now().Before(end); time.Sleep(idle / 10) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal("servers in use have ended")
		}
		_ = conn.Close()
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }() // or it stays as a zombie, which is ours to reap
	if found, err := place.Stop(); !found || err != nil {
		t.Errorf("Stop: %v, %v", found, err)
	}
	<-ended
	if said.Scan() {
		t.Errorf("the keeper says %q", said.Text())
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("its servers still listen")
	}
}
