package auth

// TokensRemembered lets tests see that the memory of verified tokens is bounded.
func (a *Authority) TokensRemembered() int {
	a.tokens.mu.RLock()
	defer a.tokens.mu.RUnlock()
	return len(a.tokens.byHash)
}

// RememberTokens sets another bound, before any token is checked.
func (a *Authority) RememberTokens(most int) { a.tokens.most = most }
