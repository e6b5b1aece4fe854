package api

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"lockstep/api/httpsig"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// Peers is what the edge needs to speak with other systems.
type Peers struct {
	Remitter
	Directory   *peers.Directory
	Client      *peers.Client
	Authorities []string // host:port under which peers call this system
	Nonces      httpsig.NonceStore
	Epoch       func() int64 // of this system
	Raise       func(ctx context.Context, peer string, epoch int64) error

	// What operators look at.
	Sagas   Sagas
	Books   Books
	Letters Letters // nil without a broker
	Parked  Parked  // nil without a broker
}

// fields is a header of fasthttp as httpsig sees it.
type fields struct {
	peek func(name string) [][]byte
	set  func(name, value string)
}

func (f fields) Values(name string) []string {
	var values []string
	for _, value := range f.peek(name) {
		values = append(values, string(value))
	}
	return values
}

func (f fields) Set(name, value string) { f.set(name, value) }

// believe checks who has signed a peer's request, and that it is the first of its kind.
func (x *exchange) believe() (httpsig.Verified, error) {
	x.set("Cache-Control", "no-store")
	p := x.server.deps.Peers
	if p == nil {
		return httpsig.Verified{}, ledger.Refuse(ledger.NotFound, "this system has no peers")
	}
	header := &x.fiber.Context().Request.Header
	path, query, _ := strings.Cut(string(header.RequestURI()), "?")
	verifier := httpsig.Verifier{Keys: p.Directory.Key, Clock: x.server.deps.Clock, Nonces: p.Nonces, Authorities: p.Authorities}
	verified, err := verifier.VerifyRequest(x.context(), httpsig.Request{
		Method: x.fiber.Method(), Authority: string(header.Host()), Path: path, RawQuery: query,
		Header: fields{header.PeekAll, header.Set}, Body: x.body().bytes,
	})
	if err == nil {
		x.principal.Caller = "peer:" + verified.Peer
		return verified, nil
	}
	x.server.metrics.refusedPeers.WithLabelValues(reasonOf(err)).Inc()
	switch {
	case errors.Is(err, httpsig.ErrReplayed):
		return verified, ledger.Refuse(ledger.SignatureReplayed, "a request with this nonce has been here before")
	case reasonOf(err) != "store":
		return verified, ledger.Refuse(ledger.SignatureInvalid, "the request is not signed as a known peer signs it")
	}
	return verified, err
}

// reasons are what metrics call the kinds of refusals; everything else is the store's failure.
var reasons = map[string]error{
	"unsigned": httpsig.ErrUnsigned, "invalid": httpsig.ErrInvalid, "stale": httpsig.ErrStale, "replayed": httpsig.ErrReplayed, "unknown key": httpsig.ErrUnknownKey,
}

// reasonOf names the kind of a refusal for metrics.
func reasonOf(err error) string {
	for name, kind := range reasons {
		if errors.Is(err, kind) {
			return name
		}
	}
	return "store"
}

// servePeer runs a route for a peer, and signs whatever the answer is: an unsigned one tells the peer nothing.
func (x *exchange) servePeer(serve func(x *exchange) error) error {
	verified, err := x.believe()
	if err != nil {
		return x.limitRefused(err)
	}
	x.peer = verified.Peer
	if err := serve(x); err != nil {
		x.fail(err)
	}
	response := x.fiber.Response()
	return x.server.deps.Peers.Directory.Signer().SignResponse(verified, httpsig.Response{
		Status: response.StatusCode(), Header: fields{response.Header.PeekAll, response.Header.Set}, Body: response.Body(),
	})
}

// peerWaitMax bounds what is done for one request of a peer: it waits for two seconds.
const peerWaitMax = 1800 * time.Millisecond

