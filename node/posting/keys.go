package posting

import "sync"

// keys knows which idempotency keys this node has in hand, so that a second request with a key waits for the first one's
// answer outside any batch.
type keys struct {
	mu     sync.Mutex
	inHand map[string]*task
}

// enter makes t the holder of its key, or tells who holds it.
func (k *keys) enter(t *task) (holder *task) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if holder, taken := k.inHand[t.claimID]; taken {
		return holder
	}
	k.inHand[t.claimID] = t
	return nil
}

func (k *keys) leave(t *task) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.inHand[t.claimID] == t {
		delete(k.inHand, t.claimID)
	}
}
