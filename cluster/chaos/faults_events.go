package chaos

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/events"
)

// eventFaults are messages that no system should have sent.
func eventFaults() []fault {
	return []fault{{"poison among the events", one("nats"), sendPoison, ended}}
}

const (
	busWait     = 10 * time.Second // until a connection to the broker stands
	genuineWait = 10 * time.Second // until a system has been paid once
	lettersMost = 1000             // of one listing
	committed   = "lockstep.transfer.committed"
)

// poisons are messages from one system to another that can only be parked, by what is wrong with them. The genuine statement is
// one that the sender has signed for the receiver.
func poisons(from, to, genuine string) map[string]events.Message {
	parts := strings.Split(genuine, ".")
	with := func(fact string) string {
		return strings.Join(append([]string{parts[0], fact}, parts[2:]...), ".")
	}
	fact, _ := base64.RawURLEncoding.DecodeString(parts[1]) // what is no fact is bad enough
	more := base64.RawURLEncoding.EncodeToString(amountOf.ReplaceAll(fact, []byte(`"amount":"${1}0"`)))
	data := map[string][]byte{
		"is noise":                        []byte("\x00\xff no event"),
		"is no event":                     []byte(`[{"amount":"1000000"}]`),
		"has no statement":                packed(from, committed, ""),
		"states another amount":           packed(from, committed, with(more)),
		"has no signature":                packed(from, committed, parts[0]+"."+parts[1]+"."),
		"is of a type that nobody knows":  packed(from, "lockstep.transfer.exploded", genuine),
		"is of another type than it says": packed(from, "lockstep.transfer.aborted", genuine),
	}
	all := map[string]events.Message{}
	for wrong, text := range data {
		all[wrong] = message(from, to, text)
	}
	return all
}

// packed is a message of one event.
func packed(from, kind, signed string) []byte {
	data, err := events.Pack([]events.Event{{ID: uuid.NewString(), Source: "lockstep:" + from, Type: kind, Statement: signed}})
	if err != nil {
		panic(err) // it has all that an event must have
	}
	return data
}

func message(from, to string, data []byte) events.Message {
	return events.Message{ID: uuid.NewString(), Subject: events.Transfer(from, to, "committed"), Data: data}
}

