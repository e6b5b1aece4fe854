package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// replicas holds what each replica has against its source: one that lacks something would lose it with the next source.
func (r *run) replicas(ctx context.Context, sources []Books) Check {
	check := Check{Name: "replicas_alike", Meaning: "every replica has, a minute after the last fault at most, what its source has"}
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	for i, system := range r.target.systems {
		for n, dsn := range system.MySQLReplicaDSNs {
			check.Judged += len(sources[i].Transfers)
			replica := system
			replica.MySQLSourceDSN = dsn
			for {
				has, err := readBooks(ctx, replica)
				differs := sources[i].unlike(has)
				if err == nil && differs == "" {
					break
				}
				if !sleep(ctx, settledPoll) {
					check.breach("replica %d of %s: %s %v", n+1, system.ID, differs, err)
					break
				}
			}
		}
	}
	return check
}

// unlike tells what other books have otherwise; "" is nothing.
func (b Books) unlike(other Books) string {
	byID := func(one, two Posting) int { return strings.Compare(one.ID+one.Payer, two.ID+two.Payer) }
	ours, theirs := slices.SortedFunc(slices.Values(b.Transfers), byID), slices.SortedFunc(slices.Values(other.Transfers), byID)
	switch {
	case !slices.Equal(ours, theirs):
		return fmt.Sprintf("its %d transfers are not the source's %d", len(theirs), len(ours))
	case !maps.Equal(b.Accounts, other.Accounts):
		return "its balances are not the source's"
	case !maps.Equal(b.Holds, other.Holds):
		return "its holds are not the source's"
	case !maps.Equal(b.Remittances, other.Remittances):
		return "its transfers between systems are not the source's"
	}
	return ""
}
