package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/saga"
)

// The accounts that the simulation works on, in both systems alike. Further serials have none.
const (
	richSerial   ledger.AccountID = 1000
	poorSerial   ledger.AccountID = 1001
	dollarSerial ledger.AccountID = 1002
	frozenSerial ledger.AccountID = 1003
	noSerial     ledger.AccountID = 1004

	owner = "client:sim"
	won   = ledger.Currency("KRW")
)

// Fixture is what the systems have to begin with.
func Fixture(system string, capped bool) Rows {
	rows := Rows{Accounts: []ledger.Account{
		{ID: richSerial, Currency: won, Status: ledger.Open},
		{ID: poorSerial, Currency: won, Status: ledger.Open},
		{ID: dollarSerial, Currency: "USD", Status: ledger.Open},
		{ID: frozenSerial, Currency: won, Status: ledger.Frozen},
	}}
	for i := range rows.Accounts {
		rows.Accounts[i].Owner = owner
	}
	if capped && system == Beta {
		rows.Exposures = []ledger.Exposure{{ExposureKey: ledger.ExposureKey{Peer: Alpha, Currency: won}, Epoch: firstEpoch, Capped: true, Cap: 700}}
	}
	return rows
}

// heard is what a client was told in the end.
type heard int

const (
	nothing  heard = iota
	refused        // 404 or 422: nothing was held
	accepted       // 202: it is under way
	ended          // 201, 422 or 503
)

// client asks for one transfer to the other system, and asks again when nobody answers.
type client struct {
	party   *party
	remit   ledger.Remit
	held    bool
	heard   heard
	code    ledger.Code
	final   ledger.Remittance
	patient time.Time // until then it waits for the end
}

// begin lays out what happens in the simulation.
func (w *world) begin() error {
	for _, p := range w.parties {
		for _, account := range []ledger.AccountID{richSerial, poorSerial} {
			minor := 400 + 200*int64(frozenSerial-account)
			if w.Failover {
				minor *= 10 // a hold that was lost has to be made again
			}
			if err := p.deposit(account, minor); err != nil {
				return err
			}
		}
		if memory, is := p.system.(*Memory); is {
			memory.Replicated()
		}
		for _, n := range p.nodes {
			w.every(time.Second, n.goOnWithAny)
			w.every(2*time.Second, n.sweep)
			w.every(2*time.Second, n.refresh)
		}
	}
	for range 6 + w.random.IntN(8) {
		c := w.newClient()
		w.after(w.between(0, chaos*3/4), c.ask)
	}
	for range 6 {
		p := w.parties[w.random.IntN(2)]
		w.after(w.between(0, chaos), func() { p.inside() })
		w.after(w.between(0, chaos), func() { p.abortAny() })
	}
	if w.Failover {
		for range w.random.IntN(2) {
			p := w.parties[w.random.IntN(2)]
			w.after(w.between(0, chaos), p.failOver)
		}
	}
	return nil
}

// every repeats something about as often as that, as long as the simulation lasts.
func (w *world) every(pause time.Duration, do func()) {
	w.after(w.between(0, 2*pause), func() { do(); w.every(pause, do) })
}

// newID makes an id of the form that transfers have.
func (w *world) newID() ledger.TransferID {
	var bytes [16]byte
	binary.BigEndian.PutUint64(bytes[:], w.random.Uint64())
	binary.BigEndian.PutUint64(bytes[8:], w.random.Uint64())
	bytes[6], bytes[8] = bytes[6]&0x0f|0x70, bytes[8]&0x3f|0x80 // RFC 9562, version 7
	return ledger.TransferID(fmt.Sprintf("%x-%x-%x-%x-%x", bytes[0:4], bytes[4:6], bytes[6:8], bytes[8:10], bytes[10:16]))
}

func (p *party) number(serial ledger.AccountID) ledger.Number {
	return ledger.NewNumber(p.name, serial)
}

// deposit brings money into a system before anything goes wrong.
func (p *party) deposit(account ledger.AccountID, minor int64) error {
	_, refusal, err := p.system.Submit(ledger.Pay{
		ID: p.newID(), Actor: ledger.Actor{Principal: owner, Depositor: true}, Kind: ledger.Deposit, From: ledger.Cash,
		To: p.number(account), Amount: ledger.Money{Minor: minor, Currency: won},
	}, p.now, Commits)
	if refusal != nil {
		return refusal
	}
	return err
}

// inside moves money within the system, so that what is held and promised is not all that happens.
func (p *party) inside() {
	from, to := richSerial, poorSerial
	if p.chance(500) {
		from, to = to, from
	}
	pay := ledger.Pay{
		ID: p.newID(), Actor: ledger.Actor{Principal: owner}, Kind: ledger.Payment, From: p.number(from), To: p.number(to),
		Amount: ledger.Money{Minor: 1 + p.random.Int64N(150), Currency: won},
	}
	n := p.any()
	p.spawn(n, func(ctx context.Context) { _, _ = engine{n}.Submit(ctx, posting.Command{Operation: pay}) })
}

