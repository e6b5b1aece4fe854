package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/node/ledger"
	"lockstep/saga"
)

// A transfer between two systems ends within its first attempt, as a rule, and then its remittance is all the record that
// there is. Its saga gets a row in the log only when somebody has to look after it. What begins in one batch and is to be looked
// after at one time shares a row of remittance_looks until then: to keep the time in each remittance, in an index, cost four
// changes of that index per transfer.
//
// A pending remittance that has its room and no look_at waits for its look; look_at is loggedMark once its saga has a row. What
// earlier releases began has no room, a look_at while it waits, and none once its saga has a row. Either way a remittance waits
// if the two columns are not both empty or both filled.
const (
	waits      = `state = 'pending' AND (look_at IS NULL) <> (room IS NULL)`
	loggedNow  = `(r.look_at IS NULL) = (r.room IS NULL)`
	loggedMark = `'9999-12-31 00:00:00'`
)

// Which open remittances of earlier releases are taken over into the log of sagas.
const (
	openDue = `look_at <= UTC_TIMESTAMP(6) AND room IS NULL ORDER BY look_at LIMIT ? FOR UPDATE SKIP LOCKED`
	openAll = `look_at < ` + loggedMark + ` AND room IS NULL ORDER BY look_at LIMIT ? FOR UPDATE SKIP LOCKED`
	openOne = `id = ? AND look_at IS NOT NULL AND room IS NULL FOR UPDATE`
)

// Which looks are taken at once.
const (
	looksDue = `FORCE INDEX (remittance_looks_due) WHERE look_at <= UTC_TIMESTAMP(6) ORDER BY look_at LIMIT ? FOR UPDATE SKIP LOCKED`
	looksAll = `FORCE INDEX (remittance_looks_due) ORDER BY look_at LIMIT ? FOR UPDATE SKIP LOCKED`
	looksOne = `WHERE FIND_IN_SET(?, remittances) FOR UPDATE`
)

// openColumns are those of a saga that is about to begin; the times are how long it has to wait, and since when it is there.
const openColumns = `id, payer_system, GREATEST(0, COALESCE(TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), look_at), 0)),
	TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6))`

// insertLooks queues when somebody has to look after remittances that begin. The row's id is that of one of them.
func insertLooks(tx *Tx, begun []ledger.Remittance, after map[ledger.TransferID]time.Duration) {
	var order []time.Time
	at := map[time.Time][]string{}
	for _, r := range begun {
		if wait, starts := after[r.ID]; starts {
			look := r.CreatedAt.Add(wait)
			if len(at[look]) == 0 {
				order = append(order, look)
			}
			at[look] = append(at[look], string(r.ID))
		}
	}
	var looks bulk
	for _, look := range order {
		looks.row(at[look][0], look, strings.Join(at[look], ","))
	}
	looks.queue(tx, `INSERT INTO remittance_looks (id, look_at, remittances)`, "")
}

// LogDueSagas gives open remittances that somebody has to look after a saga's row, at most about limit of them, and counts them.
// Rows in others' hands are left for the next time.
func (s *Store) LogDueSagas(ctx context.Context, limit int) (int, error) {
	return s.logBoth(ctx, looksDue, "FORCE INDEX (remittances_open) WHERE "+openDue, limit)
}

// LogOpenSagas does so with open remittances that nobody has to look after yet, for an operator to see.
func (s *Store) LogOpenSagas(ctx context.Context, limit int) (int, error) {
	return s.logBoth(ctx, looksAll, "FORCE INDEX (remittances_open) WHERE "+openAll, limit)
}

// LogSaga does so with one remittance, if it is open.
func (s *Store) LogSaga(ctx context.Context, id string) (int, error) {
	logged, _, err := s.logLooks(ctx, looksOne, id, 1, id)
	if err != nil || logged > 0 {
		return logged, err
	}
	return s.logSagas(ctx, "FORCE INDEX (PRIMARY) WHERE "+openOne, id)
}

func (s *Store) logBoth(ctx context.Context, looks, earlier string, limit int) (int, error) {
	total, err := s.logSagas(ctx, earlier, limit)
	for more := true; more && total < limit && err == nil; {
		var logged int
		logged, more, err = s.logLooks(ctx, looks, looksMax, limit-total, "")
		total += logged
	}
	return total, err
}

// looksMax is how many looks one transaction takes; each names what one batch began.
const looksMax = 128

// look is a row of remittance_looks in hand.
type look struct {
	id   string
	wait time.Duration // until it is due
	ids  []string
}

