package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"lockstep/api/auth"
	"lockstep/node/store"
)

// Version is what the binary was built from.
type Version string

// ConfigFlags are shared by the commands that work on one system.
type ConfigFlags struct {
	Config string `help:"Configuration file (YAML); LOCKSTEP_... variables and flags override it." required:"" type:"existingfile" short:"c"`
}

// Command is `lockstep node`.
type Command struct {
	ConfigFlags
	Listen      string `help:"Address of the REST listener, host:port."`
	AdminListen string `help:"Address of the metrics listener, host:port."`
	AllowUnsafe bool   `help:"Start although the database may lose acknowledged commits. Never with real money."`
}

// Help is shown by --help.
func (c *Command) Help() string {
	return "Serves REST until SIGTERM; then readyz turns red, requests in flight are finished, and the node ends."
}

// Run serves until ctx ends, or until another process owns this node's id.
func (c *Command) Run(ctx context.Context, version Version) error {
	overrides := map[string]any{}
	if c.Listen != "" {
		overrides["listen"] = c.Listen
	}
	if c.AdminListen != "" {
		overrides["admin_listen"] = c.AdminListen
	}
	if c.AllowUnsafe {
		overrides["allow_unsafe"] = true
	}
	config, err := Load(c.Config, overrides)
	if err != nil {
		return err
	}
	collectSeldom()
	node, err := Open(ctx, config, version, newLogger(config.LogLevel))
	if err != nil {
		return err
	}
	return node.Run(ctx)
}

// collectSeldom trades memory for time: a node's live heap is small, so collecting it at twice its size would keep the
// collector busy. Above the soft limit it works as hard as it must. GOGC and GOMEMLIMIT override both.
func collectSeldom() {
	const percent, bytesMax = 400, 150 << 20
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytesMax)
	}
}

func newLogger(level string) *slog.Logger {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		least = slog.LevelInfo
	}
	return logTo(os.Stderr, least)
}

func logTo(out io.Writer, least slog.Leveler) *slog.Logger {
	return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: least, ReplaceAttr: redact}))
}

// MigrateCommand is `lockstep migrate`.
type MigrateCommand struct{ ConfigFlags }

// Run brings the schema up to date; several may run at once.
func (c *MigrateCommand) Run(ctx context.Context) error {
	config, err := Load(c.Config, nil)
	if err != nil {
		return err
	}
	if config.MySQL.Migrate == "" {
		return fmt.Errorf("configuration %s: mysql.migrate: name the database account that may change the schema", c.Config)
	}
	return store.Migrate(ctx, config.MySQL.Migrate, config.System, newLogger(config.LogLevel))
}

// ClientsCommand is `lockstep clients`.
type ClientsCommand struct {
	Add  AddClientCommand   `cmd:"" help:"Create a client, or give it this name, these scopes and this secret."`
	List ListClientsCommand `cmd:"" help:"List the clients."`
}

// AddClientCommand is `lockstep clients add`.
type AddClientCommand struct {
	ConfigFlags
	ID         string `name:"id" help:"Client id." required:""`
	Name       string `help:"What people call it." required:""`
	Scopes     string `help:"Scopes, separated by blanks." required:""`
	Owner      string `help:"Principal that it acts for, such as user:alice; the default is itself."`
	SecretFile string `help:"File with the secret, at least 32 characters." required:"" type:"existingfile"`
}

// Run writes the client.
func (c *AddClientCommand) Run(ctx context.Context, out io.Writer) error {
	secret, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return fmt.Errorf("read secret: %w", err)
	}
	scopes, err := auth.ParseScopes(c.Scopes)
	if err != nil {
		return err
	}
	client := auth.NewClient{ID: c.ID, Name: c.Name, Scopes: scopes, Owner: c.Owner}
	return withAuthority(ctx, c.Config, func(authority *auth.Authority) error {
		if err := authority.PutClient(ctx, client, strings.TrimSpace(string(secret))); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out, "client %s may: %s\n", c.ID, c.Scopes)
		return err
	})
}

// ListClientsCommand is `lockstep clients list`.
type ListClientsCommand struct{ ConfigFlags }

const clientsPage = 200

// Run prints the clients, never their secrets.
func (c *ListClientsCommand) Run(ctx context.Context, out io.Writer) error {
	return withAuthority(ctx, c.Config, func(authority *auth.Authority) error {
		for after := ""; ; {
			clients, err := authority.ListClients(ctx, after, clientsPage)
			if err != nil || len(clients) == 0 {
				return err
			}
			for _, client := range clients {
				fmt.Fprintf(out, "%-24s %-32s %s\n", client.ID, client.Name, client.Scopes)
				after = client.ID
			}
		}
	})
}

// withAuthority opens what changing clients needs, without starting a node.
func withAuthority(ctx context.Context, path string, work func(*auth.Authority) error) error {
	return withStore(ctx, path, func(config Config, db *store.Store) error {
		authority, err := openAuthority(ctx, config, db, newLogger("warn"))
		if err != nil {
			return err
		}
		defer authority.Close()
		return work(authority)
	})
}