// newClient draws a transfer; some of them cannot succeed.
func (w *world) newClient() *client {
	p := w.parties[w.random.IntN(2)]
	draw := func(likely, other ledger.AccountID) ledger.AccountID {
		switch {
		case w.chance(800):
			return likely
		case w.chance(700):
			return other
		}
		return richSerial + ledger.AccountID(w.random.IntN(int(noSerial-richSerial)+1))
	}
	c := &client{party: p, remit: ledger.Remit{
		ID: w.newID(), Actor: ledger.Actor{Principal: owner}, Peer: ledger.Peer{System: p.peer.name, Settlement: settlement},
		From: p.number(draw(richSerial, poorSerial)), To: p.peer.number(draw(poorSerial, richSerial)),
		Amount: ledger.Money{Minor: 1 + w.random.Int64N(120), Currency: won}, Language: "en",
	}}
	w.clients = append(w.clients, c)
	return c
}

// ask holds the amount. A repeat looks first whether the first request has arrived: that is what its key is for.
func (c *client) ask() {
	p := c.party
	n := p.any()
	p.spawn(n, func(ctx context.Context) {
		found, err := books{n}.Remittances(ctx, c.remit.ID)
		_, there := found[c.remit.ID]
		switch {
		case err != nil:
			p.after(time.Second, c.ask)
		case there:
			c.wait(n)
		default:
			c.hold(ctx, n)
		}
	})
}

func (c *client) hold(ctx context.Context, n *node) {
	operation := c.remit
	operation.Epoch, operation.ExpiresIn, operation.LookAfter = n.desk.Terms()
	outcome, err := engine{n}.Submit(ctx, posting.Command{Operation: operation})
	switch {
	case err != nil, outcome.Refusal != nil && outcome.Refusal.Code == ledger.SourceUnavailable:
		c.party.after(time.Second, c.ask)
	case outcome.Refusal != nil:
		c.heard, c.code = refused, outcome.Refusal.Code
	default:
		c.wait(n)
	}
}

// wait goes on with the transfer and looks for its end until the client's patience ends.
func (c *client) wait(n *node) {
	w := c.party.world
	if !c.held {
		c.held = true
		c.patient = w.now.Add(w.between(0, 20*time.Second))
		w.after(time.Millisecond, func() { n.goOn(Saga{string(c.remit.ID), ledger.SagaRemit}) })
		w.after(time.Millisecond, c.look)
	}
}

const lookPause = 300 * time.Millisecond

// look reads how the transfer stands.
func (c *client) look() {
	found, err := c.party.system.Remittances(c.remit.ID)
	c.party.fail(err)
	r, there := found[c.remit.ID]
	switch {
	case there && r.Final():
		c.heard, c.final = ended, r
	case c.party.now.After(c.patient):
		c.heard = accepted
	default:
		c.party.after(lookPause, c.look)
	}
}

// abortAny is an operator who gives up some transfer that hangs.
func (p *party) abortAny() {
	var hanging []*client
	for _, c := range p.clients {
		if c.party == p && c.held && c.heard == nothing {
			hanging = append(hanging, c)
		}
	}
	if len(hanging) == 0 {
		return
	}
	c, n := hanging[p.random.IntN(len(hanging))], p.any()
	p.spawn(n, func(ctx context.Context) { _, _ = n.desk.Abort(ctx, c.remit.ID) })
}

// goOnWithAny is a saga runner that finds something to do. It may come earlier than a real one, and twice: leases only
// save work.
func (n *node) goOnWithAny() {
	list, err := n.party.system.Sagas()
	n.world.fail(err)
	if len(list) > 0 && (n.world.healed || n.world.chance(400)) {
		n.goOn(list[n.world.random.IntN(len(list))])
	}
}

// goOn hands a saga to its handler.
func (n *node) goOn(s Saga) {
	n.world.spawn(n, func(ctx context.Context) {
		handler := n.desk.Remitting
		if s.Kind == ledger.SagaAwait {
			handler = n.desk.Awaiting
		}
		if handler(ctx, saga.Saga{ID: s.ID, Kind: string(s.Kind)}) != saga.Done() {
			return // what is parked is gone on with as well: an operator resumes it
		}
		_ = outside(ctx, func(answer func(func())) {
			n.world.fail(n.party.system.EndSaga(s.ID))
			answer(func() {})
		})
	})
}

// sweep publishes one message of the outbox, and deletes it once the broker has it.
func (n *node) sweep() {
	list, err := n.party.system.Outbox()
	n.world.fail(err)
	if len(list) == 0 {
		return
	}
	n.publish(list[n.world.random.IntN(len(list))])
}

func (n *node) publish(message saga.Message) {
	n.world.spawn(n, func(ctx context.Context) {
		if n.hands.Publish(ctx, message) != nil {
			return
		}
		_ = outside(ctx, func(answer func(func())) {
			n.world.fail(n.party.system.Told(message.ID))
			answer(func() {})
		})
	})
}
