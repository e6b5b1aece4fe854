package api

import (
	"errors"
	"io"
	"net"

	"github.com/valyala/fasthttp"

	"lockstep/node/ledger"
)

// Bounds of request bodies. A body above the first is read to its end, up to the second, before it is refused: a
// connection that is closed while the client still sends loses the answer on its way through a balancer.
const (
	bodyBytesMax  = 64 << 10
	drainBytesMax = 16 << 20
)

// bodyKey is where intake leaves the body, or why there is none.
const bodyKey = "lockstep.body"

type intakeBody struct {
	bytes   []byte
	refusal *ledger.Error
}

// intake reads every request's body before anything is decided about the request. What is not read stays on the
// connection and would be taken for the next request, so nothing may run before it and no path may go around it.
func (s *Server) intake(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		body, err := takeIn(ctx.RequestBodyStream())
		ctx.SetUserValue(bodyKey, body)
		if err != nil {
			ctx.SetConnectionClose()
		}
		if !knownMethod(string(ctx.Method())) { // fiber would answer these in plain text
			c := s.app.AcquireCtx(ctx)
			defer s.app.ReleaseCtx(c)
			_ = s.handleServerError(c, ledger.Refuse(ledger.MethodNotAllowed, "there is no such method"))
			return
		}
		next(ctx)
	}
}

// takeIn reads a body. The error says that the connection is of no further use.
func takeIn(stream io.Reader) (intakeBody, error) {
	if stream == nil {
		return intakeBody{}, nil
	}
	body, err := io.ReadAll(io.LimitReader(stream, bodyBytesMax+1))
	if err != nil {
		return intakeBody{refusal: unreadable(err)}, err
	}
	if len(body) <= bodyBytesMax {
		return intakeBody{bytes: body}, nil
	}
	tooLarge := intakeBody{refusal: ledger.Refuse(ledger.PayloadTooLarge, "a body has at most %d bytes", bodyBytesMax)}
	rest, err := io.Copy(io.Discard, io.LimitReader(stream, drainBytesMax))
	if err == nil && rest == drainBytesMax {
		err = errors.New("there is no end of the body")
	}
	return tooLarge, err
}

func unreadable(err error) *ledger.Error {
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		return &ledger.Error{Code: requestTimeout}
	}
	return ledger.Refuse(ledger.InvalidRequest, "the body could not be read to its end")
}

func knownMethod(method string) bool {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE":
		return true
	}
	return false
}
