package api

import (
	"encoding/json"
	"fmt"
	"strings"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

// outcome says what became of the request that is answered, and of no other.
type outcome string

const (
	notApplied outcome = "not_applied"
	unknown    outcome = "unknown"
)

// retry is advice to programs.
type retry string

const (
	never   retry = "never"    // the same request will be refused again
	sameKey retry = "same-key" // repeat it with the same Idempotency-Key
	newKey  retry = "new-key"  // after the cause is gone, ask anew under a new key
	later   retry = "later"    // repeat it with the same Idempotency-Key after Retry-After
)

// rule is all that HTTP makes of a code.
type rule struct {
	status  int
	outcome outcome
	retry   retry
	after   int  // Retry-After in seconds; 0 is none
	early   bool // answered before the claim of an Idempotency-Key was read
}

// requestTimeout is the one code that only the edge and the balancer know: a request that never arrived whole.
const requestTimeout ledger.Code = "request_timeout"

// rules is the one place where a code becomes a status and an advice. The OpenAPI file prints it.
//
// Nothing answered early may advise a new key: an earlier request with the key may have been applied.
var rules = map[ledger.Code]rule{
	ledger.InvalidRequest:        {400, notApplied, never, 0, true},
	ledger.InvalidAmount:         {400, notApplied, never, 0, true},
	ledger.IdempotencyKeyMissing: {400, notApplied, never, 0, true},
	ledger.InvalidCredentials:    {400, notApplied, never, 0, true},
	ledger.LoginRefused:          {400, notApplied, never, 0, true},
	ledger.Unauthenticated:       {401, notApplied, sameKey, 0, true},
	ledger.SignatureInvalid:      {401, notApplied, never, 0, true},
	ledger.SignatureReplayed:     {401, notApplied, never, 0, true},
	ledger.Forbidden:             {403, notApplied, never, 0, true},
	ledger.AccountNotFound:       {404, notApplied, never, 0, false},
	ledger.TransferNotFound:      {404, notApplied, never, 0, false},
	ledger.HoldNotFound:          {404, notApplied, never, 0, false},
	ledger.NotFound:              {404, notApplied, never, 0, true},
	ledger.MethodNotAllowed:      {405, notApplied, never, 0, true},
	requestTimeout:               {408, notApplied, sameKey, 0, true},
	ledger.RequestInProgress:     {409, unknown, sameKey, 1, false},
	ledger.InvalidState:          {409, notApplied, never, 0, false},
	ledger.UsernameTaken:         {409, notApplied, never, 0, true},
	ledger.PayloadTooLarge:       {413, notApplied, never, 0, true},
	ledger.UnsupportedMediaType:  {415, notApplied, never, 0, true},
	ledger.RateLimited:           {429, notApplied, later, 1, true},
	ledger.InsufficientFunds:     {422, notApplied, newKey, 0, false},
	ledger.CurrencyMismatch:      {422, notApplied, never, 0, false},
	ledger.SameAccount:           {422, notApplied, never, 0, false},
	ledger.AccountFrozen:         {422, notApplied, newKey, 0, false},
	ledger.AccountClosed:         {422, notApplied, never, 0, false},
	ledger.BalanceOutOfRange:     {422, notApplied, newKey, 0, false},
	ledger.IdempotencyKeyReused:  {422, notApplied, newKey, 0, false},
	ledger.PayeeNotFound:         {422, notApplied, never, 0, false},
	ledger.PeerUnknown:           {422, notApplied, never, 0, false},
	ledger.PeerRefused:           {422, notApplied, newKey, 0, false},
	ledger.PeerCapExceeded:       {422, notApplied, newKey, 0, false},
	ledger.HoldExceeded:          {422, notApplied, never, 0, false},
	ledger.LimitExceeded:         {422, notApplied, newKey, 0, false},
	ledger.Overloaded:            {503, notApplied, later, 1, true},
	ledger.SourceUnavailable:     {503, notApplied, later, 2, true},
	ledger.PeerUnavailable:       {503, notApplied, newKey, 2, false},
	ledger.ProviderUnavailable:   {503, notApplied, later, 5, true},
	ledger.GatewayUnknown:        {502, unknown, sameKey, 1, false},
	ledger.OutcomeUnknown:        {504, unknown, sameKey, 1, false},
	ledger.Internal:              {500, notApplied, later, 1, true},
}

const (
	jsonType    = "application/json"
	problemType = "application/problem+json"
)

// problem is an error as RFC 9457 writes it, with this system's members.
type problem struct {
	Type      string      `json:"type"`
	Title     string      `json:"title"`
	Status    int         `json:"status"`
	Detail    string      `json:"detail"`
	Code      ledger.Code `json:"code"`
	Outcome   outcome     `json:"outcome"`
	Retry     retry       `json:"retry"`
	RequestID string      `json:"request_id"`
}

// newProblem words a refusal. keyed says that the request carried an Idempotency-Key, of which an early answer must say
// that it tells nothing about an earlier request.
func newProblem(refusal *ledger.Error, in language, requestID string, keyed bool) problem {
	rule, known := rules[refusal.Code]
	if !known {
		return newProblem(&ledger.Error{Code: ledger.Internal}, in, requestID, keyed)
	}
	text := words[refusal.Code].in(in)
	detail := text.meaning
	switch {
	case refusal.Code == ledger.Internal || refusal.Detail == "":
	case in == english:
		detail = sentence(refusal.Detail)
	case refusal.Code == ledger.InvalidRequest || refusal.Code == ledger.InvalidAmount:
		detail += " (" + refusal.Detail + ")" // which field it is stands there only
	}
	if rule.early && keyed {
		detail += " " + earlierRequest[in]
	}
	return problem{
		Type: "/problems/" + string(refusal.Code), Title: text.title, Status: rule.status, Detail: detail,
		Code: refusal.Code, Outcome: rule.outcome, Retry: rule.retry, RequestID: requestID,
	}
}

func (p problem) answer() store.Answer {
	return store.Answer{Status: p.Status, ContentType: problemType, Body: encode(p)}
}

// sentence makes a sentence of a detail, which is written without capital and full stop so that it can be wrapped. A
// field's name at its beginning stays as it is sent.
func sentence(detail string) string {
	if first, _, _ := strings.Cut(detail, " "); !strings.ContainsAny(first, ":_") {
		detail = strings.ToUpper(detail[:1]) + detail[1:]
	}
	switch detail[len(detail)-1] {
	case '.', '?', '!':
		return detail
	}
	return detail + "."
}

// encode writes our own types, which always marshal.
func encode(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("api: marshal %T: %v", value, err))
	}
	return text
}
