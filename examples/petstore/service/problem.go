package service

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
)

// Problem is a refusal that a client may read, as application/problem+json (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"` // for programs
	Detail string `json:"detail"`
	Items  any    `json:"items,omitempty"` // what is short of what, for out_of_stock

	Instance string `json:"instance,omitempty"` // where to read more
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// Refuse makes a problem.
func Refuse(status int, code, detail string) *Problem {
	return &Problem{Type: "/problems/" + code, Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// The codes that more than one package knows.
const (
	OutOfStock  = "out_of_stock" // with Items
	OrderFailed = "order_failed" // the order ended before its reservation arrived
	NotFound    = "not_found"
	Unavailable = "unavailable" // it may have happened or not: ask
)

// Handle makes a handler of work that answers with a value, or fails. A failure that is no Problem is logged and answered
// as 503: whoever asked cannot know what has happened, and has to ask again.
func Handle(log *slog.Logger, work func(r *http.Request) (status int, answer any, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, answer, err := work(r)
		contentType := "application/json"
		if err != nil {
			var problem *Problem
			if !errors.As(err, &problem) {
				log.Error("a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
				problem = Refuse(http.StatusServiceUnavailable, Unavailable, "What became of the request is not known now: ask again.")
				w.Header().Set("Retry-After", "1")
			}
			status, answer, contentType = problem.Status, problem, "application/problem+json"
		}
		body, err := json.Marshal(answer)
		if err != nil {
			log.Error("an answer cannot be written", "path", r.URL.Path, "error", err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write(append(body, '\n')) // a client that has left asks again
	})
}

// bodyMax in bytes is what a request may be long.
const bodyMax = 64 << 10

// Decode reads the JSON body of a request, and refuses fields that it does not know.
func Decode[T any](r *http.Request) (into T, err error) {
	decoder := json.NewDecoder(http.MaxBytesReader(nil, r.Body, bodyMax))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&into); err != nil {
		return into, Refuse(http.StatusBadRequest, "invalid_request", "The body cannot be read: "+err.Error())
	}
	return into, nil
}
