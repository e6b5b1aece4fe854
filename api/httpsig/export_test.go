package httpsig

import "github.com/dunglas/httpsfv"

// Base is the signature base of a request, or of an answer to it, for a list of components as in Signature-Input.
func Base(r Request, answer *Response, covered string) (string, error) {
	fields, err := httpsfv.UnmarshalDictionary([]string{"sig=" + covered})
	if err != nil {
		return "", err
	}
	member, _ := fields.Get("sig")
	base, err := message{request: r, response: answer}.base(member.(httpsfv.InnerList))
	return string(base), err
}
