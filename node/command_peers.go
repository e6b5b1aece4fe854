package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/api/auth"
	"lockstep/api/httpsig"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// KeygenCommand is `lockstep keygen`.
type KeygenCommand struct {
	ConfigFlags
	Rotate   bool          `help:"Make the next key; the ones before it retire when it becomes active."`
	ActiveIn time.Duration `help:"When the next key begins to sign: until then every peer has to have pinned the new set." default:"24h"`
	Tokens   bool          `help:"Make the next key of access tokens instead; it signs 30 s later, when every node knows it."`
	Out      string        `help:"Write the key set there instead of printing it." type:"path"`
}

// Help is shown by --help.
func (c *KeygenCommand) Help() string {
	return `Makes the key by which other systems know this one, if there is none yet, and prints the public key set (JWKS) for
'lockstep peers add --jwks-file' on the other side. With --rotate it makes the next key: print the set, have every peer
pin it, and the new key begins to sign after --active-in. With --tokens --rotate it makes the next key of access tokens, of
which nobody outside has to be told.`
}

// Run makes keys and shows the public ones.
func (c *KeygenCommand) Run(ctx context.Context, out io.Writer) error {
	if c.Tokens {
		return c.rotateTokens(ctx)
	}
	return withStore(ctx, c.Config, func(config Config, db *store.Store) error {
		keys, err := auth.OpenPeerKeys(ctx, authConfig(config, db, newLogger("warn")))
		if err != nil {
			return err
		}
		if c.Rotate {
			if err := keys.Rotate(ctx, c.ActiveIn); err != nil {
				return err
			}
		}
		if c.Out != "" {
			return os.WriteFile(c.Out, keys.JWKS(), 0o644)
		}
		_, err = fmt.Fprintf(out, "%s\n", keys.JWKS())
		return err
	})
}

func (c *KeygenCommand) rotateTokens(ctx context.Context) error {
	if !c.Rotate {
		return errors.New("--tokens makes the next key of access tokens: say --rotate as well; the first is made by the first node")
	}
	return withAuthority(ctx, c.Config, func(authority *auth.Authority) error { return authority.RotateKey(ctx) })
}

// PeersCommand is `lockstep peers`.
type PeersCommand struct {
	Add  AddPeerCommand   `cmd:"" help:"Make another system known, or give it another address, other keys or another cap."`
	List ListPeersCommand `cmd:"" help:"List the systems that are known, and what they owe."`
	Test TestPeerCommand  `cmd:"" help:"Ask a system something signed, and check its signature."`
}

// AddPeerCommand is `lockstep peers add`.
type AddPeerCommand struct {
	ConfigFlags
	ID       string            `name:"id" help:"Id of the other system." required:""`
	URL      string            `name:"url" help:"Where it is reached, such as https://pay.example.com." required:""`
	JWKSFile string            `name:"jwks-file" help:"Its public keys, from its 'lockstep keygen'. Without it they are read from --url, once, over https only or from this machine."`
	Cap      map[string]string `help:"What it may owe at most, by currency, such as KRW=1000000. Without one there is no bound." placeholder:"CUR=AMOUNT"`
}

// Run writes the peer.
func (c *AddPeerCommand) Run(ctx context.Context, out io.Writer) error {
	base, err := peers.ParseBaseURL(c.URL)
	if err != nil {
		return err
	}
	if !ledger.ValidSystem(c.ID) {
		return fmt.Errorf("--id: %q is no id of a payment system", c.ID)
	}
	jwks, err := c.keys(ctx)
	if err != nil {
		return err
	}
	keys, err := httpsig.ParseJWKS(jwks)
	if err != nil || len(keys) == 0 {
		return errors.Join(errors.New("the key set has no Ed25519 key"), err)
	}
	return withStore(ctx, c.Config, func(config Config, db *store.Store) error {
		if c.ID == config.System {
			return fmt.Errorf("--id: %s is this system itself", c.ID)
		}
		peer := store.PeerRow{ID: c.ID, BaseURL: strings.TrimSuffix(base.String(), "/"), JWKS: string(jwks), Epoch: 1}
		if err := db.PutPeer(ctx, peer); err != nil {
			return err
		}
		if err := c.caps(ctx, db); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out, "%s is known at %s with %d keys; nodes notice within seconds\n", c.ID, peer.BaseURL, len(keys))
		return err
	})
}

