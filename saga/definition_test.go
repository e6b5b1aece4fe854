package saga_test

import (
	"context"
	"testing"

	"lockstep/saga"
)

func TestAWrongOrderOfStepsIsRefused(t *testing.T) {
	t.Parallel()
	work := leave("x")
	call := func(context.Context, *saga.Saga) error { return nil }
	compensatable := func(name string) saga.Step { return saga.Step{Name: name, Do: work, Undo: work} }
	pivot := func(name string) saga.Step { return saga.Step{Name: name, Kind: saga.Pivot, Do: work} }
	retriable := func(name string) saga.Step { return saga.Step{Name: name, Kind: saga.Retriable, Do: work} }
	for name, steps := range map[string][]saga.Step{
		"no steps":                        {},
		"compensatable after the pivot":   {pivot("a"), compensatable("b")},
		"compensatable after retriable":   {pivot("a"), retriable("b"), compensatable("c")},
		"two pivots":                      {pivot("a"), pivot("b")},
		"two pivots apart":                {pivot("a"), retriable("b"), pivot("c")},
		"retriable before the pivot":      {compensatable("a"), retriable("b"), pivot("c")},
		"retriable first, then the pivot": {retriable("a"), pivot("b")},
		"retriable without a pivot":       {compensatable("a"), retriable("b")},
		"no undo":                         {{Name: "a", Do: work}},
		"no cancel":                       {{Name: "a", Do: work, Undo: work, Call: call}},
		"a cancel without a call":         {{Name: "a", Do: work, Undo: work, Cancel: work}},
		"an undo of the pivot":            {{Name: "a", Kind: saga.Pivot, Do: work, Undo: work}},
		"an undo of a retriable step":     {{Name: "a", Kind: saga.Retriable, Do: work, Undo: work}},
		"two of one name":                 {compensatable("a"), pivot("a")},
		"no name":                         {pivot("")},
		"nothing to do":                   {{Name: "a", Kind: saga.Pivot}},
		"an unknown kind":                 {{Name: "a", Kind: 7, Do: work}},
	} {
		if _, err := saga.Define("kind", steps...); err == nil {
			t.Errorf("a saga with %s was accepted", name)
		}
	}
	for name, steps := range map[string][]saga.Step{
		"all":               trip(),
		"compensatable":     {compensatable("a"), compensatable("b")},
		"retriable":         {retriable("a"), retriable("b")},
		"a pivot":           {pivot("a")},
		"a call as a pivot": {{Name: "a", Kind: saga.Pivot, Call: call, Cancel: work}},
		"a pivot elsewhere": {{Name: "a", Kind: saga.Pivot, Do: work, Call: call}},
	} {
		if _, err := saga.Define("kind", steps...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := saga.Define("", trip()...); err == nil {
		t.Error("a saga without a kind was accepted")
	}
}