// decodePeer reads a peer's body. Fields that are not known are passed over: a peer may run a newer release.
func decodePeer[T any](x *exchange, epochOf func(T) int64, from string) (T, error) {
	var into T
	if err := x.acceptMedia("application/json"); err != nil {
		return into, err
	}
	if err := json.Unmarshal(x.body().bytes, &into); err != nil {
		return into, ledger.Refuse(ledger.InvalidRequest, "the body is not JSON that can be read")
	}
	return into, x.noteEpoch(from, epochOf(into))
}

// noteEpoch raises a peer's epoch when it speaks of a later one than is known.
func (x *exchange) noteEpoch(from string, epoch int64) error {
	p := x.server.deps.Peers
	if known, _ := p.Directory.Peer(from); epoch <= known.Epoch {
		return nil
	}
	if err := p.Raise(x.context(), from, epoch); err != nil {
		return err
	}
	return p.Directory.Refresh(x.context())
}

func (x *exchange) postPeerTransfers() error {
	from := x.peer
	request, err := decodePeer(x, func(r peers.PrepareRequest) int64 { return r.Epoch }, from)
	if err != nil {
		return err
	}
	if len(request.Transfers) < 1 || len(request.Transfers) > peers.BatchMax {
		return ledger.Refuse(ledger.InvalidRequest, "a request has 1 to %d transfers", peers.BatchMax)
	}
	ctx, cancel := context.WithTimeout(x.context(), peerWaitMax)
	defer cancel()
	p := x.server.deps.Peers
	return x.answer(200, peers.PrepareAnswer{Epoch: p.Epoch(), Results: p.Prepare(ctx, from, request)})
}

func (x *exchange) postPeerInquiries() error {
	from := x.peer
	request, err := decodePeer(x, func(r peers.InquiryRequest) int64 { return r.Epoch }, from)
	if err != nil {
		return err
	}
	p := x.server.deps.Peers
	switch {
	case len(request.IDs) < 1 || len(request.IDs) > peers.BatchMax:
		return ledger.Refuse(ledger.InvalidRequest, "an inquiry has 1 to %d ids", peers.BatchMax)
	case request.Payer != from && request.Payer != x.server.deps.System:
		return ledger.Refuse(ledger.Forbidden, "the payer is neither the sender nor the receiver")
	case request.IfUnknown != peers.Report && request.IfUnknown != peers.Close:
		return ledger.Refuse(ledger.InvalidRequest, "if_unknown is report or close")
	}
	for _, id := range request.IDs {
		if !canonicalUUID(id) {
			return ledger.Refuse(ledger.InvalidRequest, "an id is a UUID in small letters")
		}
	}
	ctx, cancel := context.WithTimeout(x.context(), peerWaitMax)
	defer cancel()
	epoch := p.Epoch() // read before the rows: an answer about an older row must not carry a newer epoch
	results, err := p.Inquire(ctx, from, request)
	if err != nil {
		return err
	}
	return x.answer(200, peers.InquiryAnswer{Epoch: epoch, Results: results})
}

// postPeerEpoch notes a peer's epoch whatever this node remembers of it: the peer relies on the answer, and this system's
// database may have forgotten what the node has not.
func (x *exchange) postPeerEpoch() error {
	from := x.peer
	request, err := decodePeer(x, func(r peers.EpochRequest) int64 { return r.Epoch }, from)
	if err != nil {
		return err
	}
	p := x.server.deps.Peers
	if err := p.Raise(x.context(), from, request.Epoch); err != nil {
		return err
	}
	if err := p.Directory.Refresh(x.context()); err != nil {
		return err
	}
	return x.answer(200, peers.EpochAnswer{Epoch: p.Epoch()})
}

