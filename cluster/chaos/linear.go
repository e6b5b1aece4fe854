package chaos

import (
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// searchMax bounds the search for an order of one pair's operations.
const searchMax = 2 * time.Minute

// act is an operation on a pair of accounts, as the model takes it.
type act struct {
	kind     Kind
	from, to int // sides of the pair
	amount   int64
	sides    int // of a read: the side that it showed, or both of them
}

const bothSides = 2

// told is how an act ended.
type told struct {
	end   End
	shown [2]Balance // of a read
}

// linearizable searches, for each pair, one order of its operations that explains every answer.
func linearizable(e Evidence, c *Check) {
	for _, pair := range e.Pairs {
		history := historyOf(pair, e.Ops)
		c.Judged += len(history)
		switch porcupine.CheckOperationsTimeout(pairModel(e.Opening), history, searchMax) {
		case porcupine.Illegal:
			c.breach("the %d operations on %v have no order", len(history), pair)
		case porcupine.Unknown:
			c.breach("the %d operations on %v could not be judged within %v", len(history), pair, searchMax)
		}
	}
}

// historyOf picks the operations on a pair. Reads of a replica may be old, and what did not happen is nowhere in the order:
// but for a refusal, which says that there was too little money at some moment.
func historyOf(pair [2]string, ops []Op) (history []porcupine.Operation) {
	side := map[string]int{pair[0]: 0, pair[1]: 1}
	for _, op := range ops {
		from, ours := side[op.From]
		a := act{kind: op.Kind, from: from, to: side[op.To], amount: op.Amount, sides: from}
		t := told{end: op.End}
		if op.Kind == Survey {
			_, ours = op.Balances[pair[0]]
			a.sides = bothSides
		}
		t.shown = [2]Balance{op.Balances[pair[0]], op.Balances[pair[1]]}
		if !ours || op.End == NotApplied || op.Kind.reads() && (op.End != Applied || !op.Strong) {
			continue
		}
		back := int64(op.Return)
		if op.End == Open {
			back = math.MaxInt64
		}
		history = append(history, porcupine.Operation{ClientId: op.Client, Input: a, Call: int64(op.Call), Output: t, Return: back})
	}
	return history
}

// pairModel is the sequential specification: each operation happens at one moment and at once.
func pairModel(opening int64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return [2]Balance{{Posted: opening}, {Posted: opening}} },
		Step: func(state, input, output any) (bool, any) {
			return input.(act).take(state.([2]Balance), output.(told))
		},
	}
}

// take tells whether the operation can have had this end in a state, and what the state is then.
func (a act) take(state [2]Balance, t told) (bool, [2]Balance) {
	if a.kind.reads() {
		fits := true
		for side := range state {
			fits = fits && (a.sides != bothSides && a.sides != side || state[side] == t.shown[side])
		}
		return fits, state
	}
	after, possible := a.apply(state)
	switch {
	case t.end == Applied:
		return possible, after
	case t.end == Refused || !possible:
		return !possible, state
	}
	return true, after // one that never happened stands at the end, where nobody sees it
}

// apply changes the state; it is not possible when the account has too little.
func (a act) apply(state [2]Balance) (after [2]Balance, possible bool) {
	from := &state[a.from]
	switch possible = from.Posted-from.Held >= a.amount; a.kind {
	case Transfer:
		from.Posted -= a.amount
		state[a.to].Posted += a.amount
	case Hold:
		from.Held += a.amount
	case Capture:
		possible = from.Held >= a.amount
		from.Posted, from.Held = from.Posted-a.amount, from.Held-a.amount
		state[a.to].Posted += a.amount
	case Void:
		possible = from.Held >= a.amount
		from.Held -= a.amount
	}
	return state, possible
}
