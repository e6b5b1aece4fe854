package posting_test

import "testing"

func TestSmoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open()
	a := n.funded(1000)
	b := w.account(alice)
	n.succeed(transfer(a, b, 300))
	rs := n.combine(fresh(transfer(a, b, 300)), fresh(hold(a, 300, 1e9)), fresh(hold(a, 300, 1e9)))
	for _, r := range rs {
		t.Log(r.code(), string(r.Answer.Body))
	}
	t.Log(w.posted(a), w.posted(b), w.pendingDebit(a))
	w.verify()
}
