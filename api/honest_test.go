package api_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/api"
	"lockstep/cluster/local/servers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
	"lockstep/node/verify"
)

// patience bounds what a test waits for.
const patience = 30 * time.Second

// told is what an answer says of its request.
type told struct {
	status        int
	code, outcome string
}

func (a answer) told() told { return told{a.status, a.field("code"), a.field("outcome")} }

// What a payment may be told when its database is in trouble.
var (
	done     = told{201, "", ""}
	gaveUp   = told{503, "overloaded", "not_applied"}
	noSource = told{503, "source_unavailable", "not_applied"}
	failed   = told{500, "internal", "not_applied"}
	notKnown = told{504, "outcome_unknown", "unknown"}
)

// numbers are the errors of MariaDB and MySQL by what a caller is told when one comes before COMMIT again and again.
var numbers = map[told][]uint16{
	gaveUp: { // nobody is to blame: until the caller's deadline, when it hears `unknown` if a lane is at it
		1020, 1205, 1213,
	},
	noSource: { // it is the server's
		1021, 1037, 1038, 1040, 1041, 1042, 1043, 1044, 1045, 1049, 1053, 1077, 1079, 1129, 1130, 1142, 1146, 1152, 1158,
		1159, 1160, 1161, 1184, 1203, 1226, 1227, 1290, 1698, 1792, 1836, 1927, 3169, 4031,
	},
	failed: { // it is the command's
		1062, 1064, 1105, 1114, 1180, 1236, 1264, 1317, 1364, 1366, 1406, 1503, 1568, 1690, 1941, 1969, 3024, 3572, 3819,
		4025, 65535,
	},
}

// failures are the errors that come of no server, by the names that the classifier has for them, and what a caller is told
// when no connection can be made because of one.
var failures = map[string]struct {
	err  error
	told told
}{
	"driver.ErrBadConn":        {driver.ErrBadConn, noSource},
	"mysql.ErrInvalidConn":     {mysql.ErrInvalidConn, noSource},
	"mysql.ErrMalformPkt":      {mysql.ErrMalformPkt, noSource},
	"mysql.ErrPktSync":         {mysql.ErrPktSync, noSource},
	"mysql.ErrPktSyncMul":      {mysql.ErrPktSyncMul, noSource},
	"mysql.ErrBusyBuffer":      {mysql.ErrBusyBuffer, noSource},
	"sql.ErrConnDone":          {sql.ErrConnDone, noSource},
	"io.EOF":                   {io.EOF, noSource},
	"io.ErrUnexpectedEOF":      {io.ErrUnexpectedEOF, noSource},
	"net.ErrClosed":            {net.ErrClosed, noSource},
	"context.Canceled":         {context.Canceled, noSource},
	"context.DeadlineExceeded": {context.DeadlineExceeded, noSource},
	"net.Error":                {&net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}, noSource},
	"syscall.Errno":            {syscall.ECONNREFUSED, noSource},
	"mysql.ErrPktTooLarge":     {mysql.ErrPktTooLarge, failed},
	"any other":                {errors.New("an error that nobody knows"), failed},
}

// networks are the ways in which a connection ends or lies instead of an answer.
var networks = map[string]func(*wireConn){
	"reset":         withFailure(&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}),
	"end":           withFailure(io.EOF),
	"silence":       withFailure(&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}),
	"half a packet": func(c *wireConn) { c.reply, c.failure = []byte{9, 0, 0, 1, 0}, io.EOF },
	"an empty one":  withBytes([]byte{0, 0, 0, 1}),
	"out of order":  withBytes([]byte{7, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0}),
}

// classified reads from the store's source which numbers and errors it knows, so that a new one cannot be forgotten here.
func classified(tb testing.TB) (known []uint16, names []string) {
	tb.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../node/store/errors.go", nil, 0)
	if err != nil {
		tb.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if number, err := strconv.ParseUint(n.Value, 10, 16); err == nil && n.Kind == token.INT && number > 999 {
				known = append(known, uint16(number))
			}
		case *ast.RangeStmt: // the errors of a broken connection
			ast.Inspect(n.X, func(n ast.Node) bool { names = append(names, selected(n)...); return true })
		case *ast.ValueSpec: // the targets of errors.As
			names = append(names, selected(n.Type)...)
		}
		return true
	})
	names = slices.DeleteFunc(names, func(name string) bool { return name == "mysql.MySQLError" })
	if len(known) < 30 || len(names) < 10 {
		tb.Fatalf("found only %v and %v", known, names)
	}
	return known, names
}

