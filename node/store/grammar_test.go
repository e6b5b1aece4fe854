package store_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pingcap/tidb/pkg/parser"
	sqlast "github.com/pingcap/tidb/pkg/parser/ast"
	_ "github.com/pingcap/tidb/pkg/parser/test_driver" // the literals of parsed statements
)

// Only MariaDB is run here. That the same statements are MySQL 8.4's is checked by their grammar alone: every statement
// that the sources can send is built from them, parsed, and held against what that parser wrongly accepts.
//
// Fewer than these were found once: then the search has become blind. More is fine.
const (
	statementsMin = 120
	migrationsMin = 31
)

func TestEveryStatementIsMySQLs(t *testing.T) {
	t.Parallel()
	grammar := newGrammar(t)
	program := readSources(t, "../../node", "../../api")
	statements := program.statements(t, "mySQL", "mariaDB")
	for _, s := range statements {
		if err := grammar.check(s.text); err != nil {
			t.Errorf("%s: MySQL refuses %v\n%s", s.place, err, s.text)
		}
	}
	distinct := map[string]bool{}
	for _, s := range statements {
		distinct[s.text] = true
	}
	program.forgotten(t, "mariaDB")
	grammar.unusedNames(t)
	if len(distinct) < statementsMin {
		t.Errorf("%d statements were found in the sources, at least %d are known", len(distinct), statementsMin)
	}
	t.Logf("%d statements parsed", len(distinct))
}

func TestEveryMigrationIsMySQLs(t *testing.T) {
	t.Parallel()
	grammar := newGrammar(t)
	files, err := filepath.Glob("migrations/*.sql")
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(overlaid(t, file))
		must(t, err)
		if err := grammar.check(string(text)); err != nil {
			t.Errorf("%s: MySQL refuses %v", file, err)
		}
	}
	if len(files) < migrationsMin {
		t.Errorf("%d migrations were found, at least %d are known", len(files), migrationsMin)
	}
}

// What MySQL 8.4 does not understand is refused, most of it though the parser takes it.
func TestOtherServersGrammarIsRefused(t *testing.T) {
	t.Parallel()
	grammar := newGrammar(t)
	refused := []string{
		"CREATE SEQUENCE serials", "SELECT NEXTVAL(serials)", "SELECT NEXT VALUE FOR serials", "SELECT LASTVAL(serials)",
		"SELECT id FROM lanes FOR UPDATE WAIT 3", "INSERT INTO lanes (node) VALUES (1) RETURNING node",
		"DELETE FROM lanes WHERE node = 1 RETURNING node", "SELECT MASTER_GTID_WAIT(?, ?)", "SELECT @@last_gtid",
		"SELECT @@GLOBAL.gtid_binlog_pos", "SHOW ALL SLAVES STATUS", "SHOW SLAVE STATUS", "SHOW MASTER STATUS", "STOP SLAVE", "RESET SLAVE ALL",
		"SET max_statement_time = 5", "SET tx_isolation = 'READ-COMMITTED'", "SET idle_transaction_timeout = 5",
		"SELECT id FROM system", "SELECT system.id FROM `system`", "SELECT rank FROM lanes", "SELECT lateral FROM lanes",
		"SELECT groups FROM lanes", "SELECT parallel FROM lanes", "SELECT 1 AS manual", "SELECT qualify FROM lanes",
		"CREATE INDEX IF NOT EXISTS i ON lanes (batch)", "ALTER TABLE lanes ADD COLUMN IF NOT EXISTS n INT",
		"ALTER TABLE lanes DROP COLUMN IF EXISTS n", "ALTER TABLE lanes ADD INDEX IF NOT EXISTS i (batch)",
		"CREATE OR REPLACE TABLE t (id INT)", "CREATE TABLE t (id BIGINT AUTO_RANDOM, PRIMARY KEY (id))",
		"CREATE TABLE t (id BIGINT, PRIMARY KEY (id) CLUSTERED)", "CREATE TABLE t (id UUID)", "CREATE TABLE t (id INET6)",
		"SELECT id FROM accounts AS OF TIMESTAMP NOW()", "BEGIN OPTIMISTIC", "SPLIT TABLE lanes BETWEEN (0) AND (9) REGIONS 2",
		"SELECT 1; SELECT 2", "SELECT NVL(a, b) FROM lanes", "FLASHBACK TABLE lanes", "SELECT id FROM lanes LIMIT 5 ROWS EXAMINED 9",
		"CHANGE MASTER TO MASTER_HOST='h'", "SET STATEMENT max_statement_time=1 FOR SELECT 1", "",
	}
	for _, text := range refused {
		if grammar.check(text) == nil {
			t.Errorf("accepted: %s", text)
		}
	}
	for _, text := range []string{
		"SELECT id FROM `system`", "SELECT batch FROM lanes ORDER BY node FOR UPDATE SKIP LOCKED", "SELECT 'system', \"it's system\"",
	} {
		if err := grammar.check(text); err != nil {
			t.Errorf("MySQL's own %s is refused: %v", text, err)
		}
	}
	const differing = 12 // nine statements and three variables
	found := map[string]bool{}
	for _, s := range readSources(t, "../../node").statements(t, "mariaDB", "mySQL") {
		if grammar.check(s.text) != nil {
			found[s.text] = true
		}
	}
	if len(found) != differing {
		t.Errorf("of what is sent to MariaDB these are not MySQL's, wanted %d: %q", differing, slices.Sorted(maps.Keys(found)))
	}
}