// logLooks takes looks, and gives at most limit of their remittances that have not ended a saga's row, or only one. It tells
// whether there may be more to do at once.
func (s *Store) logLooks(ctx context.Context, which string, arg any, limit int, only string) (logged int, more bool, err error) {
	tx, err := s.Begin(ctx)
	if err != nil {
		return 0, false, fmt.Errorf("log sagas: %w", err)
	}
	defer tx.Rollback()
	looks, err := takeLooks(ctx, tx, which, arg)
	if err != nil || len(looks) == 0 {
		return 0, false, err
	}
	logged, kept, err := logThrough(ctx, tx, looks, limit, only)
	if err != nil {
		return 0, false, fmt.Errorf("log sagas: %w", err)
	}
	if _, err := tx.Flush(ctx); err != nil {
		return 0, false, fmt.Errorf("log sagas: %w", err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		return 0, false, fmt.Errorf("log sagas: %w", err)
	}
	return logged, len(looks) == looksMax && kept == 0, nil
}

func takeLooks(ctx context.Context, tx *Tx, which string, arg any) (looks []look, err error) {
	err = tx.Query(ctx, func(rows *sql.Rows) error {
		var l look
		var wait int64
		var ids string
		err := rows.Scan(&l.id, &wait, &ids)
		l.wait, l.ids = microseconds(wait), strings.Split(ids, ",")
		looks = append(looks, l)
		return err
	}, `SELECT id, GREATEST(0, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), look_at)), remittances FROM remittance_looks `+which, arg)
	if err != nil {
		return nil, fmt.Errorf("take looks at remittances: %w", err)
	}
	return looks, nil
}

// logThrough queues the sagas of those remittances that wait, and what becomes of the looks: one stays for what is in somebody's
// hands, for who has it may not end it.
func logThrough(ctx context.Context, tx *Tx, looks []look, limit int, only string) (logged, kept int, err error) {
	var ids []string
	due := map[string]time.Duration{}
	for _, l := range looks {
		ids = append(ids, l.ids...)
		for _, id := range l.ids {
			due[id] = l.wait
		}
	}
	waiting := map[string]bool{}
	err = eachWaiting(ctx, tx, ids, func(rows *sql.Rows) error {
		var id string
		var age int64
		err := rows.Scan(&id, &age)
		waiting[id] = true
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	var wanted []any
	for _, id := range ids {
		if waiting[id] && len(wanted) < limit && (only == "" || only == id) {
			wanted = append(wanted, id)
		}
	}
	if len(wanted) > 0 {
		lock := ` ORDER BY id FOR UPDATE SKIP LOCKED`
		if only != "" {
			lock = ` ORDER BY id FOR UPDATE`
		}
		sagas, free, err := openSagas(ctx, tx, tx.store.System(), `FORCE INDEX (PRIMARY) WHERE id IN (`+marks(len(wanted))+`) AND `+waits+lock, wanted...)
		if err != nil {
			return 0, 0, err
		}
		for i, id := range free {
			sagas[i].Delay = due[id.(string)]
			delete(waiting, id.(string))
		}
		startSagas(tx, sagas, free, loggedMark)
		logged = len(free)
	}
	return logged, putBack(tx, looks, waiting), nil
}

// putBack queues that looks go, or stay for what still waits, and counts those that stay.
func putBack(tx *Tx, looks []look, waiting map[string]bool) (kept int) {
	var done []any
	for _, l := range looks {
		rest := slices.DeleteFunc(slices.Clone(l.ids), func(id string) bool { return !waiting[id] })
		if len(rest) == 0 {
			done = append(done, l.id)
			continue
		}
		kept++
		if len(rest) < len(l.ids) {
			tx.queue(`UPDATE remittance_looks SET remittances = ? WHERE id = ?`, strings.Join(rest, ","), l.id)
		}
	}
	if len(done) > 0 {
		tx.queue(`DELETE FROM remittance_looks WHERE id IN (`+marks(len(done))+`)`, done...)
	}
	return kept
}

// stretch is a part of a list of ids: all of a short time, if ids begin with their time (UUIDv7), and then nearly all that there is
// between the first and the last; or else any.
type stretch struct {
	ids  []string // sorted
	near bool
}

const (
	stretchMax  = 10 * time.Second
	stretchIDs  = 500 // of one that is a list
	stretchFrom = 8   // ids: fewer are a list
)

// stretches divides ids so that few statements find them all.
func stretches(ids []string) (parts []stretch) {
	for _, id := range slices.Sorted(slices.Values(ids)) {
		last := len(parts) - 1
		began, timed := timeOf(id)
		if last >= 0 {
			p := &parts[last]
			if first, _ := timeOf(p.ids[0]); p.near && timed && began-first <= stretchMax || !p.near && !timed && len(p.ids) < stretchIDs {
				p.ids = append(p.ids, id)
				continue
			}
		}
		parts = append(parts, stretch{[]string{id}, timed})
	}
	return parts
}

// timeOf is when a UUID of version 7 was made; false for another.
func timeOf(id string) (time.Duration, bool) {
	const version = 14 // its place
	if len(id) != len("00000000-0000-7000-8000-000000000000") || id[version] != '7' {
		return 0, false
	}
	ms, err := strconv.ParseInt(id[:8]+id[9:13], 16, 64)
	return time.Duration(ms) * time.Millisecond, err == nil
}

// eachWaiting scans id and age, in microseconds, of the remittances that wait, among others perhaps.
func eachWaiting(ctx context.Context, tx *Tx, ids []string, scan func(*sql.Rows) error) (err error) {
	for _, part := range stretches(ids) {
		if part.near && len(part.ids) >= stretchFrom {
			err = tx.Query(ctx, scan, `SELECT id, TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)) FROM remittances FORCE INDEX (PRIMARY)
				WHERE id BETWEEN ? AND ? AND `+waits, part.ids[0], part.ids[len(part.ids)-1])
		} else {
			err = tx.Query(ctx, scan, `SELECT id, TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)) FROM remittances FORCE INDEX (PRIMARY)
				WHERE id IN (`+marks(len(part.ids))+`) AND `+waits, anys(part.ids)...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// openSagas locks remittances and makes sagas of them.
func openSagas(ctx context.Context, tx *Tx, system, which string, args ...any) (sagas []saga.New, ids []any, err error) {
	scan := func(rows *sql.Rows) error {
		var id, payer string
		var wait, age int64
		err := rows.Scan(&id, &payer, &wait, &age)
		kind := ledger.SagaAwait
		if payer == system {
			kind = ledger.SagaRemit
		}
		ids = append(ids, id)
		sagas = append(sagas, saga.New{ID: id, Kind: string(kind), Delay: microseconds(wait), Age: microseconds(age)})
		return err
	}
	return sagas, ids, tx.Query(ctx, scan, `SELECT `+openColumns+` FROM remittances `+which, args...)
}

// startSagas queues the sagas' rows, and the mark that they have one.
func startSagas(tx *Tx, sagas []saga.New, ids []any, mark string) {
	if len(ids) == 0 {
		return
	}
	start := saga.Start(sagas...)
	tx.Queue(start.Query, start.Args...)
	tx.queue(`UPDATE remittances FORCE INDEX (PRIMARY) SET look_at = `+mark+` WHERE id IN (`+marks(len(ids))+`)`, ids...)
}

// logSagas does so with remittances of earlier releases.
func (s *Store) logSagas(ctx context.Context, which string, args ...any) (int, error) {
	tx, err := s.Begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("log sagas: %w", err)
	}
	defer tx.Rollback()
	sagas, ids, err := openSagas(ctx, tx, s.System(), which, args...)
	if err != nil {
		return 0, fmt.Errorf("log sagas: %w", err)
	}
	if len(ids) == 0 {
		return 0, nil
	}
	startSagas(tx, sagas, ids, "NULL")
	if _, err := tx.Flush(ctx); err != nil {
		return 0, fmt.Errorf("log sagas: %w", err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		return 0, fmt.Errorf("log sagas: %w", err)
	}
	return len(ids), nil
}

func microseconds(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// CountOpen counts open remittances whose saga has no row, and tells the age of the oldest.
func (s *Store) CountOpen(ctx context.Context) (count int, oldest time.Duration, err error) {
	tx, err := s.Begin(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("count open remittances: %w", err)
	}
	defer tx.Rollback()
	var ids []string
	err = tx.Query(ctx, func(rows *sql.Rows) error {
		var named string
		err := rows.Scan(&named)
		ids = append(ids, strings.Split(named, ",")...)
		return err
	}, `SELECT remittances FROM remittance_looks`)
	if err != nil {
		return 0, 0, fmt.Errorf("count open remittances: %w", err)
	}
	waiting := map[string]bool{}
	scan := func(rows *sql.Rows) error {
		var id string
		var age int64
		err := rows.Scan(&id, &age)
		waiting[id], oldest = true, max(oldest, microseconds(age))
		return err
	}
	err = tx.Query(ctx, scan, `SELECT id, TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)) FROM remittances FORCE INDEX (remittances_open)
		WHERE look_at < `+loggedMark+` AND `+waits)
	if err == nil {
		err = eachWaiting(ctx, tx, ids, scan)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("count open remittances: %w", err)
	}
	return len(waiting), oldest, nil
}

// EndedRemittances reads at most limit of the remittances that were posted or voided, the newest first by id, which begins
// with its time. Tombstones are none: nothing began.
func (q *Queries) EndedRemittances(ctx context.Context, limit int) ([]ledger.Remittance, error) {
	list, err := collect(ctx, q.conn, scanRemittance, remittanceRead+` WHERE r.state IN ('posted', 'voided') AND t.id IS NOT NULL ORDER BY r.id DESC LIMIT ?`, page(limit))
	if err != nil {
		return nil, fmt.Errorf("list ended remittances: %w", err)
	}
	return list, nil
}
