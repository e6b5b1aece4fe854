// Lockstep is a payment node cluster; this is its one binary.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"lockstep/cluster/bench"
	"lockstep/cluster/broker"
	"lockstep/cluster/local"
	"lockstep/cluster/local/demo"
	"lockstep/cluster/local/idp"
	"lockstep/node"
	"lockstep/node/verify"
)

// version is set by the linker.
var version = "dev"

type commands struct {
	Up        local.UpCommand       `cmd:"" help:"Start a whole local cluster and stay with it."`
	Down      local.DownCommand     `cmd:"" help:"Stop the local cluster."`
	Ctl       local.CtlCommand      `cmd:"" help:"Control the processes of the local cluster."`
	Demo      demo.Command          `cmd:"" help:"Move money on the local cluster and prove that none was lost."`
	Node      node.Command          `cmd:"" help:"Run one node of a payment system."`
	Probe     node.ProbeCommand     `cmd:"" help:"Ask a node whether it is well; exit status 1 says that it is not."`
	Migrate   node.MigrateCommand   `cmd:"" help:"Bring the database schema up to date."`
	Clients   node.ClientsCommand   `cmd:"" help:"Manage the programs that may use a system."`
	Users     node.UsersCommand     `cmd:"" help:"Manage the people who may sign in to a system."`
	Keygen    node.KeygenCommand    `cmd:"" help:"Make the keys by which other systems know this one, and those of access tokens."`
	Peers     node.PeersCommand     `cmd:"" help:"Make other systems known, list and test them."`
	Sagas     node.SagasCommand     `cmd:"" help:"See transfers between systems that are under way, go on with them or give them up."`
	Backup    node.BackupCommand    `cmd:"" help:"Write all data of a system into a file."`
	Restore   node.RestoreCommand   `cmd:"" help:"Replace all data of a system by a backup."`
	Failover  node.FailoverCommand  `cmd:"" help:"Make a replica the source of a system whose source is lost."`
	Reconcile node.ReconcileCommand `cmd:"" help:"Compare a system's books with its peers' after a restore or a failover."`
	Verify    verify.Command        `cmd:"" help:"Recompute every invariant of the books from the journal."`
	Bench     bench.Command         `cmd:"" help:"Measure the engine against SQL by hand, in one run."`
	Broker    broker.Command        `cmd:"" hidden:"" help:"Run the NATS server that carries events between systems."`
	IDP       idp.Command           `cmd:"" name:"idp" hidden:"" help:"Run the OpenID provider of a local cluster where there is no Node."`
	Version   versionCommand        `cmd:"" help:"Print the version."`
}

type versionCommand struct{}

func (versionCommand) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, "lockstep", version)
	return err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cli commands
	parser := kong.Must(&cli, kong.Name("lockstep"), kong.UsageOnError(),
		kong.Description("Payment nodes that neither lose, create nor double money."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(os.Stdout, (*io.Writer)(nil)), kong.Bind(node.Version(version)))
	command, err := parser.Parse(os.Args[1:])
	if err != nil {
		parser.Errorf("%s", err)
		os.Exit(2)
	}
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "lockstep:", err)
		stop()
		os.Exit(1)
	}
}
