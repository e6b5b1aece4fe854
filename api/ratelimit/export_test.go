package ratelimit

// KeysMax is how many keys a limiter remembers at most.
const KeysMax = shardsMax * shardKeys

// Keys counts those that it remembers.
func (l *Limiter) Keys() (n int) {
	for i := range l.shards {
		l.shards[i].mu.Lock()
		n += len(l.shards[i].keys)
		l.shards[i].mu.Unlock()
	}
	return n
}