// selected is the name `package.Name` when the node is one of an error or its type.
func selected(n ast.Node) []string {
	selector, ok := n.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	from, ok := selector.X.(*ast.Ident)
	if !ok {
		return nil
	}
	return []string{from.Name + "." + selector.Sel.Name}
}

// Every error that the classifier knows has its place in the tables above.
func TestEveryKnownErrorIsTriedOut(t *testing.T) {
	t.Parallel()
	known, names := classified(t)
	all := slices.Concat(slices.Collect(maps.Values(numbers))...)
	for _, number := range known {
		if !slices.Contains(all, number) {
			t.Errorf("the classifier knows error %d, and no test tries it out", number)
		}
	}
	for _, name := range names {
		if _, tried := failures[name]; !tried {
			t.Errorf("the classifier knows %s, and no test tries it out", name)
		}
	}
	slices.Sort(all)
	if len(slices.Compact(all)) != len(slices.Concat(slices.Collect(maps.Values(numbers))...)) {
		t.Error("a number is in two places")
	}
}

// books is a database of the test's own.
type books struct {
	testing.TB
	config   store.Config
	database servers.Database
	admin    *sql.DB // root
}

func newBooks(tb testing.TB) *books {
	tb.Helper()
	config, database := storetest.Database(tb)
	config.Replicas = nil
	return openBooks(tb, config, database)
}

func openBooks(tb testing.TB, config store.Config, database servers.Database) *books {
	tb.Helper()
	config.LockWaitMax, config.StatementMax, config.ReadMax = time.Second, 2*time.Second, 4*time.Second
	parsed, err := mysql.ParseDSN(database.Admin)
	if err != nil {
		tb.Fatal(err)
	}
	parsed.Logger = &mysql.NopLogger{} // servers that end are no news here
	connector, err := mysql.NewConnector(parsed)
	if err != nil {
		tb.Fatal(err)
	}
	admin := sql.OpenDB(connector)
	tb.Cleanup(func() { _ = admin.Close() })
	return &books{TB: tb, config: config, database: database, admin: admin}
}

// exec runs statements as root.
func (b *books) exec(statements ...string) {
	b.Helper()
	for _, statement := range statements {
		if _, err := b.admin.Exec(statement); err != nil {
			b.Fatalf("%s: %v", statement, err)
		}
	}
}

// number asks for one integer by SQL.
func (b *books) number(query string, args ...any) (n int64) {
	b.Helper()
	if err := b.admin.QueryRow(query, args...).Scan(&n); err != nil {
		b.Fatalf("%s: %v", query, err)
	}
	return n
}

// verify requires that every invariant of the books holds.
func (b *books) verify() {
	b.Helper()
	report, err := verify.Run(context.Background(), b.database.Admin, nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, breach := range report.Breaches {
		b.Errorf("breach of %s at %s: %s", breach.Invariant, breach.Place, breach.Detail)
	}
}

// office is a node on the books: the real engine behind the real edge, and a wire between engine and database.
type office struct {
	*books
	*edge
	wire    *wire
	store   *store.Store
	account ledger.Number
	fault   atomic.Pointer[func(point string) error]
	paid    int64 // what the account must have
}

func (b *books) office() *office {
	b.Helper()
	o := &office{books: b, wire: newWire(b, "wire-"+uuid.NewString())}
	config := b.config
	config.Source = o.wire.through(config.Source)
	o.store = storetest.OpenWith(b, config)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	lease, err := o.store.LeaseNode(ctx, "127.0.0.1:0", "test", 1)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = lease.Close() })
	engine := posting.DefaultConfig()
	engine.Fault = func(point string) error {
		if fault := o.fault.Load(); fault != nil {
			return (*fault)(point)
		}
		return nil
	}
	identity := posting.Identity{Node: lease.ID, Incarnation: lease.Incarnation}
	opened, err := posting.Open(ctx, engine, o.store, nil, identity, prometheus.NewRegistry(), storetest.Logger(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		o.wire.heal()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := opened.Close(ctx); err != nil {
			b.Error(err)
		}
	})
	o.edge = newEdge(b, func(d *api.Deps) { d.Engine, d.Store, d.Now = opened, api.Over(o.store), o.store.Now })
	o.account = ledger.Number(o.edge.post(b, "alice", "/v1/accounts", `{"currency":"KRW"}`).expect(b, 201, "").field("number"))
	o.pays("the first payment", o.payment(), done) // it makes the lane's stripe
	return o
}

