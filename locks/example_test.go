package locks_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"lockstep/locks"
)

// Take a few seats together, work on those that are ours, and put the others
// off. Whether a seat is free is for the database to say, locked or not.
func Example() {
	cfg := locks.Default()
	cfg.Prefix = "boxoffice"
	cfg.Addrs = []string{"redis-1:6379", "redis-2:6379", "redis-3:6379"}
	locker, err := locks.Open(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = locker.Close() }()

	ctx := context.Background()
	seats := []string{"row-7-seat-2", "row-7-seat-1"}
	set, err := locker.Acquire(ctx, seats)
	if errors.Is(err, locks.ErrUnavailable) {
		fmt.Println("no lock servers: sell all seats with row locks alone", seats)
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	for _, seat := range seats {
		switch set.Grant(seat) {
		case locks.Held:
			fmt.Println("sell", seat)
		case locks.Busy:
			fmt.Println("another counter is selling", seat)
		default:
			fmt.Println("ask again in a moment for", seat)
		}
	}
	if lost, err := set.Release(ctx); err != nil || lost > 0 {
		log.Printf("%d locks ended before the work did: %v", lost, err)
	}
}
