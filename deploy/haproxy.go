package deploy

import (
	"encoding/json"
	"fmt"
	"io"
)

// bodyBytesMax is the longest request body that the REST interface takes.
const bodyBytesMax = 64 << 10

// HAProxy is what haproxy.cfg.tmpl asks for.
type HAProxy struct {
	System string
	Listen string   // host:port
	Nodes  []string // host:port each
	Script string   // where the text of TooLargeScript is

	Certificate string // file (PEM) with the listener's certificate and key; empty serves in clear
	NodesCA     string // file (PEM) with the authority of the nodes' certificates; empty speaks to them in clear
	Resolver    string // host:port of the DNS server that knows the nodes' names, which may come and go; empty: addresses stay
}

// Render writes the balancer's configuration file.
func (h HAProxy) Render(w io.Writer) error {
	return render(w, "haproxy.cfg.tmpl", struct {
		HAProxy
		BodyBytesMax   int
		TooLarge       problem
		TooLargeKorean problem
		Problems       []problem
	}{
		h, bodyBytesMax,
		tooLarge("Payload too large", "A request body may have at most 64 KiB."+earlier),
		tooLarge("요청 본문이 너무 큼", "요청 본문은 최대 64KiB까지 허용됩니다. 같은 Idempotency-Key로 보낸 이전 요청이 확정된 응답을 받지 못했다면, 같은 키로 다시 요청하여 결과를 확인하세요."),
		problems(),
	})
}

// problem is an error that the balancer answers by itself, after RFC 9457.
type problem struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail"`
	Code       string `json:"code"`
	Outcome    string `json:"outcome"` // of this request, as far as the balancer can tell
	Retry      string `json:"retry"`
	RequestID  string `json:"request_id"`
	RetryAfter int    `json:"-"` // seconds; 0 sends none
}

const earlier = " An earlier request with the same Idempotency-Key that had no definite answer" +
	" is asked about by repeating it with the same key."

func tooLarge(title, detail string) problem {
	return problem{
		Status: 413, Code: "payload_too_large", Outcome: "not_applied", Retry: "never", Title: title, Detail: detail,
	}
}

// problems lists the balancer's own answers. It cannot know what a node did whose
// answer it did not get: 502 and 504 are unknown, and only the same request with
// the same key tells. Its 503 means that no node was reached.
func problems() []problem {
	const lost = "The answer of the node was lost. Repeat the same request with the same Idempotency-Key to learn the outcome."
	return []problem{
		{
			Status: 400, Code: "invalid_request", Outcome: "not_applied", Retry: "never",
			Title: "Invalid request", Detail: "The request is not well-formed HTTP." + earlier,
		}, {
			Status: 408, Code: "request_timeout", Outcome: "not_applied", Retry: "same-key",
			Title: "Request timeout", Detail: "The request did not arrive in time." + earlier,
		}, {
			Status: 500, Code: "internal", Outcome: "unknown", Retry: "same-key",
			Title: "Internal error", Detail: lost,
		}, {
			Status: 502, Code: "gateway_unknown", Outcome: "unknown", Retry: "same-key",
			Title: "Outcome unknown", Detail: lost,
		}, {
			Status: 503, Code: "overloaded", Outcome: "not_applied", Retry: "later", RetryAfter: 1,
			Title: "Overloaded", Detail: "No node takes requests at the moment; nothing was sent to one." + earlier,
		}, {
			Status: 504, Code: "gateway_unknown", Outcome: "unknown", Retry: "same-key",
			Title: "Outcome unknown", Detail: lost,
		},
	}
}

// problemPage is a problem as a log-format string between single quotes of an
// HAProxy configuration, which puts in the request's id.
func problemPage(p problem) (string, error) {
	p.Type, p.RequestID = "/problems/"+p.Code, "%[unique-id]"
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encode problem %s: %w", p.Code, err)
	}
	return string(text), nil
}
