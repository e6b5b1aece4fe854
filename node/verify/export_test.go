package verify

// Inspect checks the books as a test's own transaction sees them.
var Inspect = inspect

// Queries are those of all invariants, by name.
func Queries() map[string]string {
	queries := map[string]string{}
	for _, rule := range invariants() {
		queries[rule.name] = rule.query
	}
	return queries
}

// Look is Between with something that happens before a snapshot is opened.
var Look = look

// BetweenRules are the names of all rules between systems.
func BetweenRules() (names []string) {
	for _, rule := range betweenRules() {
		names = append(names, rule.Invariant)
	}
	return names
}
