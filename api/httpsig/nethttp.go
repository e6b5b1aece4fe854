package httpsig

import (
	"bytes"
	"io"
	"net/http"
	"strings"
)

// FromHTTP describes a request as a server of net/http received it, or as its client is going to send it. The body is
// given apart, because only the caller knows how much of it to read.
func FromHTTP(r *http.Request, body []byte) Request {
	target := r.RequestURI // what travelled; a parsed URL may be escaped in another way
	if !strings.HasPrefix(target, "/") {
		target = r.URL.RequestURI()
	}
	path, query, _ := strings.Cut(target, "?")
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	return Request{Method: method, Authority: authority(r), Path: path, RawQuery: query, Header: r.Header, Body: body}
}

// authority is the host that is called, in its normal form (RFC 9421, section 2.2.3).
func authority(r *http.Request) string {
	host, secure := r.Host, r.TLS != nil || r.URL.Scheme == "https"
	if host == "" {
		host = r.URL.Host
	}
	port := ":80"
	if secure {
		port = ":443"
	}
	return lower(strings.TrimSuffix(host, port))
}

// FromHTTPResponse describes an answer that a client of net/http received. The body has to be what travelled: the
// transport needs DisableCompression, else it may hand out something else.
func FromHTTPResponse(r *http.Response, body []byte) Response {
	return Response{Status: r.StatusCode, Header: r.Header, Body: body}
}

// SignHTTP signs a request that net/http is going to send and returns what VerifyResponse needs. It gives the request
// this body, and takes away the means to send it again: the transport resends a POST with an Idempotency-Key by itself,
// with the same nonce. (A GET it may still resend; that one is refused as replayed, and the caller signs another.)
func (s Signer) SignHTTP(r *http.Request, body []byte) (Request, error) {
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	r.Host = authority(r) // what is signed is what is sent
	r.Body, r.ContentLength, r.GetBody = http.NoBody, 0, nil
	if len(body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	signed := FromHTTP(r, body)
	return signed, s.SignRequest(signed)
}
