package peers_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/cluster/peers"
)

const patience = 10 * time.Second

// until polls for what has to become true.
func until(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("not so within %s: %s", patience, what)
		}
	}
}

// flight is a request that has been sent and waits for the test to answer it.
type flight struct {
	questions []int
	answer    chan error
}

// tower lets a test see requests fly, and end.
func tower(limit, bytesMax int) (*peers.Combiner, chan flight) {
	flights := make(chan flight)
	return peers.NewCombiner(limit, bytesMax, func(_ context.Context, questions []int) ([]int, error) {
		f := flight{questions, make(chan error)}
		flights <- f
		if err := <-f.answer; err != nil {
			return nil, err
		}
		return doubled(questions), nil
	}), flights
}

func doubled(questions []int) []int {
	answers := make([]int, len(questions))
	for i, question := range questions {
		answers[i] = 2 * question
	}
	return answers
}

// crowd asks from many goroutines, and waits for all answers at the end.
type crowd struct {
	sync.WaitGroup
	tb testing.TB
	c  *peers.Combiner
}

func (c *crowd) ask(question int) {
	c.Go(func() {
		if answer, err := c.c.Do(context.Background(), question); err != nil || answer != 2*question {
			c.tb.Errorf("%d was answered by %d, %v", question, answer, err)
		}
	})
}

// What comes while all requests are under way travels together in the next, in the order in which it came.
func TestQuestionsGatherWhileRequestsAreUnderWay(t *testing.T) {
	t.Parallel()
	c, flights := tower(2, 1000)
	all := crowd{tb: t, c: c}
	var under []flight
	for i := range 2 {
		all.ask(i)
		under = append(under, <-flights)
	}
	for i := 2; i < 7; i++ {
		all.ask(i)
		until(t, "the question waits", func() bool { return c.Waiting() == i-1 })
	}
	under[1].answer <- nil
	next := <-flights
	if !slices.Equal(next.questions, []int{2, 3, 4, 5, 6}) {
		t.Errorf("the next request asked %v", next.questions)
	}
	next.answer <- nil
	under[0].answer <- nil
	all.Wait()
}

// A request is worth a nonce and two signatures beside others only when it carries enough.
func TestARequestBesideOthersWaitsForCompany(t *testing.T) {
	t.Parallel()
	c, flights := tower(4, 1000)
	c.Gathers(3, time.Hour)
	all := crowd{tb: t, c: c}
	all.ask(0)
	alone := <-flights // nothing else is under way
	for i := 1; i < 3; i++ {
		all.ask(i)
		until(t, "the question waits", func() bool { return c.Waiting() == i })
	}
	all.ask(3)
	three := <-flights
	if len(three.questions) != 3 {
		t.Errorf("beside another, a request asked %v", three.questions)
	}
	all.ask(4)
	until(t, "the question waits", func() bool { return c.Waiting() == 1 })
	alone.answer <- nil
	three.answer <- nil
	last := <-flights // nothing else is under way any more
	last.answer <- nil
	all.Wait()
}

// Where questions came in a crowd the next ones come in one, too: the first of them does not leave alone. One that comes alone
// after all waits for a moment only, and after a few such nobody waits.
func TestTheFirstOfACrowdWaitsForTheOthers(t *testing.T) {
	t.Parallel()
	const many = 64
	c, flights := tower(1, 10_000)
	c.Gathers(many, time.Hour)
	all := crowd{tb: t, c: c}
	all.ask(0)
	first := <-flights
	for i := 1; i <= many; i++ {
		all.ask(i)
	}
	until(t, "they wait", func() bool { return c.Waiting() == many })
	first.answer <- nil
	together := <-flights
	together.answer <- nil
	all.Wait()
	c.Took(time.Hour)
	began := time.Now()
	all.ask(1)
	f := <-flights
	if waited := time.Since(began); len(together.questions) != many || len(f.questions) != 1 || waited < peers.CompanyWaitMax {
		t.Errorf("after a request that asked %d, one that asked %v left after %s", len(together.questions), f.questions, waited)
	}
	f.answer <- nil
	all.Wait()
	for range 3 { // 32, 16, 8
		c.Took(0)
		all.ask(1)
		f := <-flights
		f.answer <- nil
		all.Wait()
	}
	c.Took(time.Hour)
	if c.Company() >= 8 {
		t.Errorf("after requests that asked one, %d are expected", c.Company())
	}
	all.ask(1)
	f = <-flights
	f.answer <- nil
	all.Wait()
}

func TestPatienceForCompanyEnds(t *testing.T) {
	t.Parallel()
	c, flights := tower(4, 1000)
	c.Gathers(3, time.Millisecond)
	all := crowd{tb: t, c: c}
	all.ask(0)
	first := <-flights
	all.ask(1)
	second := <-flights
	first.answer <- nil
	second.answer <- nil
	all.Wait()
}

// A question has patience of its own, not what is left of that of those that found company before it.
func TestPatienceIsNotInherited(t *testing.T) {
	t.Parallel()
	const patience = 300 * time.Millisecond
	c, flights := tower(4, 1000)
	c.Gathers(3, patience)
	all := crowd{tb: t, c: c}
	all.ask(0)
	alone := <-flights
	for i := 1; i < 3; i++ {
		all.ask(i)
		until(t, "the question waits", func() bool { return c.Waiting() == i })
	}
	all.ask(3)
	three := <-flights
	time.Sleep(patience / 2)
	asked := time.Now()
	all.ask(4)
	late := <-flights
	if waited := time.Since(asked); waited < patience {
		t.Errorf("a question beside others left alone after %s", waited)
	}
	for _, f := range []flight{alone, three, late} {
		f.answer <- nil
	}
	all.Wait()
}

