package httpsig

import (
	"strings"

	"github.com/dunglas/httpsfv"
)

// base is the signature base (RFC 9421, section 2.5): a line for each component in the order of the list, then the
// list itself with its parameters. This is what gets signed.
func (m message) base(covered httpsfv.InnerList) ([]byte, error) {
	components, err := parseComponents(covered.Items)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i, c := range components {
		name, err := httpsfv.Marshal(covered.Items[i]) // with its parameters in the order of the signer
		if err != nil {
			return nil, invalid("component %d cannot be written: %v", i, err)
		}
		value, err := m.value(c)
		if err != nil {
			return nil, err
		}
		b.WriteString(name + ": " + value + "\n")
	}
	params, err := httpsfv.Marshal(covered)
	if err != nil {
		return nil, invalid("its parameters cannot be written: %v", err)
	}
	b.WriteString(`"@signature-params": ` + params)
	return []byte(b.String()), nil
}

// signature is one member of the fields Signature-Input and Signature.
type signature struct {
	label   string
	covered httpsfv.InnerList
	bytes   []byte
}

// write puts the signature into the two fields, in place of any other.
func (s signature) write(header Header) error {
	inputs, signatures := httpsfv.NewDictionary(), httpsfv.NewDictionary()
	inputs.Add(s.label, s.covered)
	signatures.Add(s.label, httpsfv.NewItem(s.bytes))
	input, err := httpsfv.Marshal(inputs)
	if err != nil {
		return invalid("Signature-Input cannot be written: %v", err)
	}
	text, err := httpsfv.Marshal(signatures)
	if err != nil {
		return invalid("Signature cannot be written: %v", err)
	}
	header.Set(fieldInput, input)
	header.Set(fieldSignature, text)
	return nil
}

const (
	fieldInput     = "Signature-Input"
	fieldSignature = "Signature"
)

// findSignature returns the one signature under our tag. Two would leave open which of them counts.
func findSignature(header Header) (signature, error) {
	inputs, err := dictionary(header, fieldInput)
	if err != nil {
		return signature{}, err
	}
	var found []signature
	for _, label := range inputs.Names() {
		member, _ := inputs.Get(label)
		list, ok := member.(httpsfv.InnerList)
		if !ok {
			return signature{}, invalid("%s=%s lists no components", fieldInput, label)
		}
		if tag, _ := list.Params.Get("tag"); tag == Tag {
			found = append(found, signature{label: label, covered: list})
		}
	}
	if len(found) == 0 {
		return signature{}, ErrUnsigned
	}
	if len(found) > 1 {
		return signature{}, invalid("%d signatures have the tag %s", len(found), Tag)
	}
	return found[0].withBytes(header)
}

func (s signature) withBytes(header Header) (signature, error) {
	signatures, err := dictionary(header, fieldSignature)
	if err != nil {
		return signature{}, err
	}
	member, _ := signatures.Get(s.label)
	item, _ := member.(httpsfv.Item)
	bytes, ok := item.Value.([]byte)
	if !ok || len(item.Params.Names()) > 0 {
		return signature{}, invalid("%s has no signature %q", fieldSignature, s.label)
	}
	s.bytes = bytes
	return s, nil
}

// dictionary reads a field that has to be written as RFC 9651, section 4.1, tells every sender to write it. Reading is
// more tolerant than that: it lets the last of two equal labels or parameters win and ignores the spare bits of base64.
// Each of these would be a second way to write a message that holds.
func dictionary(header Header, name string) (*httpsfv.Dictionary, error) {
	lines := header.Values(name)
	text := canonical(lines)
	if len(text) > fieldBytesMax {
		return nil, invalid("%s is longer than %d bytes", name, fieldBytesMax)
	}
	fields, err := httpsfv.UnmarshalDictionary([]string{text})
	if err != nil {
		return nil, invalid("%s is not a dictionary: %v", name, err)
	}
	again, err := httpsfv.Marshal(fields)
	if err != nil || again != text {
		return nil, invalid("%s is not in canonical form", name)
	}
	return fields, nil
}
