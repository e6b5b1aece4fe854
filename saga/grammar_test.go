package saga_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"testing"

	"github.com/pingcap/tidb/pkg/parser"
	_ "github.com/pingcap/tidb/pkg/parser/test_driver" // the literals of parsed statements
	"go.uber.org/goleak"

	"lockstep/saga"
)

// Only MariaDB is run here. That MySQL 8.4 takes the same statements is checked by grammar: all that the tests sent is
// parsed when they are over. Fewer statements than these mean that the recording has become blind; more is fine.
const statementsMin = 25

func TestMain(m *testing.M) { goleak.VerifyTestMain(grammatical{m}) }

type grammatical struct{ *testing.M }

// Run fails the tests for a statement that is not MySQL's too.
func (g grammatical) Run() int {
	code := g.M.Run()
	seen := 0
	statements.Range(func(key, _ any) bool {
		seen++
		if err := check(key.(string)); err != nil {
			fmt.Fprintf(os.Stderr, "MySQL refuses: %v\n%s\n", err, key)
			code = 1
		}
		return true
	})
	if whole := flag.Lookup("test.run").Value.String() == ""; whole && seen < statementsMin && !testing.Short() {
		fmt.Fprintf(os.Stderr, "only %d statements were recorded\n", seen)
		code = 1
	}
	return code
}

// foreign is what the parser takes though MySQL does not.
var foreign = regexp.MustCompile(`(?i)\b(returning\b|wait \d|nextval\b|clustered\b|now\()`)

func check(statement string) error {
	if found := foreign.FindString(statement); found != "" {
		return fmt.Errorf("%q is not MySQL's, or not the time that is compared", found)
	}
	parsed, warnings, err := parser.New().ParseSQL(statement)
	if err == nil && (len(parsed) != 1 || len(warnings) > 0) {
		err = fmt.Errorf("%d statements in one, with the warnings %v", len(parsed), warnings)
	}
	return err
}

func TestEveryMigrationIsMySQLsAndOneStatement(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(saga.Migrations(), "*.sql")
	must(t, err)
	if len(names) != 4 {
		t.Errorf("%d migrations are embedded", len(names))
	}
	for _, name := range names {
		text, err := fs.ReadFile(saga.Migrations(), name)
		must(t, err)
		if err := check(string(text)); err != nil {
			t.Errorf("%s: MySQL refuses %v", name, err)
		}
	}
}

func TestOtherServersGrammarIsRefused(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{
		"DELETE FROM sagas WHERE id = 1 RETURNING id", "SELECT id FROM sagas FOR UPDATE WAIT 3", "SELECT NOW()", "SELECT 1; SELECT 2", "nonsense",
	} {
		if check(statement) == nil {
			t.Errorf("accepted: %s", statement)
		}
	}
}
