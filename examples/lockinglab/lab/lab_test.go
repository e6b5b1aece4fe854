package lab_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"lockstep/examples/lockinglab/lab"
)

// memory is a way of one mutex, with a fault if a test wants one.
type memory struct {
	mu    sync.Mutex
	books lab.Books
	fault func(m *memory, move lab.Move) (handled bool, err error)
	tries int
}

func (m *memory) Reset(_ context.Context, accounts int, balance int64) error {
	m.books = lab.Books{Balances: map[int]int64{}, Applied: map[int][]int64{}}
	for account := 1; account <= accounts; account++ {
		m.books.Balances[account] = balance
	}
	return nil
}

func (m *memory) Try(_ context.Context, move lab.Move) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tries++
	if m.fault != nil {
		if handled, err := m.fault(m, move); handled {
			return err
		}
	}
	if m.books.Balances[move.Payer] < move.Amount {
		return lab.ErrRefused
	}
	m.change(move, move.Payer, -move.Amount)
	if move.Payee != lab.Nobody {
		m.change(move, move.Payee, move.Amount)
	}
	return nil
}

func (m *memory) change(move lab.Move, account int, by int64) {
	m.books.Balances[account] += by
	m.books.Applied[account] = append(m.books.Applied[account], move.Ticket)
}

func (m *memory) Books(context.Context) (lab.Books, error) { return m.books, nil }

func uses(count int) lab.Load {
	return lab.Load{
		Name: "uses", Workers: 4, Count: count, Accounts: 1, Balance: 1000, Amount: 100,
		Pick: func(int64) (int, int) { return 1, lab.Nobody },
	}
}

func transfers(workers int) lab.Load {
	return lab.Load{
		Name: "transfers", Workers: workers, Count: 20, Accounts: 2, Balance: 1000, Amount: 10,
		Pick: func(ticket int64) (int, int) { return 1 + int(ticket%2), 2 - int(ticket%2) },
	}
}

func run(t *testing.T, load lab.Load, way lab.Way) lab.Result {
	t.Helper()
	result, err := load.Run(t.Context(), way, lab.Fixed(3, time.Microsecond))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// What was granted is in the books, and what was not is refused.
func TestAWayWithoutFaultIsCorrect(t *testing.T) {
	t.Parallel()
	result := run(t, uses(25), &memory{})
	if !result.Correct() || !result.InOrder() || result.Done != 10 || result.Refused != 15 {
		t.Errorf("25 uses of 100 from 1000 came to %+v", result)
	}
	if result.PerSecond <= 0 || result.P99 < result.P50 {
		t.Errorf("its figures are %v a second, p50 %v, p99 %v", result.PerSecond, result.P50, result.P99)
	}
}

// An update that was answered with success and overwritten is counted.
func TestLostUpdatesAreCounted(t *testing.T) {
	t.Parallel()
	result := run(t, uses(5), &memory{fault: func(m *memory, move lab.Move) (bool, error) {
		if move.Ticket > 2 {
			return false, nil
		}
		m.change(move, move.Payer, 0)
		return true, nil
	}})
	if result.Correct() || result.Lost != 2 || result.Made != 200 || result.Done != 5 {
		t.Errorf("two of five updates were lost, and the result is %+v", result)
	}
}

// A success that the books do not have, and one that nobody was told of, are both wrong even when balances agree.
func TestMovesThatNobodyWasToldOfAreCounted(t *testing.T) {
	t.Parallel()
	result := run(t, uses(5), &memory{fault: func(m *memory, move lab.Move) (bool, error) {
		if move.Ticket != 3 {
			return false, nil
		}
		move.Ticket = 99
		m.change(move, move.Payer, -move.Amount)
		return true, nil
	}})
	if result.Correct() || result.Unsaid != 2 || result.Lost != 0 {
		t.Errorf("a move under another ticket gave %+v", result)
	}
}

// A move whose outcome nobody knows may have happened or not; that it happened by half is wrong.
func TestHalvesOfUnknownMovesAreCounted(t *testing.T) {
	t.Parallel()
	way := &memory{fault: func(m *memory, move lab.Move) (bool, error) {
		switch move.Ticket {
		case 4:
			m.change(move, move.Payee, move.Amount) // a credit, and no debit
		case 5:
			m.change(move, move.Payee, move.Amount)
			m.change(move, move.Payer, -move.Amount)
		case 6:
		default:
			return false, nil
		}
		return true, lab.ErrUnknown
	}}
	result := run(t, transfers(4), way)
	if result.Correct() || result.Halves != 1 || result.Made != 10 || result.Unknown != 3 || result.Lost != 0 || result.Unsaid != 0 {
		t.Errorf("of three unknown moves one happened by half, and the result is %+v", result)
	}
	if way.tries != 20 {
		t.Errorf("20 moves took %d tries: an unknown one must not be made twice", way.tries)
	}
}

// Setbacks are tried again, as often as the patience allows.
func TestSetbacksAreTriedAgain(t *testing.T) {
	t.Parallel()
	left := map[int64]int{2: 2, 3: 100}
	way := &memory{fault: func(_ *memory, move lab.Move) (bool, error) {
		if left[move.Ticket] == 0 {
			return false, nil
		}
		left[move.Ticket]--
		return true, lab.Timeout
	}}
	result := run(t, uses(5), way)
	if !result.Correct() || result.Done != 4 || result.GaveUp != 1 || result.Timeouts != 5 || result.Retries != 4 {
		t.Errorf("one move came through at its third try and one never did, and the result is %+v", result)
	}
}

// Anything else ends the load.
func TestAnErrorEndsTheLoad(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	_, err := uses(1000).Run(t.Context(), &memory{fault: func(*memory, lab.Move) (bool, error) { return true, broken }}, lab.Soon)
	if !errors.Is(err, broken) {
		t.Errorf("the load ended with %v", err)
	}
}

// Two requests that are under way at once may change places. One that another worker passes twice was not in order.
func TestOrderIsLostToWhoeverPassesTwice(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tickets        []int64
		unfair, passed int
	}{
		"as requested":              {[]int64{1, 2, 3, 4, 5, 6}, 0, 0},
		"neighbours":                {[]int64{2, 1, 4, 3, 6, 5}, 0, 1},
		"passed by all once":        {[]int64{2, 3, 1, 4, 5, 6}, 0, 2},
		"passed twice by one":       {[]int64{2, 5, 1, 3, 4, 6}, 1, 2},
		"passed by all, one before": {[]int64{2, 3, 5, 6, 1, 4}, 1, 4},
	} {
		workers := map[int64]int{1: 0, 4: 0, 2: 1, 5: 1, 3: 2, 6: 2}
		unfair, passed := lab.Overtaking(c.tickets, workers)
		if unfair != c.unfair || passed != c.passed {
			t.Errorf("%s: %d were passed twice by one worker and one by %d moves, instead of %d and %d", name, unfair, passed, c.unfair, c.passed)
		}
	}
}

// A load that could never end or begin is refused.
func TestALoadIsValidated(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*lab.Load){
		"no workers":           func(l *lab.Load) { l.Workers = 0 },
		"no accounts":          func(l *lab.Load) { l.Accounts = 0 },
		"no end":               func(l *lab.Load) { l.Count = 0 },
		"a count and duration": func(l *lab.Load) { l.Duration = time.Second },
		"no choice":            func(l *lab.Load) { l.Pick = nil },
	} {
		load := uses(1)
		change(&load)
		if load.Validate() == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
