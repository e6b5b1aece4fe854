// Package local runs a whole cluster on one machine, as child processes: payment
// systems with their MariaDB source and replicas, three Redis servers, nodes and a
// balancer each. It is behind `lockstep up`, `down` and `ctl`, and tests that kill
// and freeze servers use it by its Go interface.
//
// # Flow
//
// Start claims the directory by a lock file, ends what a crashed supervisor left
// (package process tells by pid file and start time), finds or makes the secrets,
// and fixes the ports. Each process is a member, which knows its program, how to
// prepare its first start, and how to tell that it is ready. The systems start at
// the same time, after the NATS server that all of them share, each in tiers:
//
//	MariaDB source and replicas, Redis     all at once
//	replication                            when source and replicas answer
//	schema, clients and people             by `lockstep migrate`, `clients add` and `users add`
//	nodes                                  all at once
//	balancer                               ready when it reaches a node
//
// From then on a member that dies is started again after a pause that grows to
// 1.5 s, unless it is kept down. Close stops the tiers in reverse order; nodes drain,
// databases end in order.
//
// # The directory
//
//	credentials.json    all that clients need (0600)
//	secrets.json        what stays the same over restarts (0600)
//	lock                locked while a supervisor runs
//	supervisor.pid      that supervisor
//	run/NAME.pid        each process
//	logs/NAME.log       what each process says; supervisor.log with --detach
//	nats-1/...          configuration and streams of NATS
//	SYSTEM/...          configurations and data
//	SYSTEM/roles.json   which server is the source, after a failover
//
// # What it does not do
//
// It guards nothing against other users of the machine beyond file modes, loopback
// addresses and passwords: it is for development, tests and demonstrations.
// DESIGN.md tells how it replaces a source that is lost.
package local