// getPeerTransfer shows a peer one transfer between the two systems.
func (x *exchange) getPeerTransfer() error {
	from := x.peer
	request := peers.InquiryRequest{Payer: x.param("payer"), IDs: []string{x.param("id")}, IfUnknown: peers.Report}
	if !canonicalUUID(request.IDs[0]) || request.Payer != from && request.Payer != x.server.deps.System {
		return ledger.Refuse(ledger.TransferNotFound, "there is no such transfer between the two systems")
	}
	p := x.server.deps.Peers
	epoch := p.Epoch()
	results, err := p.Inquire(x.context(), from, request)
	if err != nil {
		return err
	}
	if results[0].State == peers.Unknown {
		return ledger.Refuse(ledger.TransferNotFound, "there is no such transfer between the two systems")
	}
	return x.answer(200, peers.InquiryAnswer{Epoch: epoch, Results: results})
}

// getPeerTransfers lists the transfers between the two systems that one of them pays, for a reconciliation.
func (x *exchange) getPeerTransfers() error {
	from := x.peer
	payer, cursor := x.fiber.Query("payer"), x.fiber.Query("cursor")
	limit, err := peerLimit(x.fiber.Query("limit"))
	switch {
	case err != nil:
		return err
	case payer != from && payer != x.server.deps.System:
		return errForeignPayer()
	case cursor != "" && !canonicalUUID(cursor):
		return ledger.Refuse(ledger.InvalidRequest, "cursor is the next_cursor of the page before")
	}
	ctx, cancel := context.WithTimeout(x.context(), peerWaitMax)
	defer cancel()
	p := x.server.deps.Peers
	epoch := p.Epoch() // read before the rows: what is said of older ones must not carry a newer epoch
	page, next, err := p.List(ctx, from, payer, cursor, limit)
	if err != nil {
		return err
	}
	return x.answer(200, peers.ListAnswer{Epoch: epoch, Transfers: page, NextCursor: next})
}

// getPeerDigest stands for the transfers of a range, so that a reconciliation lists only what differs.
func (x *exchange) getPeerDigest() error {
	payer, after, until := x.fiber.Query("payer"), x.fiber.Query("after"), x.fiber.Query("until")
	switch {
	case payer != x.peer && payer != x.server.deps.System:
		return errForeignPayer()
	case after != "" && !canonicalUUID(after) || !canonicalUUID(until):
		return ledger.Refuse(ledger.InvalidRequest, "until, and after if it is given, are ids of transfers")
	}
	ctx, cancel := context.WithTimeout(x.context(), peerWaitMax)
	defer cancel()
	p := x.server.deps.Peers
	epoch := p.Epoch() // read first, as above
	digest, err := p.Digest(ctx, x.peer, payer, after, until)
	if err != nil {
		return err
	}
	return x.answer(200, peers.DigestAnswer{Epoch: epoch, Count: digest.Count, Digest: digest.Sum()})
}

func errForeignPayer() error {
	return ledger.Refuse(ledger.Forbidden, "the payer is neither the sender nor the receiver")
}

// peerLimit is how many transfers a page has; the default is the most.
func peerLimit(text string) (int, error) {
	if text == "" {
		return peers.BatchMax, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > peers.BatchMax {
		return 0, ledger.Refuse(ledger.InvalidRequest, "limit is between 1 and %d", peers.BatchMax)
	}
	return limit, nil
}

// getPeerPayee tells a peer's payer whom it is about to pay.
func (x *exchange) getPeerPayee() error {
	payee, err := x.payee()
	if err != nil {
		return err
	}
	return x.answer(200, peers.PayeeAnswer{Epoch: x.server.deps.Peers.Epoch(), Number: string(payee.Number), Name: payee.Name, Currency: string(payee.Currency)})
}

// getPeerKeys publishes the keys by which peers know this system; they pin them.
func (x *exchange) getPeerKeys() error {
	if x.server.deps.Peers == nil {
		return ledger.Refuse(ledger.NotFound, "this system has no peers")
	}
	return x.write(store.Answer{Status: 200, ContentType: "application/jwk-set+json", Body: x.server.deps.Peers.Directory.JWKS()})
}

// canonicalUUID tells whether text is a UUID of any version in its usual form.
func canonicalUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i, c := range []byte(text) {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		if hyphen != (c == '-') || !hyphen && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
