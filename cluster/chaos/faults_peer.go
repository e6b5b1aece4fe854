package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
)

// peerFaults are what a system suffers from another one that is slow or lies, or from somebody between them who does.
func peerFaults() (all []fault) {
	for _, one := range []struct {
		name string
		lie  func() lie
	}{
		{"500s from a peer", failing},
		{"a peer's answers drip", plainly(dripping)},
		{"amounts changed on the way to a peer", plainly(askingForMore)},
		{"a peer's answers turned around", plainly(answeringContrary)},
		{"a peer's answers to other requests", plainly(answeringAnother)},
		{"requests to a peer repeated", plainly(askingTwice)},
	} {
		begin := func(_ context.Context, t *target, way string) error { t.network.liar(way).tell(one.lie()); return nil }
		all = append(all, fault{one.name, lyingWay, every(begin), every(honest)})
	}
	return all
}

func plainly(l lie) func() lie { return func() lie { return l } }

func lyingWay(t *target, random *rand.Rand) []string {
	return []string{pick(random, t.network.to(systemWord))}
}

// honest ends a lie. One that nobody was told waits until somebody is: systems that suffered something else at the same time
// did not speak to one another.
func honest(ctx context.Context, t *target, way string) error {
	l := t.network.liar(way)
	for l.lied() == 0 && sleep(ctx, settledPoll/10) {
	}
	told := l.tell(nil)
	if told == 0 {
		return errors.New("nobody was lied to")
	}
	t.noted.note("a request or an answer between the systems was lied about", told)
	return nil
}