// sendPoison has each system send the other all poisons, and a genuine statement once more, which is to change nothing. At the
// end each poison has to be among the dead letters of its receiver.
func sendPoison(ctx context.Context, t *target, on []string) error {
	var checks []func(context.Context) error
	for i, from := range t.systems {
		to := t.systems[(i+1)%len(t.systems)].ID
		genuine, err := t.genuine(ctx, to)
		if err != nil {
			return err
		}
		bad := poisons(from.ID, to, genuine)
		list := []events.Message{message(from.ID, to, packed(from.ID, committed, genuine))}
		for _, m := range bad {
			list = append(list, m)
		}
		err = t.withBus(ctx, from.ID, func(bus *events.Bus) error {
			for _, m := range list {
				if err := bus.Publish(ctx, m); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("send poison from %s: %w", from.ID, err)
		}
		checks = append(checks, t.watchParked(ctx, to, bad))
	}
	t.heal.Store(on[0], func(ctx context.Context) error {
		var all error
		for _, check := range checks {
			all = errors.Join(all, check(ctx))
		}
		return all
	})
	return nil
}

// genuine is a statement by which a system was paid. Clients pay all the time, so there is one soon.
func (t *target) genuine(ctx context.Context, system string) (stated string, err error) {
	ctx, cancel := context.WithTimeout(ctx, genuineWait)
	defer cancel()
	for {
		db, err := t.database(t.source(system))
		if err != nil {
			return "", err
		}
		err = db.QueryRowContext(ctx, "SELECT statement FROM remittance_statements LIMIT 1").Scan(&stated)
		_ = db.Close()
		if err == nil {
			return stated, nil
		}
		if !sleep(ctx, settledPoll) {
			return "", fmt.Errorf("look for a statement to %s: %w", system, err)
		}
	}
}

// watchParked looks for the dead letters from now on. The function that it returns waits for what it has seen.
func (t *target) watchParked(ctx context.Context, system string, bad map[string]events.Message) func(context.Context) error {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	seen := make(chan error, 1)
	go func() {
		found := map[string]bool{}
		err := t.parked(watching, system, bad, found)
		for err != nil && sleep(watching, settledPoll) { // the broker was away
			err = t.parked(watching, system, bad, found)
		}
		seen <- err
	}()
	return func(ctx context.Context) error {
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		return <-seen
	}
}

// parked waits until each poison was found among the dead letters, or was there as the nodes' logs say, for as long as ctx lasts:
// nodes remove those soon whose statement says what the books say, at their start at once.
func (t *target) parked(ctx context.Context, system string, bad map[string]events.Message, found map[string]bool) error {
	return t.withBus(ctx, system, func(bus *events.Bus) error {
		for next := time.Now().Add(logsRead); ; {
			letters, err := bus.DeadLetters(ctx, lettersMost)
			for _, letter := range letters {
				found[letter.MessageID] = true
			}
			if time.Now().After(next) {
				err = errors.Join(err, t.findLogged(system, bad, found))
				next = time.Now().Add(logsRead)
			}
			var missing []string
			for wrong, m := range bad {
				if !found[m.ID] {
					missing = append(missing, wrong)
				}
			}
			if err == nil && len(missing) == 0 {
				t.noted.note("an event that no system should have sent was parked", len(bad))
				return settleAll(ctx, bus, letters)
			}
			if !sleep(ctx, settledPoll/10) {
				return fmt.Errorf("%s has not parked what %s: %w", system, strings.Join(missing, ", what "), errors.Join(err, ctx.Err()))
			}
		}
	})
}

const logsRead = 3 * time.Second // they are long

// findLogged finds the poisons of which a node's log says that it has parked them.
func (t *target) findLogged(system string, bad map[string]events.Message, found map[string]bool) error {
	logs, all := filepath.Glob(filepath.Join(t.dir, "logs", system+"-node-*.log"))
	for _, log := range logs {
		text, err := os.ReadFile(log)
		all = errors.Join(all, err)
		for line := range bytes.Lines(text) {
			if !bytes.Contains(line, []byte(`"event is a dead letter"`)) {
				continue
			}
			for _, m := range bad {
				found[m.ID] = found[m.ID] || bytes.Contains(line, []byte(m.ID))
			}
		}
	}
	return all
}

// settleAll makes room for the next letters.
func settleAll(ctx context.Context, bus *events.Bus, letters []events.DeadLetter) (all error) {
	for _, letter := range letters {
		if err := bus.Settle(ctx, letter.ID); !errors.Is(err, events.ErrNoLetter) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// withBus connects to the broker as a system.
func (t *target) withBus(ctx context.Context, system string, do func(*events.Bus) error) error {
	text, err := os.ReadFile(filepath.Join(t.dir, "secrets.json"))
	if err != nil {
		return fmt.Errorf("find the password of %s: %w", system, err)
	}
	var secrets struct {
		Systems map[string]struct {
			NATS string `json:"nats"`
		} `json:"systems"`
	}
	if err := json.Unmarshal(text, &secrets); err != nil {
		return fmt.Errorf("find the password of %s: %w", system, err)
	}
	config := events.Default()
	config.URL, config.System = t.cluster.Credentials().NATSURL, system
	config.User, config.Password = system, secrets.Systems[system].NATS
	bus, err := events.Open(ctx, config)
	if err != nil {
		return err
	}
	defer bus.Close()
	wait, cancel := context.WithTimeout(ctx, busWait)
	defer cancel()
	for {
		if _, err = bus.DeadLetters(wait, 1); err == nil { // it is connected, and its streams are there
			return do(bus)
		}
		if !sleep(wait, settledPoll/10) {
			return err
		}
	}
}
