package chaos

import (
	"crypto/ed25519"
	"testing"

	"lockstep/cluster/events"
	"lockstep/cluster/peers"
	"lockstep/cluster/statement"
)

// Each poison is wrong in its own way, and the genuine event is not.
func TestPoisonIsPoison(t *testing.T) {
	t.Parallel()
	public, private, _ := ed25519.GenerateKey(nil)
	genuine := statement.Sign("k", private, peers.FactType, []byte(`{"id":"1","type":"transfer.committed","from":"alpha","to":"beta","amount":"12"}`))
	sound := func(m events.Message) bool {
		list, problems := events.Unpack(m.Data)
		if len(list) != 1 || problems[0] != nil {
			return false
		}
		_, _, err := statement.Verify(list[0].Statement, func(string) (ed25519.PublicKey, bool) { return public, true }, peers.FactType)
		return err == nil && list[0].Type == committed
	}
	if !sound(message("alpha", "beta", packed("alpha", committed, genuine))) {
		t.Error("the genuine event is taken for poison")
	}
	ids := map[string]bool{}
	for wrong, m := range poisons("alpha", "beta", genuine) {
		if ids[m.ID] = true; sound(m) {
			t.Errorf("the poison that %s is sound", wrong)
		}
	}
	if len(ids) != 7 {
		t.Errorf("%d poisons can be told apart", len(ids))
	}
}
