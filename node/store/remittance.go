package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lockstep/node/ledger"
)

// The statements of a batch that are about transfers between systems.

const remittanceColumns = `r.id, r.payer_system, r.payee_system, r.state, r.payer_epoch, r.payee_epoch, r.expires_at, r.failure,
	r.language, r.request_id, r.created_at, r.finished_at, r.credited_at, COALESCE(r.origin, '')`

// statedColumn is the word that a credit rests on. Credits of earlier releases have it in their own row.
const statedColumn = `COALESCE(w.statement, r.statement, '')`

// movedColumns are those of the transfer that a remittance moves; a tombstone has none.
const movedColumns = `t.id, t.kind, t.state, t.from_number, t.to_number, t.payer_id, t.payee_id, t.amount, t.currency, t.description,
	t.reference, t.created_at, t.finished_at`

const remittanceFrom = ` FROM remittances r FORCE INDEX (PRIMARY) LEFT JOIN transfers t FORCE INDEX (PRIMARY) ON t.id = r.id AND t.payer_system = r.payer_system`

// remittanceRead reads whole remittances. Whoever locks them needs no statements: nothing is decided by an old one.
const remittanceRead = `SELECT ` + remittanceColumns + `, ` + movedColumns + `, ` + statedColumn + remittanceFrom +
	` LEFT JOIN remittance_statements w FORCE INDEX (PRIMARY) ON w.id = r.id`

// Remotes are the rows that steps between systems need beside accounts.
type Remotes struct {
	Standing    Standing
	Exposures   []ledger.Exposure
	Remittances []ledger.Remittance
	Logged      map[ledger.TransferID]bool // remittances whose saga may have a row in the log
}

// LockRemotes locks exposures by their keys and then remittances by their ids, with the transfers that they move; both must be
// sorted, and exposures were made before. Remittances without a row are left out: to insert one of them waits for whoever
// inserts the same, and RowRaced tells that it was second. Those of held were read before, or are of interest only for how they
// stand (nil): of them only what changes is read, unless they have ended meanwhile.
func LockRemotes(ctx context.Context, tx *Tx, keys []ledger.ExposureKey, ids []ledger.TransferID, held map[ledger.TransferID]*ledger.Remittance) (r Remotes, err error) {
	r.Logged = map[ledger.TransferID]bool{}
	askStanding(tx, &r.Standing)
	askExposures(tx, keys, &r.Exposures)
	askRemittances(tx, ids, &r)
	var ended []ledger.TransferID
	askHeld(tx, held, &r, &ended)
	if err = tx.Answers(ctx); err == nil && len(ended) > 0 {
		askRemittances(tx, ended, &r)
		err = tx.Answers(ctx)
	}
	if err != nil {
		return r, fmt.Errorf("lock exposures and remittances: %w", err)
	}
	return r, nil
}

// askHeld locks remittances of which the rest is known. Two batches cannot wait for one another's although these come behind the
// others, for the exposures that both lock first keep them apart.
func askHeld(tx *Tx, held map[ledger.TransferID]*ledger.Remittance, r *Remotes, ended *[]ledger.TransferID) {
	if len(held) == 0 {
		return
	}
	ids := slices.Sorted(maps.Keys(held))
	tx.ask(`SELECT r.id, r.payer_system, r.payee_system, r.state, r.payer_epoch, r.payee_epoch, r.finished_at, r.credited_at, `+loggedNow+`
		FROM remittances r FORCE INDEX (PRIMARY) WHERE r.id IN (`+marks(len(ids))+`) ORDER BY r.id FOR UPDATE`, func(rows *sql.Rows) error {
		var now ledger.Remittance
		var finished, credited sql.NullTime
		var logged bool
		err := rows.Scan(&now.ID, &now.Payer, &now.Payee, &now.State, &now.PayerEpoch, &now.PayeeEpoch, &finished, &credited, &logged)
		now.FinishedAt, now.CreditedAt = finished.Time, credited.Time
		if known := held[now.ID]; known != nil {
			if now.Final() || known.Final() {
				*ended = append(*ended, now.ID)
				return err
			}
			whole := *known
			whole.State, whole.PayerEpoch, whole.PayeeEpoch = now.State, now.PayerEpoch, now.PayeeEpoch
			now = whole
		}
		r.Remittances, r.Logged[now.ID] = append(r.Remittances, now), logged
		return err
	}, anys(ids)...)
}

