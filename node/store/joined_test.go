package store

import (
	"bytes"
	"testing"

	"lockstep/saga"
)

// A batch that announces something leaves with all its arguments in its text: the driver would walk through its rows, byte by byte.
func TestAnAnnouncementLeavesNothingToTheDriver(t *testing.T) {
	t.Parallel()
	announcement := saga.Announce(saga.Message{ID: "0197a0b2-0000-7000-8000-000000000001", Destination: "beta", Events: []byte(`{"it's":"?"}`)})
	text, args := joined([]statement{{query: "INSERT INTO entries VALUES (1)"}, {announcement.Query, announcement.Args}})
	if len(args) > 0 || !bytes.Contains([]byte(text), []byte("x'7b2269742773223a223f227d'")) {
		t.Errorf("%d arguments are left of %s", len(args), text)
	}
}
