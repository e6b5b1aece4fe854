package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// networkFaults are what can go wrong on the way between two processes, on each kind of way.
func networkFaults() (all []fault) {
	for _, way := range []struct{ about, to string }{
		{"a node and its source", sourceWord}, {"a node and a Redis", "redis"}, {"a node and NATS", "nats"}, {"the systems", systemWord},
	} {
		for _, wrong := range []struct {
			name   string
			toxics []toxic
		}{
			{"latency", []toxic{
				{"up", "latency", "upstream", map[string]int{"latency": 60, "jitter": 40}},
				{"down", "latency", "downstream", map[string]int{"latency": 60, "jitter": 40}},
			}},
			{"one-way cut of requests", []toxic{{"up", "timeout", "upstream", map[string]int{"timeout": 0}}}},
			{"one-way cut of answers", []toxic{{"down", "timeout", "downstream", map[string]int{"timeout": 0}}}},
			{"resets", []toxic{{"down", "reset_peer", "downstream", map[string]int{"timeout": 5}}}},
		} {
			all = append(all, fault{wrong.name + " between " + way.about, onWay(way.to), every(poison(wrong.toxics)), every(cure(wrong.toxics))})
		}
		all = append(all, fault{"cut between " + way.about, onWay(way.to), every(cut(false)), every(cut(true))})
	}
	lost := fault{"lost answers to COMMIT", onWay(sourceWord), during(losePause, every(loseAnswers)), ended}
	return append(all, lost)
}

// sourceWord is the kind of a source; any database may be one.
const sourceWord = "mysql-source"

// onWay picks one way to a process whose name has the word, or to one that is a source now.
func onWay(word string) func(*target, *rand.Rand) []string {
	return func(t *target, random *rand.Rand) []string {
		ways := t.network.to(word)
		if word == sourceWord {
			ways = nil
			for _, name := range t.named(sourceWord) {
				ways = append(ways, t.network.to(name)...)
			}
		}
		return []string{pick(random, ways)}
	}
}

func poison(toxics []toxic) func(context.Context, *target, string) error {
	return func(ctx context.Context, t *target, way string) error {
		for _, toxic := range toxics {
			if err := t.network.add(ctx, way, toxic); err != nil {
				return err
			}
		}
		return nil
	}
}

func cure(toxics []toxic) func(context.Context, *target, string) error {
	return func(ctx context.Context, t *target, way string) error {
		for _, toxic := range toxics {
			if err := t.network.remove(ctx, way, toxic.Name); err != nil {
				return err
			}
		}
		return nil
	}
}

func cut(on bool) func(context.Context, *target, string) error {
	return func(ctx context.Context, t *target, way string) error { return t.network.enable(ctx, way, on) }
}

const (
	losePause = 300 * time.Millisecond
	loseTime  = 30 * time.Millisecond
)

// loseAnswers closes connections in place of the database's next answers. Most of the time that is an answer to COMMIT, for
// which a node waits the longest; the nodes' own count of them is in the report.
func loseAnswers(ctx context.Context, t *target, way string) error {
	lose := toxic{"lose", "limit_data", "downstream", map[string]int{"bytes": 0}}
	if err := t.network.add(ctx, way, lose); err != nil {
		return fmt.Errorf("lose answers: %w", err)
	}
	sleep(ctx, loseTime)
	return t.network.remove(context.WithoutCancel(ctx), way, lose.Name)
}
