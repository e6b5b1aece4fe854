package auth

import "lockstep/node/ledger"

// Role is what a person is to the system. Programs have no role: each has its own scopes.
type Role string

// The roles. They are stored with the users.
const (
	RoleUser     Role = "user"     // has accounts and pays
	RoleOperator Role = "operator" // administers the system, and is a user besides
	RoleAuditor  Role = "auditor"  // reads all of it and changes nothing
)

const userScopes = AccountsRead + " " + AccountsWrite + " " + MoneyDeposit + " " + MoneyWithdraw + " " + MoneyTransfer + " " + MoneyRead

// Scopes are what the role's sessions may do. An unknown role may do nothing: a newer node may have given it.
func (r Role) Scopes() Scopes {
	switch r {
	case RoleUser:
		return storedScopes(userScopes)
	case RoleOperator:
		return AllScopes
	case RoleAuditor:
		return storedScopes(AccountsRead + " " + MoneyRead + " " + ProofsRead + " " + AdminRead)
	}
	return 0
}

// ParseRole refuses a role that does not exist with InvalidRequest.
func ParseRole(text string) (Role, error) {
	role := Role(text)
	if role.Scopes() == 0 {
		return "", ledger.Refuse(ledger.InvalidRequest, "a role is %s, %s or %s", RoleUser, RoleOperator, RoleAuditor)
	}
	return role, nil
}