func (c *AddPeerCommand) caps(ctx context.Context, db *store.Store) error {
	for code, amount := range c.Cap {
		currency, err := ledger.ParseCurrency(code)
		if err != nil {
			return fmt.Errorf("--cap: %w", err)
		}
		limit, err := ledger.ParseLimit(amount, currency)
		if err != nil {
			return fmt.Errorf("--cap %s: %w", code, err)
		}
		if err := db.CapPeer(ctx, ledger.ExposureKey{Peer: c.ID, Currency: currency}, &limit.Minor); err != nil {
			return err
		}
	}
	return nil
}

// keys are the peer's own word about its keys, from a file or from where only it can answer.
func (c *AddPeerCommand) keys(ctx context.Context) ([]byte, error) {
	if c.JWKSFile != "" {
		return os.ReadFile(filepath.Clean(c.JWKSFile))
	}
	base, err := peers.ParseBaseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if host := base.Hostname(); base.Scheme != "https" && host != "127.0.0.1" && host != "localhost" {
		return nil, errors.New("keys that come over plain http could be anybody's: give them by --jwks-file")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.URL, "/")+"/peer/v1/jwks.json", nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return nil, fmt.Errorf("read the keys of %s: %w", c.ID, err)
	}
	defer response.Body.Close()
	const bytesMax = 4000
	return io.ReadAll(io.LimitReader(response.Body, bytesMax))
}

// ListPeersCommand is `lockstep peers list`.
type ListPeersCommand struct{ ConfigFlags }

// Run prints the peers.
func (c *ListPeersCommand) Run(ctx context.Context, out io.Writer) error {
	return withStore(ctx, c.Config, func(_ Config, db *store.Store) error {
		return atSource(ctx, db, func(ctx context.Context, q *store.Queries) error {
			rows, err := q.Peers(ctx)
			if err != nil {
				return err
			}
			exposures, err := q.Exposures(ctx)
			if err != nil {
				return err
			}
			for _, row := range rows {
				keys, _ := httpsig.ParseJWKS([]byte(row.JWKS)) // an unreadable set shows no keys
				var ids []string
				for _, key := range keys {
					ids = append(ids, key.KeyID)
				}
				fmt.Fprintf(out, "%-16s %s  epoch %d  keys %s\n", row.ID, row.BaseURL, row.Epoch, strings.Join(ids, ", "))
				for _, e := range exposures {
					if e.Peer == row.ID {
						fmt.Fprintf(out, "    %s\n", describe(e))
					}
				}
			}
			return nil
		})
	})
}

// describe says what a peer owes.
func describe(e ledger.Exposure) string {
	money := func(minor int64) string { return ledger.Money{Minor: minor, Currency: e.Currency}.Decimal() }
	limit := "no cap"
	if e.Capped {
		limit = "cap " + money(e.Cap)
	}
	return fmt.Sprintf("%s owes %s (promised %s, credited %s, we sent %s, settled %s), %s", e.Currency, money(e.Open()), money(e.Reserved),
		money(e.Credited), money(e.Posted), money(e.Settled), limit)
}

// TestPeerCommand is `lockstep peers test`.
type TestPeerCommand struct {
	ConfigFlags
	ID string `arg:"" help:"Id of the other system."`
}

// Run tells the peer our epoch, which changes nothing that was not so, and checks the signature of its answer.
func (c *TestPeerCommand) Run(ctx context.Context, out io.Writer) error {
	return withStore(ctx, c.Config, func(config Config, db *store.Store) error {
		log := newLogger("warn")
		keys, err := auth.OpenPeerKeys(ctx, authConfig(config, db, log))
		if err != nil {
			return err
		}
		directory, err := peers.OpenDirectory(ctx, config.System, keys, loadPeers(db), log)
		if err != nil {
			return err
		}
		defer directory.Close()
		began := time.Now()
		client, err := config.peerClient(directory, db.Epoch, prometheus.NewRegistry())
		if err != nil {
			return err
		}
		defer client.Close()
		theirs, err := client.TellEpoch(ctx, c.ID)
		if err != nil {
			return fmt.Errorf("%w\ncheck the address, that both sides have pinned each other's keys, and both clocks", err)
		}
		_, err = fmt.Fprintf(out, "%s answers and its signature holds: epoch %d, %s\n", c.ID, theirs, time.Since(began).Round(time.Millisecond))
		return err
	})
}

// withStore opens a system's database, without starting a node.
func withStore(ctx context.Context, path string, work func(Config, *store.Store) error) error {
	config, err := Load(path, nil)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, storeConfig(config, newLogger("warn")))
	if err != nil {
		return err
	}
	defer db.Close()
	return work(config, db)
}
