package api

import (
	"context"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"lockstep/node/audit"
)

// Audit keeps records of who did what; *audit.Log does.
type Audit interface {
	Add(record audit.Record) (kept bool)
	Sync(ctx context.Context) error
}

// auditWaitMax bounds how long an answer is kept back until its record is stored.
const auditWaitMax = 2 * time.Second

// auditPathMax bounds what a record says of a path, which anybody may make as long as a request's head.
const auditPathMax = 256

// audit records what changes something, whatever came of it, and whoever was refused for what they are not; but not whom there
// was no room for, as often as they ask. The record of a payment follows within a moment, for the journal and the idempotency
// key tell of it already; anything else is not answered before its record is stored, unless the database takes no records.
func (x *exchange) audit() {
	log := x.server.deps.Audit
	if log == nil || x.route.path == "" {
		return
	}
	status := x.fiber.Response().StatusCode()
	signs := strings.HasPrefix(x.route.path, "/v1/auth/")
	refused := status == fiber.StatusUnauthorized || status == fiber.StatusForbidden
	crowd := status == fiber.StatusTooManyRequests || status == fiber.StatusServiceUnavailable
	if crowd || x.safe() && !signs && !refused {
		return
	}
	who := x.principal.Caller
	if who == "" {
		who = x.signed
	}
	on := string(x.fiber.Response().Header.Peek("Location"))
	if on == "" || !strings.HasPrefix(on, "/") || signs { // the address of a provider tells nothing, and a lot
		on = string(x.fiber.Request().URI().Path())
	}
	if len(on) > auditPathMax {
		on = strings.ToValidUTF8(on[:auditPathMax], "")
	}
	kept := log.Add(audit.Record{
		At: x.server.deps.Now().UTC(), Who: who, What: x.route.name(), On: on, From: x.address(), Status: status, Request: x.id,
	})
	if !kept {
		x.server.deps.Logger.Error("an audit record is lost, because too many wait for the database", "request_id", x.id)
		return
	}
	if x.keepsBooks() || status >= fiber.StatusBadRequest { // nothing was changed, or nobody knows
		return
	}
	ctx, cancel := context.WithTimeout(x.context(), auditWaitMax)
	defer cancel()
	if err := log.Sync(ctx); err != nil {
		x.server.deps.Logger.Error("an answer was given before its audit record was stored", "request_id", x.id, "error", err)
	}
}

// keepsBooks tells whether what the route does stands in the journal, or under an idempotency key, in the same
// transaction.
func (x *exchange) keepsBooks() bool {
	return x.route.access.peer || x.route.keyed && !strings.HasPrefix(x.route.path, "/v1/admin/") || x.route.path == "/v1/oauth/token"
}
