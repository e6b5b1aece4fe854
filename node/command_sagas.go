package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lockstep/api/client"
	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/saga"
)

// SagasCommand is `lockstep sagas`.
type SagasCommand struct {
	List  ListSagasCommand `cmd:"" help:"List transfers between systems by how their work stands."`
	Show  ShowSagaCommand  `cmd:"" help:"Show one of them, with its transfer."`
	Retry RetrySagaCommand `cmd:"" help:"Make one due at once, whether it waits or is parked."`
	Abort AbortSagaCommand `cmd:"" help:"Give a transfer up that this system pays and has not decided."`
}

// ListSagasCommand is `lockstep sagas list`.
type ListSagasCommand struct {
	ConfigFlags
	State string `help:"pending, stuck, parked or done." enum:"pending,stuck,parked,done" default:"pending"`
	Limit int    `help:"How many at most." default:"50"`
}

// Help is shown by --help.
func (c *ListSagasCommand) Help() string {
	return `Among what is parked are the messages (tell) that this system could not publish. Statements of peers that could not be applied
lie at the broker: GET /v1/admin/dead-letters lists both.`
}

// Run prints the sagas, those that wait the longest first.
func (c *ListSagasCommand) Run(ctx context.Context, out io.Writer) error {
	return withSagas(ctx, c.Config, func(log transferSagas, db *store.Store) error {
		list, err := log.List(ctx, saga.Filter(c.State), c.Limit)
		if err != nil {
			return err
		}
		for _, s := range list {
			fmt.Fprintf(out, "%s  %-6s %-8s attempt %-3d age %-10s %s\n", s.ID, s.Kind, s.State, s.Attempt, s.Age.Round(time.Second), s.Reason)
		}
		if c.State != string(saga.ListParked) {
			return nil
		}
		return listUnpublished(ctx, out, db, c.Limit)
	})
}

// listUnpublished prints what this system has to tell and could not publish.
func listUnpublished(ctx context.Context, out io.Writer, db *store.Store, limit int) error {
	outbox := saga.Outbox{Database: sagaDatabase{db}}
	parked, err := outbox.Parked(ctx, limit)
	if err != nil {
		return err
	}
	for _, m := range parked {
		age := time.Since(m.CreatedAt).Round(time.Second)
		fmt.Fprintf(out, "%s  %-6s %-8s attempt %-3d age %-10s to %s: %s\n", m.ID, "tell", saga.StateParked, m.Attempts, age, m.Destination, m.Reason)
	}
	return nil
}

// ShowSagaCommand is `lockstep sagas show`.
type ShowSagaCommand struct {
	ConfigFlags
	ID string `arg:"" help:"Its id, which is the transfer's."`
}

// Run prints the saga and how its transfer stands in this system.
func (c *ShowSagaCommand) Run(ctx context.Context, out io.Writer) error {
	return withSagas(ctx, c.Config, func(log transferSagas, db *store.Store) error {
		found, err := books{db}.Remittances(ctx, ledger.TransferID(c.ID))
		if err != nil {
			return err
		}
		r, known := found[ledger.TransferID(c.ID)]
		s, err := log.Get(ctx, c.ID)
		switch {
		case errors.Is(err, saga.ErrNotFound) && known: // it ended long ago; the transfer is kept
			fmt.Fprintln(out, "The saga has ended and is not kept any more.")
		case err != nil:
			return err
		default:
			describeSaga(out, s)
		}
		if known {
			describeRemittance(out, r)
		}
		return nil
	})
}

func describeSaga(out io.Writer, s saga.Saga) {
	fmt.Fprintf(out, "saga       %s\nkind       %s\nstate      %s\nattempt    %d\nage        %s\n", s.ID, s.Kind, s.State, s.Attempt, s.Age.Round(time.Second))
	if !s.State.Final() && s.State != saga.StateParked {
		fmt.Fprintf(out, "next       %s\n", s.NextAt.UTC().Format(time.RFC3339))
	}
	for name, text := range map[string]string{"reason": s.Reason, "lease": s.LeaseOwner} {
		if text != "" {
			fmt.Fprintf(out, "%-10s %s\n", name, text)
		}
	}
}