func askRemittances(tx *Tx, ids []ledger.TransferID, r *Remotes) {
	if len(ids) == 0 {
		return
	}
	tx.ask(`SELECT `+remittanceColumns+`, `+movedColumns+`, `+loggedNow+remittanceFrom+
		` WHERE r.id IN (`+marks(len(ids))+`) ORDER BY r.id FOR UPDATE`, func(rows *sql.Rows) error {
		var logged bool
		remittance, err := scanRemittanceAnd(rows, &logged)
		r.Remittances = append(r.Remittances, remittance)
		r.Logged[remittance.ID] = logged
		return err
	}, anys(ids)...)
}

// RowRaced tells whether another transaction inserted a row first that was not there when it was looked for: the batch is
// run again and finds it.
func RowRaced(err error) bool { return is(err, errorDuplicate) }

// scanRemittance scans what remittanceRead reads.
func scanRemittance(rows *sql.Rows) (ledger.Remittance, error) {
	var statement string
	r, err := scanRemittanceAnd(rows, &statement)
	r.Statement = statement
	return r, err
}

// scanRemittanceAnd scans the columns of a remittance and its transfer, and those that follow.
func scanRemittanceAnd(rows *sql.Rows, more ...any) (ledger.Remittance, error) {
	var r ledger.Remittance
	var finished, credited, movedAt, movedEnd sql.NullTime
	var id, kind, state, from, to, currency, description, reference sql.NullString
	var payer, payee, amount sql.NullInt64
	err := rows.Scan(append([]any{
		&r.ID, &r.Payer, &r.Payee, &r.State, &r.PayerEpoch, &r.PayeeEpoch, &r.ExpiresAt, &r.Failure, &r.Language,
		&r.RequestID, &r.CreatedAt, &finished, &credited, &r.Origin,
		&id, &kind, &state, &from, &to, &payer, &payee, &amount, &currency, &description, &reference, &movedAt, &movedEnd,
	}, more...)...)
	r.FinishedAt, r.CreditedAt = finished.Time, credited.Time
	if id.Valid {
		r.Transfer = &ledger.Transfer{
			ID: r.ID, Kind: ledger.Kind(kind.String), State: ledger.State(state.String), From: ledger.Number(from.String),
			To: ledger.Number(to.String), PayerID: ledger.AccountID(payer.Int64), PayeeID: ledger.AccountID(payee.Int64),
			Amount:      ledger.Money{Minor: amount.Int64, Currency: ledger.Currency(currency.String)},
			Description: description.String, Reference: reference.String, CreatedAt: movedAt.Time, FinishedAt: movedEnd.Time,
		}
	}
	return r, err
}

