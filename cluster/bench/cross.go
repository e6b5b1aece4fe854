package bench

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"

	"lockstep/cluster/local"
	"lockstep/node/verify"
)

// crossing moves money from an account of this bank to one of the other system's.
func crossing(b *bank, random *rand.Rand, buffer []byte) ([]byte, int) {
	from := random.IntN(len(b.numbers))
	return b.appendPost(buffer, b.heads[from%principals], "/v1/transfers", `{"from":"`, b.numbers[from], `","to":"`,
		b.abroad[random.IntN(len(b.abroad))], `","amount":"1","currency":"`+currency+`"}`), statusCreated
}

// compareCross holds transfers between two systems against those inside one, on the same cluster. A transfer between
// systems is three transactions in two databases, and both systems share the machine.
func compareCross(ctx context.Context, e *env) error {
	s, err := e.open(ctx, func(o *local.Options) { o.Systems = local.SystemNames(2) })
	if err != nil {
		return err
	}
	defer s.close()
	payees := s.Credentials().Systems[1]
	e.say("making accounts in %s", payees.ID)
	abroad, err := openBank(ctx, payees)
	if err != nil {
		return err
	}
	s.bank.abroad = abroad.numbers
	for _, conns := range []int{manyConns, 2 * manyConns} {
		if err := s.crossAt(ctx, conns); err != nil {
			return err
		}
	}
	if err := s.judgeRequests(ctx); err != nil {
		return err
	}
	alone, err := s.measure(ctx, load{name: "between two systems, one client", conns: 1, request: crossing})
	if err != nil {
		return err
	}
	s.record(alone.load())
	s.figure("between two systems, one client, p50", milliseconds(alone.quantile(0.5)), "ms", atMost(25))
	return s.settled(ctx, payees)
}

// crossRounds of half the usual length, by turns: what else the machine does changes within a minute, and should weigh on both.
const crossRounds = 4

// crossAt compares with as many callers: a transfer between two systems takes longer, and the more of them there are, the more share
// a signature and a COMMIT.
func (s *stage) crossAt(ctx context.Context, conns int) error {
	var inside, across []result
	for range crossRounds {
		for _, side := range []struct {
			load load
			into *[]result
		}{
			{load{name: "inside one system", conns: conns, request: uniform, duration: s.duration / 2}, &inside},
			{load{name: "between two systems", conns: conns, request: crossing, duration: s.duration / 2}, &across},
		} {
			r, err := s.measure(ctx, side.load)
			if err != nil {
				return err
			}
			*side.into = append(*side.into, r)
		}
	}
	in, between := join(inside...), join(across...)
	s.record(in.load())
	s.record(between.load())
	s.figure(fmt.Sprintf("between two systems / inside one, %d connections", conns), between.perSecond()/in.perSecond(), "", atLeast(0.3))
	for _, r := range []result{in, between} {
		s.say("%s, processor time per transfer in us: %s", r.name, r.used.per(len(r.samples)))
	}
	s.figure(fmt.Sprintf("processor time of a transfer inside one system / between two, %d connections", conns),
		perTransfer(in.used.total(), len(in.samples))/perTransfer(between.used.total(), len(between.samples)), "")
	return nil
}

// judgeRequests tells how many prepares shared a signed request.
func (s *stage) judgeRequests(ctx context.Context) error {
	var requests, prepares float64
	for node := range s.system.AdminURLs {
		count, err := s.metric(ctx, node, "lockstep_peer_prepares_per_request_count")
		if err != nil {
			return err
		}
		sum, err := s.metric(ctx, node, "lockstep_peer_prepares_per_request_sum")
		if err != nil {
			return err
		}
		requests, prepares = requests+count, prepares+sum
	}
	s.figure("prepares in one signed request, mean", prepares/requests, "transfers")
	return nil
}

// settled waits until the payees' system has booked all that was decided, and checks its books.
func (s *stage) settled(ctx context.Context, payees local.SystemCredentials) error {
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	db, err := sql.Open("mysql", payees.MySQLSourceDSN+sqlParams)
	if err != nil {
		return fmt.Errorf("open the other system's source: %w", err)
	}
	defer db.Close()
	booked := func() (bool, error) {
		var open int
		err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM remittances WHERE state = 'pending'").Scan(&open)
		return open == 0, err
	}
	if err := await(ctx, booked); err != nil {
		return fmt.Errorf("wait for the other system to book what it was paid: %w", err)
	}
	report, err := verify.Run(ctx, payees.MySQLSourceDSN, nil)
	if err != nil {
		return err
	}
	if !report.OK() {
		return fmt.Errorf("%w in %s", verify.ErrBreach, payees.ID)
	}
	return nil
}