// payment is a deposit of 7 under a key of its own, which is its reference as well.
type payment struct{ key, body string }

func (o *office) payment() payment {
	key := uuid.NewString()
	return payment{key, fmt.Sprintf(`{"account":%q,"amount":"7","currency":"KRW","reference":%q}`, o.account, key)}
}

// ask sends a payment and waits for as long as the client does.
func (o *office) ask(p payment) answer {
	o.Helper()
	return o.askFor(p, 8)
}

// hurry sends a payment and waits for as short as can be.
func (o *office) hurry(p payment) answer {
	o.Helper()
	return o.askFor(p, 1)
}

func (o *office) askFor(p payment, seconds int) answer {
	o.Helper()
	return o.do(o, "POST", "/v1/deposits", p.body, as("alice", p.key, "Prefer", fmt.Sprintf("wait=%d", seconds))...)
}

// pays asks for a payment, in haste when it will not be known soon, and holds what it is told against what is wanted and
// against the books.
func (o *office) pays(name string, p payment, wanted ...told) told {
	o.Helper()
	ask := o.ask
	if slices.Contains(wanted, notKnown) {
		ask = o.hurry
	}
	return o.holds(name, p, ask(p), wanted...)
}

// holds ends all trouble and requires that an answer was true. Not applied: nothing has moved, the key is free, and the
// payment can be made under it. Applied: once, and the repeat says the same. Unknown: the repeat makes it definite.
func (o *office) holds(name string, p payment, first answer, wanted ...told) told {
	o.Helper()
	o.wire.heal()
	if !slices.Contains(wanted, first.told()) {
		o.Errorf("%s: a caller is told %v, want one of %v", name, first, wanted)
	}
	transfers := func() int64 { return o.number("SELECT COUNT(*) FROM transfers WHERE reference = ?", p.key) }
	claims := func() int64 { return o.number("SELECT COUNT(*) FROM idempotency WHERE idem_key = ?", p.key) }
	outcome := first.told().outcome
	if outcome == "not_applied" && (transfers() != 0 || claims() != 0) {
		o.Errorf("%s: told not_applied, but there are %d transfers and %d claims", name, transfers(), claims())
	}
	again, vague := o.ask(p), outcome == "unknown"
	for deadline := time.Now().Add(patience); again.status != 201 && time.Now().Before(deadline); again = o.ask(p) {
		if again.field("outcome") == "unknown" {
			vague = true
		} else if again.field("retry") != "later" {
			break
		}
		time.Sleep(20 * time.Millisecond) // what retries later
	}
	replayed := again.header.Get("Idempotency-Replayed") == "true"
	switch {
	case again.status != 201:
		o.Errorf("%s: after %v the repeat is told %v", name, first, again)
	case first.status == 201 && (!replayed || string(again.body) != string(first.body)):
		o.Errorf("%s: the repeat of %v is %v, replayed %t", name, first, again, replayed)
	case replayed && first.status != 201 && !vague:
		o.Errorf("%s: told not_applied, but the repeat finds it applied: %v", name, first)
	}
	o.paid += 7
	if posted := o.number("SELECT posted FROM accounts WHERE id = ?", o.account.Serial()); transfers() != 1 || posted != o.paid {
		o.Errorf("%s: after %v and its repeat there are %d transfers of it, and the account has %d, not %d", name, first, transfers(), posted, o.paid)
		o.paid = posted
	}
	return first.told()
}

// tally counts what callers were told.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *tally) add(situation string, what told) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[fmt.Sprintf("%s: %d %s", situation, what.status, what.code)]++
}

// offices gives each case to one of several nodes on the same books, which work side by side.
func offices[T any](t *testing.T, cases []T, try func(o *office, tally *tally, one T)) {
	t.Helper()
	const nodes = 16
	b, count := newBooks(t), &tally{counts: map[string]int{}}
	queue := make(chan T, len(cases))
	for _, one := range cases {
		queue <- one
	}
	close(queue)
	var all sync.WaitGroup
	for range min(nodes, len(cases)) {
		o := b.office()
		all.Go(func() {
			for one := range queue {
				try(o, count, one)
			}
		})
	}
	all.Wait()
	b.verify()
	for _, line := range slices.Sorted(maps.Keys(count.counts)) {
		t.Logf("%3d times %s", count.counts[line], line)
	}
}

