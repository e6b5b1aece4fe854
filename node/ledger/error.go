package ledger

import (
	"errors"
	"fmt"
)

// Code names a refusal. Codes are part of the public contract: they are added, never changed.
type Code string

// The codes of the REST contract. Which status, outcome and retry advice belongs to each is one table in package api.
const (
	InvalidRequest        Code = "invalid_request"
	InvalidAmount         Code = "invalid_amount"
	IdempotencyKeyMissing Code = "idempotency_key_missing"
	InvalidCredentials    Code = "invalid_credentials"
	Unauthenticated       Code = "unauthenticated"
	SignatureInvalid      Code = "signature_invalid"
	SignatureReplayed     Code = "signature_replayed"
	Forbidden             Code = "forbidden"
	AccountNotFound       Code = "account_not_found"
	TransferNotFound      Code = "transfer_not_found"
	HoldNotFound          Code = "hold_not_found"
	NotFound              Code = "not_found"
	MethodNotAllowed      Code = "method_not_allowed"
	RequestInProgress     Code = "request_in_progress"
	InvalidState          Code = "invalid_state"
	UsernameTaken         Code = "username_taken"
	PayloadTooLarge       Code = "payload_too_large"
	UnsupportedMediaType  Code = "unsupported_media_type"
	RateLimited           Code = "rate_limited"
	InsufficientFunds     Code = "insufficient_funds"
	CurrencyMismatch      Code = "currency_mismatch"
	SameAccount           Code = "same_account"
	AccountFrozen         Code = "account_frozen"
	AccountClosed         Code = "account_closed"
	BalanceOutOfRange     Code = "balance_out_of_range"
	IdempotencyKeyReused  Code = "idempotency_key_reused"
	PayeeNotFound         Code = "payee_not_found"
	PeerUnknown           Code = "peer_unknown"
	PeerRefused           Code = "peer_refused"
	PeerCapExceeded       Code = "peer_cap_exceeded"
	HoldExceeded          Code = "hold_exceeded"
	LimitExceeded         Code = "limit_exceeded"
	Overloaded            Code = "overloaded"
	SourceUnavailable     Code = "source_unavailable"
	PeerUnavailable       Code = "peer_unavailable"
	LoginRefused          Code = "login_refused"
	ProviderUnavailable   Code = "provider_unavailable"
	OutcomeUnknown        Code = "outcome_unknown"
	GatewayUnknown        Code = "gateway_unknown"
	Internal              Code = "internal"
)

// The codes that two systems use between them only.
const (
	TransferAborted  Code = "transfer_aborted"  // the payer's system has given the transfer up
	TransferConflict Code = "transfer_conflict" // what the peer says contradicts what is known here; nobody applies it
	StaleEpoch       Code = "stale_epoch"       // said in an epoch of the peer that is over
)

// Error is a refusal that a client may read. Every other error is internal: logged, never shown.
type Error struct {
	Code   Code
	Detail string
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

// Refuse makes a refusal; the detail is shown to the client.
func Refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// CodeOf tells the code of a refusal anywhere in err's chain, Internal for any other error and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var refusal *Error
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	return Internal
}
