// Package broker runs one NATS server with JetStream, which carries the events between
// payment systems. It is behind the hidden command `lockstep broker`.
//
// # One account per system
//
// Each system has an account of its own, whose only user is named as the system. In its
// account it makes its own streams and consumers; it can neither name nor see those of
// another system. Between accounts there is exactly one kind of door: the receiver's
// account offers the subjects `lockstep.<from>.<to>.transfer.*` as a service to the
// account <from> alone. What comes through it lands in the receiver's stream, and the
// sender hears the receiver's acknowledgement.
//
// Users of one shared account with allowed and denied subjects are not enough. A client
// names the subject to which JetStream sends what it pulls, and that subject is not
// checked against the client's permissions: alpha can have a message of its own delivered
// to `lockstep.beta.gamma.transfer.committed`. The configuration of a stream or consumer
// can do the same, and copy another's stream as well. Permissions are set all the same,
// since they tell a mistake at once and by name.
//
// # What is acknowledged is on disk
//
// Streams are files, and each write is synced before it is acknowledged. (The server's
// own default syncs every two minutes, and a power cut takes what came since.)
//
// # What it does not do
//
// It reads its configuration once: a new system or password needs a restart, which
// clients sit out. It makes no streams; their owners do. It does not judge what is
// carried: events are signed by who sends them, and receivers verify that.
package broker
