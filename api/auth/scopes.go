package auth

import (
	"strings"

	"lockstep/node/ledger"
)

// The scopes that a route may ask for. They are part of the public contract.
const (
	AccountsRead  = "accounts:read"
	AccountsWrite = "accounts:write"
	MoneyDeposit  = "money:deposit"
	MoneyWithdraw = "money:withdraw"
	MoneyTransfer = "money:transfer"
	MoneyRead     = "money:read"
	ProofsRead    = "proofs:read"
	WebhooksWrite = "webhooks:write"
	Admin         = "admin"
	AdminRead     = "admin:read" // sees what an operator sees, and changes nothing
	OwnSession    = "session"    // one's own profile and sessions; people have it, and no client can
)

// scopeNames gives each scope its bit. Bits are never stored: the order may change.
var scopeNames = [...]string{
	AccountsRead, AccountsWrite, MoneyDeposit, MoneyWithdraw, MoneyTransfer, MoneyRead, ProofsRead, WebhooksWrite, Admin, AdminRead, OwnSession,
}

// Scopes is a set of scopes. It is a bit set because every request intersects what its token says with what its client
// may do at this moment.
type Scopes uint16

// AllScopes is what the operator's client of a new system gets: all that a client can have.
const AllScopes = Scopes(1<<(len(scopeNames)-1) - 1)

// ParseScopes reads names separated by blanks (RFC 6749, 3.3). It refuses unknown ones with InvalidRequest.
func ParseScopes(text string) (Scopes, error) { return parseScopes(text, AllScopes) }

// ParseNeeds is ParseScopes for what a route asks for: also scopes that no client can have.
func ParseNeeds(text string) (Scopes, error) {
	return parseScopes(text, AllScopes|scopeBit(OwnSession))
}

func parseScopes(text string, among Scopes) (Scopes, error) {
	var scopes Scopes
	for name := range strings.FieldsSeq(text) {
		bit := scopeBit(name)
		if bit&among == 0 {
			return 0, ledger.Refuse(ledger.InvalidRequest, "there is no scope %q; the scopes are: %s", name, among)
		}
		scopes |= bit
	}
	return scopes, nil
}

// Has tells whether the set contains the scope; an unknown scope is in no set.
func (s Scopes) Has(scope string) bool { return s&scopeBit(scope) != 0 }

// Names lists the scopes in the order of the contract.
func (s Scopes) Names() []string {
	names := []string{}
	for i, name := range scopeNames {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String is what ParseScopes reads.
func (s Scopes) String() string { return strings.Join(s.Names(), " ") }

func scopeBit(name string) Scopes {
	for i, known := range scopeNames {
		if name == known {
			return 1 << i
		}
	}
	return 0
}

// storedScopes reads what was checked when it was written. It skips names that this release does not know: during a
// rolling update a newer node may have granted them.
func storedScopes(text string) Scopes {
	var scopes Scopes
	for name := range strings.FieldsSeq(text) {
		scopes |= scopeBit(name)
	}
	return scopes
}
