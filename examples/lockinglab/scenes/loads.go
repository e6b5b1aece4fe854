package scenes

import (
	"math/rand/v2"
	"time"

	"lockstep/examples/lockinglab/lab"
)

// The loads, as the report calls them.
const (
	Points          = "One database: the point use, 10 workers"
	Opposite        = "One database: opposite transfers between two accounts, 10 workers"
	Hot             = "One database: one hot account, 64 workers"
	Scattered       = "One database: a thousand accounts, 64 workers"
	Across          = "Two databases: opposite transfers between two accounts, 10 workers"
	AcrossHot       = "Two databases: one hot account on each side, 64 workers"
	AcrossScattered = "Two databases: a thousand accounts, 64 workers"
	Crash           = "Two databases: a process of the payer's side is killed in the middle, 10 workers"
)

// The two concurrencies: the historic one, and one that is enough to find work that can be combined.
const (
	fewWorkers  = 10
	manyWorkers = 64
)

// Moves and Accounts are what the tables are measured with.
const (
	Moves    = 200  // of a counted load
	Accounts = 1000 // of a load that meets on no account
)

const (
	pointsUse  = 100
	rich       = 1_000_000_000
	hotAccount = 1
)

// points is the historic experiment: 200 uses of 100 points from 10,000. A hundred are granted, a hundred refused.
func points(moves int) lab.Load {
	return lab.Load{
		Name: Points, Workers: fewWorkers, Count: moves, Accounts: 1, Balance: int64(moves/2) * pointsUse, Amount: pointsUse,
		Pick: func(int64) (int, int) { return hotAccount, lab.Nobody },
	}
}

// opposite moves money between two accounts in both directions at once.
func opposite(name string, moves int) lab.Load {
	return lab.Load{
		Name: name, Workers: fewWorkers, Count: moves, Accounts: 2, Balance: rich, Amount: 1, Pick: thereAndBack,
	}
}

func thereAndBack(ticket int64) (payer, payee int) {
	if ticket%2 == 0 {
		return 1, 2
	}
	return 2, 1
}

// hot has half of the transfers go into one account, and half out of it.
func hot(others int, duration time.Duration) lab.Load {
	return lab.Load{
		Name: Hot, Workers: manyWorkers, Duration: duration, Accounts: 1 + others, Balance: rich, Amount: 1,
		Pick: func(ticket int64) (int, int) {
			other := 2 + rand.IntN(others) //nolint:gosec // G404: load
			if ticket%2 == 0 {
				return hotAccount, other
			}
			return other, hotAccount
		},
	}
}

// scattered has all transfers go between any two accounts.
func scattered(accounts int, duration time.Duration) lab.Load {
	return lab.Load{
		Name: Scattered, Workers: manyWorkers, Duration: duration, Accounts: accounts, Balance: rich, Amount: 1,
		Pick: func(int64) (int, int) {
			one, other := 1+rand.IntN(accounts), 1+rand.IntN(accounts-1) //nolint:gosec // G404: load
			if other >= one {
				other++
			}
			return one, other
		},
	}
}

// acrossLoad is how long the first load between two databases takes where none of the others is asked for. It has no count:
// a way in which nearly each move waits for a timeout would not come to its end.
const acrossLoad = 2 * time.Second

// across is the same for accounts in two databases, the odd ones and the even ones: every transfer goes from one to the
// other, half of them in each direction. With two accounts both are hot.
func across(name string, workers, accounts int, duration time.Duration) lab.Load {
	return lab.Load{
		Name: name, Workers: workers, Duration: duration, Accounts: accounts, Balance: rich, Amount: 1,
		Pick: func(ticket int64) (int, int) {
			odd, even := 1+2*rand.IntN(accounts/2), 2+2*rand.IntN(accounts/2) //nolint:gosec // G404: load
			if ticket%2 == 0 {
				return odd, even
			}
			return even, odd
		},
	}
}
