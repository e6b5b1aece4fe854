package httpsig

import (
	"errors"

	"github.com/dunglas/httpsfv"
)

// Base is the signature base of a request, or of an answer to it, for a list of components as in Signature-Input.
func Base(r Request, answer *Response, covered string) (string, error) {
	fields, err := httpsfv.UnmarshalDictionary([]string{"sig=" + covered})
	if err != nil {
		return "", err
	}
	member, _ := fields.Get("sig")
	list, ok := member.(httpsfv.InnerList)
	if !ok {
		return "", errors.New("not a list of components")
	}
	base, err := message{request: r, response: answer}.base(list)
	return string(base), err
}