// grammar accepts what MySQL 8.4 does, as far as this program uses it.
type grammar struct {
	parser   *parser.Parser
	reserved map[string]bool // words that MySQL reserves and the parser takes for names
	used     map[string]bool // functions and variables
}

// mysqlNames are the functions and the variables that statements may use. The parser takes any.
const mysqlNames = `char_func coalesce concat convert count date_add date_sub find_in_set get_lock greatest if left length lpad max min release_lock
	replace sha2 substring substring_index sum timestampdiff unhex unix_timestamp utc_timestamp version
	wait_for_executed_gtid_set
	@@autocommit @@gtid_executed @@innodb_flush_log_at_trx_commit @@innodb_lock_wait_timeout @@lock_wait_timeout
	@@max_execution_time @@max_heap_table_size @@net_write_timeout @@read_only @@sort_buffer_size @@sql_mode @@super_read_only @@sync_binlog @@time_zone
	@@tmp_table_size @@transaction_isolation @@wait_timeout`

// mysqlReserved are the words that MySQL 8.4 reserves.
const mysqlReserved = `accessible add all alter analyze and as asc asensitive before between bigint binary blob both by
	call cascade case change char character check collate column condition constraint continue convert create cross cube
	cume_dist current_date current_time current_timestamp current_user cursor database databases day_hour day_microsecond
	day_minute day_second dec decimal declare default delayed delete dense_rank desc describe deterministic distinct
	distinctrow div double drop dual each else elseif empty enclosed escaped except exists exit explain false fetch
	first_value float float4 float8 for force foreign from fulltext function generated get grant group grouping groups
	having high_priority hour_microsecond hour_minute hour_second if ignore in index infile inner inout insensitive insert
	int int1 int2 int3 int4 int8 integer intersect interval into io_after_gtids io_before_gtids is iterate join json_table
	key keys kill lag last_value lateral lead leading leave left like limit linear lines load localtime localtimestamp lock
	long longblob longtext loop low_priority manual match maxvalue mediumblob mediumint mediumtext middleint
	minute_microsecond minute_second mod modifies natural not no_write_to_binlog nth_value ntile null numeric of on
	optimize optimizer_costs option optionally or order out outer outfile over parallel partition percent_rank precision
	primary procedure purge qualify range rank read reads read_write real recursive references regexp release rename repeat
	replace require resignal restrict return revoke right rlike row rows row_number schema schemas second_microsecond
	select sensitive separator set show signal smallint spatial specific sql sqlexception sqlstate sqlwarning
	sql_big_result sql_calc_found_rows sql_small_result ssl starting stored straight_join system table tablesample
	terminated then tinyblob tinyint tinytext to trailing trigger true undo union unique unlock unsigned update usage use
	using utc_date utc_time utc_timestamp values varbinary varchar varcharacter varying virtual when where while window
	with write xor year_month zerofill`