func describeRemittance(out io.Writer, r ledger.Remittance) {
	fmt.Fprintf(out, "transfer   %s, from %s to %s, expires %s\n", r.State, r.Payer, r.Payee, r.ExpiresAt.UTC().Format(time.RFC3339))
	if t := r.Transfer; t != nil {
		fmt.Fprintf(out, "amount     %s, %s to %s\n", t.Amount, t.From, t.To)
	}
	if r.Failure != "" {
		fmt.Fprintf(out, "failure    %s\n", r.Failure)
	}
	if !r.FinishedAt.IsZero() {
		fmt.Fprintf(out, "decided    %s\n", r.FinishedAt.UTC().Format(time.RFC3339))
	}
	if !r.CreditedAt.IsZero() {
		fmt.Fprintf(out, "credited   %s\n", r.CreditedAt.UTC().Format(time.RFC3339))
	}
}

// RetrySagaCommand is `lockstep sagas retry`.
type RetrySagaCommand struct {
	ConfigFlags
	ID string `arg:"" help:"Its id, or that of a message which could not be published."`
}

// Run makes it due; a running node takes it within a second.
func (c *RetrySagaCommand) Run(ctx context.Context, out io.Writer) error {
	return withSagas(ctx, c.Config, func(log transferSagas, db *store.Store) error {
		err := log.Resume(ctx, c.ID)
		if errors.Is(err, saga.ErrNotFound) {
			outbox := saga.Outbox{Database: sagaDatabase{db}}
			err = outbox.Replay(ctx, c.ID)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s is due; a running node goes on with it\n", c.ID)
		return err
	})
}

// AbortSagaCommand is `lockstep sagas abort`.
type AbortSagaCommand struct {
	ID         string `arg:"" help:"Its id."`
	URL        string `name:"url" help:"The system's balancer or one of its nodes, such as http://127.0.0.1:8080." required:""`
	ClientID   string `help:"A client with the scope admin." required:"" env:"LOCKSTEP_CLIENT_ID"`
	SecretFile string `name:"client-secret-file" help:"File with its secret; or the secret in LOCKSTEP_CLIENT_SECRET." env:"LOCKSTEP_CLIENT_SECRET_FILE" type:"path"`
}

// Help is shown by --help.
func (c *AbortSagaCommand) Help() string {
	return `Asks a running node: only the engine may decide, under the lock of the transfer's row, so that a pivot which is under way
at the same time and the abort cannot both happen. After the pivot the abort is refused.`
}

// Run asks the node and tells what became of the transfer.
func (c *AbortSagaCommand) Run(ctx context.Context, out io.Writer) error {
	secret, err := c.secret()
	if err != nil {
		return err
	}
	operator, err := client.New(client.Config{BaseURL: c.URL, ClientID: c.ClientID, ClientSecret: secret, Patience: abortPatience})
	if err != nil {
		return err
	}
	defer operator.Close()
	aborted, err := operator.AbortSaga(ctx, c.ID)
	if err != nil {
		return fmt.Errorf("abort %s: %w", c.ID, err)
	}
	state := aborted.State
	if aborted.Transfer != nil {
		state = aborted.Transfer.State
	}
	_, err = fmt.Fprintf(out, "%s is %s\n", c.ID, state)
	return err
}

// abortPatience is how long a node may be away while an operator waits.
const abortPatience = 30 * time.Second

// secret comes from a file or a variable: what stands on a command line is seen by everybody on the machine.
func (c *AbortSagaCommand) secret() (string, error) {
	if c.SecretFile == "" {
		secret := os.Getenv("LOCKSTEP_CLIENT_SECRET")
		if secret == "" {
			return "", errors.New("give the client's secret by --client-secret-file or LOCKSTEP_CLIENT_SECRET")
		}
		return secret, nil
	}
	text, err := os.ReadFile(filepath.Clean(c.SecretFile))
	if err != nil {
		return "", fmt.Errorf("read the client's secret: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// withSagas opens the log of a system's sagas, without starting a node.
func withSagas(ctx context.Context, path string, work func(transferSagas, *store.Store) error) error {
	return withStore(ctx, path, func(config Config, db *store.Store) error {
		return work(transferSagas{saga.NewLog(sagaDatabase{db}, config.Peers.StuckAfter), db}, db)
	})
}
