package client

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
)

// Outcome is what a problem says became of the request that it answers, and of no earlier one with the same key.
type Outcome string

// The outcomes.
const (
	NotApplied Outcome = "not_applied"
	Unknown    Outcome = "unknown"
	Applied    Outcome = "applied"
)

// Retry is the advice of a problem.
type Retry string

// The advices.
const (
	Never   Retry = "never"
	SameKey Retry = "same-key"
	NewKey  Retry = "new-key"
	Later   Retry = "later" // with the same key, after Retry-After
)

// Problem is a refusal (RFC 9457). As the error of a change it means that nothing was changed by it.
type Problem struct {
	Type      string  `json:"type"`
	Title     string  `json:"title"`
	Status    int     `json:"status"`
	Detail    string  `json:"detail"`
	Code      string  `json:"code"` // such as insufficient_funds; empty when the answer was not the system's
	Outcome   Outcome `json:"outcome"`
	Retry     Retry   `json:"retry"`
	RequestID string  `json:"request_id"`
}

func (p *Problem) Error() string {
	if p.Code == "" {
		return fmt.Sprintf("status %d, not from the payment system", p.Status)
	}
	return fmt.Sprintf("%s (%d): %s", p.Code, p.Status, p.Detail)
}

// decided tells whether the problem was decided under the claim of the request's key, so that it speaks of every
// request that was ever sent with it. An invalid request (400) is refused before the claim is read: another node, newer
// or configured otherwise, may have taken the same request.
func (p *Problem) decided() bool {
	switch {
	case p.Code == "" || p.Outcome != NotApplied:
		return false
	case p.Status == http.StatusServiceUnavailable:
		return p.Retry == NewKey
	case p.Code == "not_found": // the path itself: this node may be older than the one that was asked before
		return false
	}
	switch p.Status {
	case http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// problemOf reads the problem that an answer of 300 or more is. One that is not problem+json comes from something
// between us and the system: a server error then leaves the outcome unknown, anything else was not passed on.
func problemOf(status int, header http.Header, body []byte) *Problem {
	kind, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	var problem Problem
	if kind == "application/problem+json" && json.Unmarshal(body, &problem) == nil && problem.Code != "" {
		problem.Status = status
		return &problem
	}
	foreign := Problem{
		Title: http.StatusText(status), Status: status, Outcome: NotApplied, Retry: Never, RequestID: header.Get("Request-Id"),
	}
	switch {
	case status >= 500 || status == http.StatusRequestTimeout:
		foreign.Outcome, foreign.Retry = Unknown, SameKey
	case status == http.StatusTooManyRequests:
		foreign.Retry = Later
	}
	return &foreign
}

// UnknownError says that a change was sent, and that the call ended before an answer could tell whether it was applied.
// It wraps why: the context's error, with the last thing heard, or a *Problem that says nothing about earlier attempts.
type UnknownError struct {
	Method, Path string
	Key          string // to go on with, by WithKey; empty for changes without one (PATCH, DELETE): read the state instead
	Cause        error
}

func (e *UnknownError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("it is unknown whether %s %s was applied; read the state to learn it: %v", e.Method, e.Path, e.Cause)
	}
	return fmt.Sprintf("it is unknown whether %s %s was applied; repeat it with the key %q: %v", e.Method, e.Path, e.Key, e.Cause)
}

// Unwrap is the cause.
func (e *UnknownError) Unwrap() error { return e.Cause }
