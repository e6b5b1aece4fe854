package client

import "sync"

// seen is what a session has been told of the system's state, so that its reads never show less.
//
// Consistency tokens are opaque: nobody but the system can tell which of two is later. But a change that began after
// another had been answered was committed after it, so its token alone is enough. Of two changes that overlapped either
// may be the later; then reads ask the source, which knows both, until a change that began after them is answered.
type seen struct {
	mu       sync.Mutex
	answered int64 // counts answered changes
	lastAt   int64 // the count at the last change that token, or source, covers
	token    string
	source   bool
}

// begin is called before a request is sent; wrote takes its result.
func (s *seen) begin() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

// wrote remembers the token of an answered change. Without a token there was nothing to see.
func (s *seen) wrote(since int64, token string) {
	if token == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.source = since < s.lastAt
	s.answered++
	s.lastAt, s.token = s.answered, token
}

// latest is what a read must ask for.
func (s *seen) latest() (token string, source bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token, s.source
}
