// Package flat reads the JSON that programs write to each other most: an object of texts and whole numbers, without white space,
// whose texts stand there as they are. It takes a tenth of the time of encoding/json, which reads all that this package leaves.
package flat

import "bytes"

// Read calls take with the members of an object in their order, the names and values as bytes of the text. It tells whether the
// text was such an object and take took every member; if not, it is to be read in another way from its beginning.
func Read(text []byte, take func(name, value []byte, number bool) bool) bool {
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return false
	}
	rest := text[1:]
	for {
		name, after := plain(rest)
		if after == nil || after[0] != ':' {
			return false
		}
		read, number := plain, after[1] != '"' // there is at least the brace
		if number {
			read = whole
		}
		value, after := read(after[1:])
		if after == nil || !take(name, value, number) {
			return false
		}
		switch {
		case after[0] == ',':
			rest = after[1:]
		default:
			return len(after) == 1 && after[0] == '}'
		}
	}
}

// plain reads a text in quotes and says what comes after it, which is not empty; nil if it is another text.
func plain(text []byte) (value, after []byte) {
	if len(text) == 0 || text[0] != '"' {
		return nil, nil
	}
	end := bytes.IndexByte(text[1:], '"') + 1
	if end == 0 || end+1 == len(text) {
		return nil, nil
	}
	for _, c := range text[1:end] {
		if c < ' ' || c > '~' || c == '\\' {
			return nil, nil
		}
	}
	return text[1:end], text[end+1:]
}

// digitsMax are digits that every int64 has room for.
const digitsMax = 18

// whole reads a number without fraction or exponent, as plain reads a text.
func whole(text []byte) (value, after []byte) {
	begin := 0
	if len(text) > 0 && text[0] == '-' {
		begin = 1
	}
	end := begin
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	if digits := end - begin; digits == 0 || digits > digitsMax || digits > 1 && text[begin] == '0' || end == len(text) {
		return nil, nil
	}
	return text[:end], text[end:]
}