// Remittances reads remittances by id; ids without a row are not in the result.
func (q *Queries) Remittances(ctx context.Context, ids []ledger.TransferID) (map[ledger.TransferID]ledger.Remittance, error) {
	found := make(map[ledger.TransferID]ledger.Remittance, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	list, err := collect(ctx, q.conn, scanRemittance,
		remittanceRead+` WHERE r.id IN (`+marks(len(ids))+`)`, anys(ids)...)
	if err != nil {
		return nil, fmt.Errorf("read remittances: %w", err)
	}
	for _, remittance := range list {
		found[remittance.ID] = remittance
	}
	return found, nil
}

// RemittancesBetween lists remittances that one system pays to another, in order of their ids, from the one after the last
// of the page before.
func (q *Queries) RemittancesBetween(ctx context.Context, payer, payee string, after ledger.TransferID, limit int) ([]ledger.Remittance, error) {
	list, err := collect(ctx, q.conn, scanRemittance, remittanceRead+` WHERE r.payer_system = ? AND r.payee_system = ? AND r.id > ? ORDER BY r.id LIMIT ?`, payer, payee, after, page(limit))
	if err != nil {
		return nil, fmt.Errorf("list remittances: %w", err)
	}
	return list, nil
}

// RemittancesDigest stands for what one system pays to another and has not given up: at most limit remittances with ids above
// after, up to until if that is given.
func (q *Queries) RemittancesDigest(ctx context.Context, payer, payee string, after, until ledger.TransferID, limit int) (*ledger.Digest, error) {
	const behindAll = "~" // ids are of hexadecimal digits
	digest := ledger.NewDigest()
	_, err := collect(ctx, q.conn, func(rows *sql.Rows) (none struct{}, err error) {
		var id ledger.TransferID
		var state ledger.State
		var from, to ledger.Number
		var amount ledger.Money
		if err = rows.Scan(&id, &state, &from, &to, &amount.Minor, &amount.Currency); err == nil {
			digest.Add(id, state, from, to, amount)
		}
		return none, err
	}, `SELECT r.id, r.state, t.from_number, t.to_number, t.amount, t.currency `+remittanceFrom+`
		WHERE r.payer_system = ? AND r.payee_system = ? AND r.state IN (?, ?) AND r.id > ? AND r.id <= ? ORDER BY r.id LIMIT ?`,
		payer, payee, ledger.Pending, ledger.Posted, after, cmp.Or(until, behindAll), limit)
	if err != nil {
		return nil, fmt.Errorf("digest remittances: %w", err)
	}
	return digest, nil
}

// InsideIDs tells which of the ids transfers inside this system have: those without a remittance, in one state of both.
func (q *Queries) InsideIDs(ctx context.Context, ids []ledger.TransferID) (map[ledger.TransferID]bool, error) {
	list, err := collect(ctx, q.conn, func(rows *sql.Rows) (id ledger.TransferID, err error) {
		err = rows.Scan(&id)
		return id, err
	}, `SELECT t.id FROM transfers t LEFT JOIN remittances r ON r.id = t.id
		WHERE r.id IS NULL AND t.payer_system = ? AND t.id IN (`+marks(len(ids))+`)`, append([]any{q.system}, anys(ids)...)...)
	if err != nil {
		return nil, fmt.Errorf("look for transfers: %w", err)
	}
	found := make(map[ledger.TransferID]bool, len(list))
	for _, id := range list {
		found[id] = true
	}
	return found, nil
}

// InsertRemittances queues new remittances with the transfers that they move, and when somebody has to look after them: by
// then they have ended, as a rule, and their saga never needed a row.
func InsertRemittances(tx *Tx, remittances []ledger.Remittance, sagas ...ledger.SagaStart) {
	var rows, moved, stated bulk
	after := make(map[ledger.TransferID]time.Duration, len(sagas))
	for _, start := range sagas {
		after[start.ID] = start.After
	}
	for _, r := range remittances {
		rows.row(r.ID, r.Payer, r.Payee, r.State, r.PayerEpoch, r.PayeeEpoch, r.ExpiresAt, r.Failure, r.Language, r.RequestID,
			r.CreatedAt, ending(r.FinishedAt), ending(r.CreditedAt), party(r.Account(tx.store.System())), nullable(r.Origin),
			roomFor(!r.Final(), roomToEnd))
		if t := r.Transfer; t != nil {
			moved.row(t.ID, r.Payer, t.Kind, t.State, t.From, t.To, party(t.PayerID), party(t.PayeeID), t.Amount.Minor, t.Amount.Currency,
				t.Description, t.Reference, nil, t.CreatedAt, ending(t.FinishedAt), roomFor(!r.Final(), roomToMove))
		}
		stated.statement(r)
	}
	rows.queue(tx, `INSERT INTO remittances (id, payer_system, payee_system, state, payer_epoch, payee_epoch, expires_at, failure,
		language, request_id, created_at, finished_at, credited_at, account_id, origin, room)`, "")
	moved.queue(tx, `INSERT INTO transfers (id, payer_system, kind, state, from_number, to_number, payer_id, payee_id,
		amount, currency, description, reference, hold_id, created_at, finished_at, room)`, "")
	stated.queue(tx, insertStatements, "")
	insertLooks(tx, remittances, after)
}

// A row that grows has to move within its page, and as a page is full of such rows, the server packs it anew again and again
// and logs it whole: that cost more than all else of a transfer. So a row is made as large as it will be, and gives its
// room away as its columns are filled.
const (
	roomToEnd    = 24 // bytes of the end's time, and of that of the credit or of a failure
	roomToMove   = 16 // of a transfer's end and of its other account
	roomToCredit = 8  // of the time when a peer has credited
)

func roomFor(more bool, size int) sql.NullString {
	return sql.NullString{String: strings.Repeat("-", size), Valid: more}
}

const insertStatements = `INSERT INTO remittance_statements (id, statement)`

// statement adds the row of the word that a credit rests on, if the remittance has one.
func (b *bulk) statement(r ledger.Remittance) {
	if r.Statement != "" {
		b.row(r.ID, r.Statement)
	}
}

// UpdateRemittances queues remittances that the transaction has locked, with their transfers. What a batch decides, it decides
// alike and at one time, so that a statement says once what changes, and then only ids: that costs the server half of an
// upsert of whole rows. But each credit rests on a word of its own, which gets a row of its own, too, and makes no other grow.
func UpdateRemittances(tx *Tx, remittances []ledger.Remittance) {
	var stated bulk
	var rows alike[remittanceEnd]
	var moved alike[transferEnd]
	for _, r := range remittances {
		stated.statement(r)
		credit := r.Payer == tx.store.System() && r.State == ledger.Posted && r.CreditedAt.IsZero()
		rows.add(remittanceEnd{r.State, r.PayerEpoch, r.PayeeEpoch, r.Failure, r.FinishedAt, r.CreditedAt, credit}, r.ID)
		if t := r.Transfer; t != nil {
			moved.add(transferEnd{r.Payer, t.State, t.FinishedAt, stripe(t.PayerID), stripe(t.PayeeID)}, r.ID)
		}
	}
	rows.queueEach(tx, `UPDATE remittances FORCE INDEX (PRIMARY) SET state = ?, payer_epoch = ?, payee_epoch = ?, failure = ?,
		finished_at = ?, credited_at = ?, room = ?, look_at = NULL WHERE `, remittanceEnd.args)
	moved.queueEach(tx, `UPDATE transfers FORCE INDEX (PRIMARY) SET state = ?, finished_at = ?, payer_id = COALESCE(?, payer_id),
		payee_id = COALESCE(?, payee_id), room = NULL WHERE payer_system = ? AND `, transferEnd.args)
	stated.queue(tx, insertStatements, "")
}

// NoteCredits queues when remittances that the transaction has locked were credited; nothing else of them has changed.
func NoteCredits(tx *Tx, remittances []ledger.Remittance) {
	var rows alike[time.Time]
	for _, r := range remittances {
		rows.add(r.CreditedAt, r.ID)
	}
	rows.queueEach(tx, `UPDATE remittances FORCE INDEX (PRIMARY) SET credited_at = ?, room = NULL WHERE `, func(at time.Time) []any { return []any{at} })
}

// remittanceEnd is what the end of a remittance changes in its row.
type remittanceEnd struct {
	state                  ledger.State
	payerEpoch, payeeEpoch int64
	failure                ledger.Code
	finishedAt, creditedAt time.Time
	awaitsCredit           bool
}

func (e remittanceEnd) args() []any {
	return []any{
		e.state, e.payerEpoch, e.payeeEpoch, e.failure, ending(e.finishedAt), ending(e.creditedAt), roomFor(e.awaitsCredit, roomToCredit),
	}
}

// transferEnd is what the end of a remittance changes in its transfer. Its accounts stay, but what moves with a system account
// at one end names the stripe that was taken.
type transferEnd struct {
	payerSystem  string
	state        ledger.State
	finishedAt   time.Time
	payer, payee ledger.AccountID // stripes; 0 changes nothing
}

func (e transferEnd) args() []any {
	return []any{e.state, ending(e.finishedAt), party(e.payer), party(e.payee), e.payerSystem}
}

// stripe is the account if it is one, else 0.
func stripe(id ledger.AccountID) ledger.AccountID {
	if system, _ := ledger.StripeOf(id); system == 0 {
		return 0
	}
	return id
}

// alike gathers rows by what is said of them, in the order in which they come.
type alike[E comparable] struct {
	order []E
	ids   map[E][]any
}

func (a *alike[E]) add(said E, id ledger.TransferID) {
	if a.ids == nil {
		a.ids = map[E][]any{}
	}
	if _, there := a.ids[said]; !there {
		a.order = append(a.order, said)
	}
	a.ids[said] = append(a.ids[said], id)
}

// queueEach queues an update for each thing that is said, over the list of its rows.
func (a *alike[E]) queueEach(tx *Tx, update string, args func(E) []any) {
	for _, said := range a.order {
		ids := a.ids[said]
		tx.queue(update+"id IN ("+marks(len(ids))+")", append(args(said), ids...)...)
	}
}

// ending is a time that may not have come.
func ending(at time.Time) sql.NullTime { return sql.NullTime{Time: at, Valid: !at.IsZero()} }

// party is an account that a transfer has or, while it is pending between two systems, has not yet.
func party(id ledger.AccountID) sql.NullInt64 { return sql.NullInt64{Int64: int64(id), Valid: id != 0} }

func askExposures(tx *Tx, keys []ledger.ExposureKey, found *[]ledger.Exposure) {
	if len(keys) == 0 {
		return
	}
	var peers []string
	for _, key := range keys {
		peers = append(peers, key.Peer)
	}
	peers = slices.Compact(peers)
	tx.ask(`SELECT `+exposureColumns+` FROM exposures FORCE INDEX (PRIMARY) WHERE peer IN (`+marks(len(peers))+
		`) ORDER BY peer, currency FOR UPDATE`, func(rows *sql.Rows) error {
		exposure, err := scanExposure(rows)
		*found = append(*found, exposure)
		return err
	}, anys(peers)...)
}

const exposureColumns = `peer, currency, epoch, cap, reserved, credited, posted, settled`

func scanExposure(rows *sql.Rows) (ledger.Exposure, error) {
	var e ledger.Exposure
	var limit sql.NullInt64
	err := rows.Scan(&e.Peer, &e.Currency, &e.Epoch, &limit, &e.Reserved, &e.Credited, &e.Posted, &e.Settled)
	e.Capped, e.Cap = limit.Valid, limit.Int64
	return e, err
}

// UpdateExposures queues exposures that the transaction has locked.
func UpdateExposures(tx *Tx, exposures []ledger.Exposure) {
	var values bulk
	for _, e := range exposures {
		values.row(e.Peer, e.Currency, e.Epoch, sql.NullInt64{Int64: e.Cap, Valid: e.Capped}, e.Reserved, e.Credited, e.Posted, e.Settled)
	}
	values.queue(tx, `INSERT INTO exposures (peer, currency, epoch, cap, reserved, credited, posted, settled)`,
		` ON DUPLICATE KEY UPDATE reserved = VALUES(reserved), credited = VALUES(credited), posted = VALUES(posted), settled = VALUES(settled)`)
}

// MakeExposure makes the exposure to a peer in a currency, in a short transaction of its own, with the peer's epoch as it
// is known; made again it changes nothing. It waits
// for a raise of the peer's epoch that is under way, which would not see the new row.
func (s *Store) MakeExposure(ctx context.Context, key ledger.ExposureKey) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return fmt.Errorf("make exposure: %w", err)
	}
	defer tx.Rollback()
	_, err = tx.Exec(ctx, `INSERT INTO exposures (peer, currency, epoch, cap, reserved, credited, posted, settled)
		SELECT id, ?, epoch, NULL, 0, 0, 0, 0 FROM peers WHERE id = ? LOCK IN SHARE MODE
		ON DUPLICATE KEY UPDATE reserved = exposures.reserved`, key.Currency, key.Peer)
	if err != nil {
		return fmt.Errorf("make exposure: %w", err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("make exposure: %w", err)
	}
	return nil
}