func TestOnlySoManyRequestsFlyAndNoneIsLongerThanAllowed(t *testing.T) {
	t.Parallel()
	var flying, most, longest, requests atomic.Int64
	raise := func(to *atomic.Int64, value int64) {
		for old := to.Load(); value > old && !to.CompareAndSwap(old, value); old = to.Load() {
		}
	}
	gathered := make(chan struct{})
	c := peers.NewCombiner(peers.FlyingMax, 50, func(_ context.Context, questions []int) ([]int, error) {
		raise(&most, flying.Add(1))
		defer flying.Add(-1)
		<-gathered
		bytes := 0
		for _, question := range questions {
			bytes += question
		}
		if len(questions) > 1 { // one that is too long alone travels alone
			raise(&longest, int64(bytes))
		}
		requests.Add(1)
		return doubled(questions), nil
	})
	all := crowd{tb: t, c: c}
	const count = 1000
	for i := range count {
		all.ask(i % 60)
	}
	until(t, "all that cannot fly waits", func() bool { return c.Waiting() == count-peers.FlyingMax })
	close(gathered)
	all.Wait()
	if most.Load() > peers.FlyingMax || longest.Load() > 50 || requests.Load() == count {
		t.Errorf("%d flew at once, the longest asked %d bytes, there were %d requests", most.Load(), longest.Load(), requests.Load())
	}
}

func TestARequestHasSoManyQuestionsAtMost(t *testing.T) {
	t.Parallel()
	c, flights := tower(1, 1<<20)
	all := crowd{tb: t, c: c}
	all.ask(1)
	first := <-flights
	for range peers.BatchMax + 3 {
		all.ask(1)
	}
	until(t, "all wait", func() bool { return c.Waiting() == peers.BatchMax+3 })
	first.answer <- nil
	for _, want := range []int{peers.BatchMax, 3} {
		next := <-flights
		if len(next.questions) != want {
			t.Errorf("a request has %d questions, want %d", len(next.questions), want)
		}
		next.answer <- nil
	}
	all.Wait()
}

// One poisonous question gets all of its request refused; the others are answered in the end, and it alone is refused.
func TestARefusedRequestIsAskedAgainInHalves(t *testing.T) {
	t.Parallel()
	errPoison := errors.New("poison")
	begun, gathered := make(chan struct{}), make(chan struct{})
	var asked [][]int
	c := peers.NewCombiner(1, 1<<20, func(_ context.Context, questions []int) ([]int, error) {
		if questions[0] == 0 {
			close(begun)
			<-gathered
			return doubled(questions), nil
		}
		asked = append(asked, questions)
		if slices.Contains(questions, 13) {
			return nil, peers.RefusedWhole(errPoison)
		}
		return doubled(questions), nil
	})
	all := crowd{tb: t, c: c}
	all.ask(0)
	<-begun
	for i := 1; i <= 16; i++ {
		if i == 13 {
			all.Go(func() {
				if _, err := c.Do(context.Background(), 13); !errors.Is(err, errPoison) {
					t.Errorf("the poison heard %v", err)
				}
			})
		} else {
			all.ask(i)
		}
	}
	until(t, "all wait", func() bool { return c.Waiting() == 16 })
	close(gathered)
	all.Wait()
	if len(asked) != 9 { // 16, then twice 8, 4, 2 and 1
		t.Errorf("it took %d requests: %v", len(asked), asked)
	}
}

// An answer that cannot be believed says nothing of any question, so none is asked again here.
func TestAnUnknownOutcomeIsToldToAll(t *testing.T) {
	t.Parallel()
	c, flights := tower(1, 1000)
	all := crowd{tb: t, c: c}
	all.ask(1)
	first := <-flights
	for i := range 2 {
		all.Go(func() {
			if _, err := c.Do(context.Background(), i); !errors.Is(err, peers.ErrUnavailable) {
				t.Errorf("%d heard %v", i, err)
			}
		})
	}
	until(t, "both wait", func() bool { return c.Waiting() == 2 })
	first.answer <- nil
	second := <-flights
	second.answer <- peers.ErrUnavailable
	all.Wait()
}

// Whoever leaves hears why, the others of its request get their answers, and the request itself goes on.
func TestACallerThatLeavesDisturbsNobody(t *testing.T) {
	t.Parallel()
	under, answer := make(chan context.Context), make(chan struct{})
	c := peers.NewCombiner(1, 1000, func(ctx context.Context, questions []int) ([]int, error) {
		under <- ctx
		<-answer
		return doubled(questions), ctx.Err()
	})
	all := crowd{tb: t, c: c}
	leaving, leave := context.WithCancel(context.Background())
	left := make(chan error)
	all.ask(0)
	<-under
	go func() { _, err := c.Do(leaving, 1); left <- err }()
	until(t, "the one that leaves is first", func() bool { return c.Waiting() == 1 })
	all.ask(2)
	until(t, "the other waits with it", func() bool { return c.Waiting() == 2 })
	answer <- struct{}{}
	ctx := <-under
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that left heard %v", err)
	}
	if ctx.Err() != nil {
		t.Error("its leaving ended the request")
	}
	answer <- struct{}{}
	all.Wait()
}
