package store

import (
	"encoding/base64"
	"encoding/binary"
)

// tokenVersion is the first byte of a token; those of other versions are unreadable.
const tokenVersion = 1

// tokenTextMax bounds what is decoded of a client's token.
const tokenTextMax = 4 << 10

// mark is what a token means: a position in the history of one epoch of one system. An empty GTID stands for a position
// that only the source is known to have.
type mark struct {
	system string
	epoch  int64
	gtid   string
}

func (s *Store) newToken(gtid string) Token {
	return mark{system: s.config.System, epoch: s.Epoch(), gtid: gtid}.token()
}

// token writes version, system with its length, epoch and GTID in base64url.
func (m mark) token() Token {
	text := []byte{tokenVersion, byte(len(m.system))}
	text = append(text, m.system...)
	text = binary.AppendVarint(text, m.epoch)
	text = append(text, m.gtid...)
	return Token(base64.RawURLEncoding.EncodeToString(text))
}

// mark reads a token; it reports false for what no node of this release wrote.
func (t Token) mark() (mark, bool) {
	if len(t) > tokenTextMax {
		return mark{}, false
	}
	text, err := base64.RawURLEncoding.DecodeString(string(t))
	if err != nil || len(text) < 2 || text[0] != tokenVersion {
		return mark{}, false
	}
	systemEnd := 2 + int(text[1])
	if len(text) < systemEnd {
		return mark{}, false
	}
	epoch, width := binary.Varint(text[systemEnd:])
	if width <= 0 {
		return mark{}, false
	}
	return mark{string(text[2:systemEnd]), epoch, string(text[systemEnd+width:])}, true
}

// need is what a token asks of a read.
type need int

const (
	needNothing  need = iota // any state will do
	needPosition             // a replica that has reached the GTID
	needSource
)

// need judges a client's token. Whoever sends one wants to read at least some write: when it cannot be told which, because
// the token is unreadable, another system's or of another epoch, whose GTIDs mean something else there, or has no GTID,
// only the source is sure to show it. (A server that was replaced as the source takes no writes, and is not believed.)
func (s *Store) need(want Consistency) (need, string) {
	if want.Source {
		return needSource, ""
	}
	if want.Token == "" {
		return needNothing, ""
	}
	meant, readable := want.Token.mark()
	if !readable || meant.system != s.config.System || meant.epoch != s.Epoch() || meant.gtid == "" {
		return needSource, ""
	}
	return needPosition, meant.gtid
}
