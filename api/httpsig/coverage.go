package httpsig

import (
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

// required lists what a signature over this message has to cover, for the signer and for the verifier alike. label is
// the request's signature, which an answer covers to be of use for that request only.
func (m message) required(label string) []component {
	var list []component
	if m.response == nil {
		list = plain("@method", "@authority", "@path", "@query")
	} else {
		list = append(plain("@status"), component{name: "signature", req: true, key: label})
	}
	if m.response != nil || len(m.body()) > 0 {
		list = append(list, plain("content-digest")...)
	}
	if len(m.body()) > 0 {
		list = append(list, plain("content-type")...)
	}
	// It changes what the body means. We send none; one that somebody adds on the way must not pass.
	if len(m.header().Values("content-encoding")) > 0 {
		list = append(list, plain("content-encoding")...)
	}
	if m.response == nil && m.request.Method == "POST" {
		list = append(list, plain("idempotency-key")...)
	}
	return list
}

// checkCoverage refuses a signature that covers less than is required. It may cover more.
func (m message) checkCoverage(covered httpsfv.InnerList, required []component) error {
	components, err := parseComponents(covered.Items)
	if err != nil {
		return err
	}
	for _, c := range required {
		if !slices.Contains(components, c) {
			return invalid("it does not cover %s", c)
		}
		if c.derived() || c.req {
			continue
		}
		if !single(m.header().Values(c.name)) {
			return invalid("%s has to be there once, on one line and not empty", c.name)
		}
	}
	if slices.Contains(components, component{name: "content-digest"}) {
		return checkDigest(m.header(), m.body())
	}
	return nil
}

// single is what a required field has to be, so that the reader after us finds in it what was signed: of two lines it
// could take either, and of a folded one the first part.
func single(lines []string) bool {
	return len(lines) == 1 && canonical(lines) != "" && !strings.ContainsAny(lines[0], "\r\n")
}
