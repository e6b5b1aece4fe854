package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

var (
	// ErrPoisoned refuses the use of a transaction after its first error. It wraps that error.
	ErrPoisoned = errors.New("the transaction has failed and can only be rolled back")
	// ErrCommitUnknown is any error from COMMIT itself: the changes may be there or not, now or a moment later.
	ErrCommitUnknown = errors.New("the outcome of COMMIT is unknown")
	// ErrMiss says that there is no such row.
	ErrMiss = errors.New("no such row")
	// ErrMoved says that another server became the source while a connection was made. Nothing was sent, and the next one leads there.
	ErrMoved = errors.New("the source is another server now")
	// ErrDone refuses the use of a transaction after Commit or Rollback: our own bug.
	ErrDone = errors.New("the transaction has ended")
)

// Class sorts the errors that come before COMMIT by what helps.
type Class int

// The classes of errors.
const (
	ClassCommand Class = iota // one command of the batch is to blame: run them one by one
	ClassAgain                // nothing is to blame: run the same again
	ClassServer               // the server or the way to it: a new connection, then give up
)

func (c Class) String() string {
	switch c {
	case ClassAgain:
		return "again"
	case ClassServer:
		return "server"
	default:
		return "command"
	}
}

// The server's error numbers that decide a class; all others are ClassCommand.
const (
	errorDuplicate = 1062 // a row with this key is there, or was when its transaction committed
	errorLockWait  = 1205 // rolls back the statement at most
	errorDeadlock  = 1213 // rolls back the transaction; later statements would start another
	errorChanged   = 1020 // "record has changed since last read": as 1213
	errorReadOnly  = 1290 // the server takes no writes

	errorInterrupted = 1317 // somebody killed the statement
	errorTooLong     = 1969 // it ran for longer than statements may; a server that was frozen counts that time
	errorTooLong8    = 3024 // the same of MySQL
)

// serverErrors lists numbers that speak of the server, not of a statement.
func serverErrors() []uint16 {
	return []uint16{
		1021, 1037, 1038, 1041, // disk full, out of memory
		1040, 1203, 1226, // too many connections
		1042, 1043, 1044, 1045, 1129, 1130, 1142, 1227, 1698, // the way in
		1053, 1077, 1079, // shutting down
		1152, 1158, 1159, 1160, 1161, 1184, // network, seen from the server
		1049, 1146, // no schema: a restored or wrong server
		errorReadOnly, 1792, 1836, // read-only
		1927, 3169, 4031, // connection killed or timed out
	}
}

// ClassOf sorts an error from before COMMIT. An error of COMMIT (ErrCommitUnknown) has no class: ask first.
func ClassOf(err error) Class {
	var fromServer *mysql.MySQLError
	if errors.As(err, &fromServer) {
		switch {
		case fromServer.Number == errorLockWait, fromServer.Number == errorDeadlock, fromServer.Number == errorChanged:
			return ClassAgain
		case slices.Contains(serverErrors(), fromServer.Number):
			return ClassServer
		}
		return ClassCommand
	}
	if brokenConnection(err) {
		return ClassServer
	}
	return ClassCommand
}

// brokenConnection tells whether no answer came: dial errors, driver errors and the end of a context, on which the
// driver closes the connection.
func brokenConnection(err error) bool {
	for _, sign := range []error{
		ErrMoved, driver.ErrBadConn, mysql.ErrInvalidConn, mysql.ErrMalformPkt, mysql.ErrPktSync, mysql.ErrPktSyncMul,
		mysql.ErrBusyBuffer, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, sign) {
			return true
		}
	}
	var network net.Error
	var system syscall.Errno
	return errors.As(err, &network) || errors.As(err, &system)
}

// LockWait tells whether a row lock was waited for in vain, error 1205.
func LockWait(err error) bool { return is(err, errorLockWait) }

// Interrupted tells whether the server ended a statement before its time: because it was killed, or took too long. Once that
// may be for the server's reasons; a statement that never gets to its end has reasons of its own, which is why its class is
// ClassCommand.
func Interrupted(err error) bool { return is(err, errorInterrupted, errorTooLong, errorTooLong8) }

// is tells whether the server answered with this number.
func is(err error, numbers ...uint16) bool {
	var fromServer *mysql.MySQLError
	return errors.As(err, &fromServer) && slices.Contains(numbers, fromServer.Number)
}
