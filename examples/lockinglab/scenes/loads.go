package scenes

import (
	"math/rand/v2"
	"time"

	"lockstep/examples/lockinglab/lab"
)

// The two concurrencies: the historic one, and one that is enough to find work that can be combined.
const (
	fewWorkers  = 10
	manyWorkers = 64
)

const (
	historicMoves = 200
	pointsBalance = 10_000
	pointsUse     = 100
	manyAccounts  = 1000
	rich          = 1_000_000_000
	hotAccount    = 1
)

// points is the historic experiment: 200 uses of 100 points from 10,000. A hundred are granted, a hundred refused.
func points() lab.Load {
	return lab.Load{
		Name: "200 uses of 100 from 10,000", Workers: fewWorkers, Count: historicMoves, Accounts: 1, Balance: pointsBalance, Amount: pointsUse,
		Pick: func(int64) (int, int) { return hotAccount, lab.Nobody },
	}
}

// opposite moves money between two accounts in both directions at once.
func opposite() lab.Load {
	return lab.Load{
		Name: "opposite transfers", Workers: fewWorkers, Count: historicMoves, Accounts: 2, Balance: rich, Amount: 1, Pick: thereAndBack,
	}
}

func thereAndBack(ticket int64) (payer, payee int) {
	if ticket%2 == 0 {
		return 1, 2
	}
	return 2, 1
}

// hot has half of the transfers go into one account, and half out of it; the others are a thousand.
func hot(duration time.Duration) lab.Load {
	return lab.Load{
		Name: "one hot account", Workers: manyWorkers, Duration: duration, Accounts: 1 + manyAccounts, Balance: rich, Amount: 1,
		Pick: func(ticket int64) (int, int) {
			other := 2 + rand.IntN(manyAccounts) //nolint:gosec // G404: load
			if ticket%2 == 0 {
				return hotAccount, other
			}
			return other, hotAccount
		},
	}
}

// thousand has all transfers go between any two of a thousand accounts.
func thousand(duration time.Duration) lab.Load {
	return lab.Load{
		Name: "a thousand accounts", Workers: manyWorkers, Duration: duration, Accounts: manyAccounts, Balance: rich, Amount: 1,
		Pick: func(int64) (int, int) {
			one, other := 1+rand.IntN(manyAccounts), 1+rand.IntN(manyAccounts-1) //nolint:gosec // G404: load
			if other >= one {
				other++
			}
			return one, other
		},
	}
}

// across is the same for accounts in two databases, the odd ones and the even ones: every transfer goes from one to the
// other, half of them in each direction. With two accounts both are hot.
func across(name string, accounts int, duration time.Duration) lab.Load {
	return lab.Load{
		Name: name, Workers: manyWorkers, Duration: duration, Accounts: accounts, Balance: rich, Amount: 1,
		Pick: func(ticket int64) (int, int) {
			odd, even := 1+2*rand.IntN(accounts/2), 2+2*rand.IntN(accounts/2) //nolint:gosec // G404: load
			if ticket%2 == 0 {
				return odd, even
			}
			return even, odd
		},
	}
}

// crash is a counted load between two databases, in the middle of which a process dies.
func crash() lab.Load {
	load := opposite()
	load.Name = "a crash in the middle"
	return load
}

// acrossFew is opposite with so few moves that a way in which nearly each of them waits for a timeout comes to an end.
func acrossFew() lab.Load {
	load := opposite()
	load.Count = 40
	return load
}