func newGrammar(tb testing.TB) *grammar {
	tb.Helper()
	g := &grammar{parser.New(), map[string]bool{}, map[string]bool{}}
	for _, word := range strings.Fields(mysqlReserved) {
		parsed, _, err := g.parser.ParseSQL("SELECT " + word + " FROM t")
		if err != nil || len(parsed) != 1 {
			continue
		}
		if _, name := parsed[0].(*sqlast.SelectStmt).Fields.Fields[0].Expr.(*sqlast.ColumnNameExpr); name {
			g.reserved[word] = true
		}
	}
	if !g.reserved["system"] {
		tb.Error("the parser reserves `system` now; what does this list find?")
	}
	return g
}

var (
	comments = regexp.MustCompile(`(?m)--.*$|/\*(?s:.*?)\*/`)
	quoted   = regexp.MustCompile("'(?:[^'\\\\]|''|\\\\.)*'|\"(?:[^\"\\\\]|\"\"|\\\\.)*\"|`[^`]*`")
	words    = regexp.MustCompile(`@{0,2}[a-z_][a-z0-9_]*`)
	foreign  = regexp.MustCompile(`\b(returning|wait \d|next value for|(slave|slaves|master) status|auto_random|clustered|nonclustered|` +
		`ttl|or replace table|rows examined|uuid|inet[46]|(column|index|key|constraint) if (not )?exists|as of)\b`)
)

// onPaper is how MySQL 8.4's manual controls replication, which the parser does not know.
var onPaper = []string{"START REPLICA SQL_THREAD", "STOP REPLICA IO_THREAD", "STOP REPLICA", "RESET REPLICA ALL"}

// check tells why MySQL would refuse the statement.
func (g *grammar) check(text string) error {
	if slices.Contains(onPaper, text) {
		return nil
	}
	parsed, warnings, err := g.parser.ParseSQL(text)
	switch {
	case err != nil:
		return err
	case len(parsed) != 1 || len(warnings) > 0:
		return fmt.Errorf("%d statements in one, with the warnings %v", len(parsed), warnings)
	}
	bare := strings.ToLower(quoted.ReplaceAllString(comments.ReplaceAllString(text, " "), " x "))
	bare = strings.Join(strings.Fields(bare), " ")
	if found := foreign.FindString(bare); found != "" {
		return fmt.Errorf("%q, which is not MySQL's", found)
	}
	for _, word := range words.FindAllString(bare, -1) {
		if g.reserved[word] {
			return fmt.Errorf("the reserved word %q without backticks", word)
		}
	}
	switch parsed[0].(type) {
	case *sqlast.SelectStmt, *sqlast.SetOprStmt, *sqlast.InsertStmt, *sqlast.UpdateStmt, *sqlast.DeleteStmt, *sqlast.DoStmt,
		*sqlast.SetStmt, *sqlast.ShowStmt, *sqlast.CommitStmt, *sqlast.RollbackStmt,
		*sqlast.CreateTableStmt, *sqlast.DropTableStmt, *sqlast.AlterTableStmt, *sqlast.CreateIndexStmt, *sqlast.TruncateTableStmt:
	default:
		return fmt.Errorf("a statement of the kind %T", parsed[0])
	}
	names := &namesIn{grammar: g}
	parsed[0].Accept(names)
	return names.unknown
}

// namesIn looks for functions and variables that MySQL does not have.
type namesIn struct {
	*grammar
	unknown error
}

func (n *namesIn) Enter(node sqlast.Node) (sqlast.Node, bool) {
	switch node := node.(type) {
	case *sqlast.FuncCallExpr:
		n.name(node.FnName.L)
	case *sqlast.AggregateFuncExpr:
		n.name(strings.ToLower(node.F))
	case *sqlast.WindowFuncExpr:
		n.name(strings.ToLower(node.Name))
	case *sqlast.VariableExpr:
		n.name("@@" + strings.ToLower(node.Name))
	case *sqlast.VariableAssignment:
		n.name("@@" + strings.ToLower(node.Name))
	}
	return node, false
}

func (n *namesIn) Leave(node sqlast.Node) (sqlast.Node, bool) { return node, true }

func (n *namesIn) name(name string) {
	n.used[name] = true
	if !slices.Contains(strings.Fields(mysqlNames), name) {
		n.unknown = fmt.Errorf("the name %s, which is not on the list of MySQL's", name)
	}
}

// unusedNames keeps the list of names to what is used.
func (g *grammar) unusedNames(tb testing.TB) {
	tb.Helper()
	for _, name := range strings.Fields(mysqlNames) {
		if !g.used[name] {
			tb.Errorf("no statement uses %s; take it off the list", name)
		}
	}
}
