package store_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/go-sql-driver/mysql"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

func TestErrorsAreSortedByWhatHelps(t *testing.T) {
	t.Parallel()
	server := func(number uint16) error { return &mysql.MySQLError{Number: number} }
	for _, known := range []struct {
		class  store.Class
		errors []error
	}{
		{store.ClassAgain, []error{server(1213), server(1020), server(1205)}},
		{store.ClassServer, []error{
			server(1040), server(1053), server(1290), server(1792), server(1836), server(1927),
			store.ErrMoved, driver.ErrBadConn, mysql.ErrInvalidConn, io.EOF, net.ErrClosed, context.DeadlineExceeded, context.Canceled,
			&net.OpError{Op: "dial", Err: errors.New("refused")},
		}},
		{store.ClassCommand, []error{
			server(4025), server(3819), server(1062), server(1264), server(1406), server(1969), server(3024), server(1317),
			server(65535), mysql.ErrPktTooLarge, errors.New("any other"),
		}},
	} {
		for _, err := range known.errors {
			wrapped := fmt.Errorf("%w: %w", store.ErrPoisoned, fmt.Errorf("lock accounts: %w", err))
			if class := store.ClassOf(wrapped); class != known.class {
				t.Errorf("%v is of class %v, wanted %v", err, class, known.class)
			}
		}
	}
}

// A read whose statement was killed, or took too long, did no harm and may be asked again: that is nobody's mistake.
func TestAnInterruptedReadIsAskedAgain(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	for _, number := range []uint16{1317, 1969, 3024} {
		_, err := db.Read(testContext(t), store.Consistency{Source: true}, func(context.Context, *store.Queries) error {
			return fmt.Errorf("read: %w", &mysql.MySQLError{Number: number})
		})
		if ledger.CodeOf(err) != ledger.SourceUnavailable {
			t.Errorf("a read that ended with %d: %v", number, err)
		}
	}
}

func TestAnUnreachableSourceIsAServerError(t *testing.T) {
	t.Parallel()
	config := storetest.Config(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, listener.Close())
	config.Source = "lockstep@tcp(" + listener.Addr().String() + ")/none"
	if _, err := store.Open(testContext(t), config); store.ClassOf(err) != store.ClassServer {
		t.Errorf("a refused connection is of class %v: %v", store.ClassOf(err), err)
	}
}
