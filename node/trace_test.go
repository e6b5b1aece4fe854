package node_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lockstep/api/client"
	"lockstep/cluster/events"
)

// tracing sends requests that are part of a trace.
type tracing string

func (parent tracing) RoundTrip(request *http.Request) (*http.Response, error) {
	request.Header.Set("traceparent", string(parent))
	return http.DefaultTransport.RoundTrip(request)
}

// The trace of a client's request goes on to the other system, with the message and with the event in it.
func TestATraceGoesOnToTheOtherSystem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	traced, err := client.New(client.Config{
		BaseURL: "http://" + w.alpha.listen, ClientID: "tester", ClientSecret: secret,
		HTTPClient: &http.Client{Transport: tracing(parent), Timeout: patience},
	})
	must(t, err)
	t.Cleanup(traced.Close)
	payer, payee := w.alpha.funded("10"), w.beta.empty()
	transfer, err := traced.Transfer(w.context(), client.Payment{From: payer, To: payee, Amount: "7", Currency: krw})
	must(t, err)
	w.settle()

	conn, err := nats.Connect(w.broker.URL(), nats.UserInfo("beta", secret))
	must(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	must(t, err)
	inbound, err := js.Stream(w.context(), "IN-beta")
	must(t, err)
	var message *jetstream.RawStreamMsg
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if message, err = inbound.GetLastMsgForSubject(w.context(), events.Transfer("alpha", "beta", "committed")); err == nil || time.Now().After(end) {
			break
		}
	}
	must(t, err)
	list, _ := events.Unpack(message.Data)
	if len(list) != 1 || list[0].Subject != transfer.ID {
		t.Fatalf("the last message tells of %+v, wanted %s", list, transfer.ID)
	}
	if message.Header.Get("traceparent") != parent || list[0].Trace != parent {
		t.Errorf("the message has the trace %q and its event %q, wanted %s", message.Header.Get("traceparent"), list[0].Trace, parent)
	}
}