// Every error number of a server is sent to a node in the database's own protocol, before COMMIT and at it, with its work
// done and not done: whatever the caller is told is so.
func TestEveryErrorNumberIsToldTruly(t *testing.T) {
	t.Parallel()
	type numbered struct {
		number uint16
		told   told
	}
	var cases []numbered
	for told, list := range numbers {
		for _, number := range list {
			cases = append(cases, numbered{number, told})
		}
	}
	slices.SortFunc(cases, func(a, b numbered) int { return int(a.number) - int(b.number) })
	offices(t, cases, func(o *office, tally *tally, one numbered) {
		once := []told{done} // the lane tries again
		always := []told{one.told}
		switch one.told {
		case failed:
			once = []told{done, failed}
		case gaveUp:
			always = append(always, notKnown)
		}
		reply := withError(one.number)
		unreachable := func() { o.wire.cut(syscall.ECONNREFUSED) }
		for _, s := range []struct {
			name    string
			trouble trouble
			wanted  []told
		}{
			{"once before COMMIT", trouble{words: lastWrite, arrives: true, reply: reply, once: true}, once},
			{"always before COMMIT", trouble{words: lastWrite, arrives: true, reply: reply}, always},
			{"in place of COMMIT", trouble{words: endOfIt, reply: reply, once: true}, []told{done}},
			{"for a COMMIT that succeeded", trouble{words: endOfIt, arrives: true, reply: reply, once: true}, []told{done}},
			{"and then no server", trouble{words: endOfIt, arrives: one.number%2 == 0, reply: reply, once: true, after: unreachable}, []told{notKnown}},
		} {
			o.meets(tally, fmt.Sprintf("error %d", one.number), s.name, s.trouble, s.wanted...)
		}
	})
	t.Logf("%d numbers were injected: %v", len(cases), slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Values(numbers))...))))
}

// meets makes one payment in trouble.
func (o *office) meets(tally *tally, what, situation string, trouble trouble, wanted ...told) {
	o.Helper()
	made := o.wire.made()
	o.wire.make(trouble)
	tally.add(situation, o.pays(what+" "+situation, o.payment(), wanted...))
	if o.wire.made() == made {
		o.Errorf("%s %s: nothing happened", what, situation)
	}
}

// A connection that ends or lies before COMMIT or at it is another's to blame, and no caller is told a lie about it.
func TestEveryBrokenConnectionIsToldTruly(t *testing.T) {
	t.Parallel()
	offices(t, slices.Sorted(maps.Keys(networks)), func(o *office, tally *tally, name string) {
		reply := networks[name]
		o.meets(tally, name, "once before COMMIT", trouble{words: lastWrite, arrives: true, reply: reply, once: true}, done)
		o.meets(tally, name, "always before COMMIT", trouble{words: lastWrite, arrives: true, reply: reply}, noSource)
		o.meets(tally, name, "in place of COMMIT", trouble{words: endOfIt, reply: reply, once: true}, done)
		o.meets(tally, name, "for a COMMIT that succeeded", trouble{words: endOfIt, arrives: true, reply: reply, once: true}, done)
	})
}

// Every error of the driver, of Go's network and of a context: no connection can be made because of it, or it is all that
// is known of a COMMIT, before which it came or after which.
func TestEveryDriverErrorIsToldTruly(t *testing.T) {
	t.Parallel()
	offices(t, slices.Sorted(maps.Keys(failures)), func(o *office, tally *tally, name string) {
		failure := failures[name]
		o.wire.cut(failure.err)
		tally.add("no connection", o.pays(name+" for each connection", o.payment(), failure.told))
		for _, point := range []string{"before_commit", "after_commit"} {
			reached := 0
			lose := func(at string) error {
				if at != point || reached > 0 {
					return nil
				}
				reached++
				return failure.err
			}
			o.fault.Store(&lose)
			tally.add(point, o.pays(name+" "+point, o.payment(), done))
			o.fault.Store(nil)
			if reached != 1 {
				o.Errorf("%s %s: nothing happened", name, point)
			}
		}
	})
}
