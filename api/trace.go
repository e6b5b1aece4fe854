package api

import (
	"cmp"

	"lockstep/cluster/traces"
)

// untraced are routes that balancers and probes ask all the time.
var untraced = map[string]bool{"/livez": true, "/readyz": true}

// trace begins the request's span once its route is known, as of the time at which it came.
func (x *exchange) trace() {
	on := x.server.deps.Traces
	if on == nil || untraced[x.route.path] {
		return
	}
	ctx, span := on.Request(x.context(), x.route.method+" "+x.route.path, parentOf(x.header("traceparent")), x.started)
	if !span.Traced() {
		return
	}
	x.span = span
	x.fiber.SetUserContext(ctx)
}

// endTrace ends the request's span. Neither who asked nor what about is in it, beside the ids by which logs are found.
func (x *exchange) endTrace(status int) {
	if !x.span.Traced() {
		return
	}
	x.span.Note("http.request.method", x.fiber.Method())
	x.span.Note("http.route", x.route.path)
	x.span.Count("http.response.status_code", status)
	x.span.Note("lockstep.request_id", x.id)
	if status >= 500 {
		x.span.Fail("answered as a failure of ours")
	}
	x.span.End()
}

// parent is the traceparent under which what the request began goes on: of its span, or its own when nobody traces here.
func (x *exchange) parent() string {
	return cmp.Or(traces.Parent(x.context()), parentOf(x.header("traceparent")))
}
