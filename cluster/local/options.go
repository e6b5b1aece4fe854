package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Bounds of a local cluster. They keep its ports inside their blocks of ten.
const (
	systemsMax  = 8
	nodesMax    = 9
	replicasMax = 6
	redisCount  = 3 // the locks need a quorum of two
)

// failoverAfter is longer than a killed source takes to come back, as a rule.
const failoverAfter = 4 * time.Second

// DefaultPortBase is where alpha's balancer listens unless told otherwise.
const DefaultPortBase = 8080

// Options say what cluster to run. The zero value of a field means its default;
// Default spells them out.
type Options struct {
	Dir      string   // everything of the cluster lives here
	Systems  []string // ids of the payment systems
	Nodes    int      // per system
	Guests   []string // programs beside the systems that have an account of their own at NATS, named like systems
	Replicas int      // of MariaDB, per system; may be 0
	PortBase int      // 0 picks free ports, which differ at each start

	Binary     string         // the lockstep program that nodes and NATS run
	NodeConfig map[string]any // keys added to each node's configuration file and to its sections, such as faults
	NodeEnv    []string       // environment added to each node's own, as NAME=value

	// Via puts something between two processes, such as a proxy: it tells by which address one reaches the other, and
	// always the same. From is a node, or a system that calls the other's balancer. Nil: by its own address.
	Via func(from, to, address string) string

	IDP        string // the OpenID provider of its people: IDPAuto, IDPNode or IDPBuiltin; default none
	IDPModules string // where npm's provider is, or is put; default below Dir

	ServersOnly bool   // MariaDB and Redis, without nodes and balancer, and NATS only if Binary is set
	Schemas     string // the pattern of schemas that accounts may use; default `lockstep`

	// FailoverAfter is how long a source may give no answer until one of its replicas is promoted; negative is never. With
	// fewer than two replicas it is never: the source may have acknowledged commits that nobody else has.
	FailoverAfter time.Duration

	BufferPoolMB int           // of each MariaDB
	StartWait    time.Duration // how long one process may take until it is ready
	Progress     func(Event)   // told what happens; called from one goroutine at a time
}

// Event is one line of progress.
type Event struct {
	At      time.Time
	Process string // empty speaks of the whole cluster
	Text    string
}

// Default is the cluster that `lockstep up` starts: alpha and beta, two nodes
// each, one replica each, on the well-known ports, under .lockstep.
func Default() Options {
	return Options{
		Dir: ".lockstep", Systems: SystemNames(2), Nodes: 2, Replicas: 1, PortBase: DefaultPortBase, IDP: IDPAuto,
		Guests: exampleGuests(),
	}
}

// exampleGuests are the services of examples/ that tell each other events.
func exampleGuests() []string { return []string{"order", "product"} }

// SystemNames returns the first n ids of local systems: alpha, beta, gamma, ...
func SystemNames(n int) []string {
	names := []string{"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"}
	return names[:min(max(n, 0), len(names))]
}

// Validate refuses what cannot run, naming the option.
func (o Options) Validate() error {
	switch {
	case o.Dir == "":
		return errors.New("the directory of the cluster is not set: --dir")
	case len(o.Systems) < 1 || len(o.Systems) > systemsMax:
		return fmt.Errorf("--systems must be 1 to %d", systemsMax)
	case !o.ServersOnly && (o.Nodes < 1 || o.Nodes > nodesMax):
		return fmt.Errorf("--nodes must be 1 to %d", nodesMax)
	case o.Replicas < 0 || o.Replicas > replicasMax:
		return fmt.Errorf("--replicas must be 0 to %d", replicasMax)
	case !slices.Contains([]string{"", IDPAuto, IDPNode, IDPBuiltin, IDPNone}, o.IDP):
		return fmt.Errorf("--idp must be %s, %s, %s or %s", IDPAuto, IDPNode, IDPBuiltin, IDPNone)
	case o.PortBase != 0 && (o.PortBase < 1024 || o.PortBase > portBaseMax):
		return fmt.Errorf("--port-base must be 1024 to %d", portBaseMax)
	}
	return nil
}

// failsOver tells whether a lost source is replaced.
func (o Options) failsOver() bool {
	return o.FailoverAfter > 0 && !o.ServersOnly && o.Replicas >= followersMin
}

// complete fills in the defaults and makes paths absolute: children have
// working directories of their own.
func (o Options) complete() (Options, error) {
	if err := o.Validate(); err != nil {
		return o, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, fmt.Errorf("find directory %s: %w", o.Dir, err)
	}
	o.Dir = dir
	if o.Binary == "" && !o.ServersOnly {
		if o.Binary, err = os.Executable(); err != nil {
			return o, fmt.Errorf("find our own program: %w", err)
		}
	}
	if o.IDP == "" {
		o.IDP = IDPNone
	}
	if o.IDPModules == "" {
		o.IDPModules = filepath.Join(o.Dir, idpName)
	}
	if o.Schemas == "" {
		o.Schemas = schemaName
	}
	if o.Via == nil {
		o.Via = func(_, _, address string) string { return address }
	}
	if o.BufferPoolMB == 0 {
		o.BufferPoolMB = 256
	}
	if o.FailoverAfter == 0 {
		o.FailoverAfter = failoverAfter
	}
	if o.StartWait == 0 {
		o.StartWait = time.Minute
	}
	return o, nil
}
