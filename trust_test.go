package pollux

import (
	"log/slog"
	"testing"

	"github.com/polluxhq/pollux/storage/storagetest"
)

// TestExpectIsTheFounders: a node that joined was told nothing of how many voters were expected; it goes by the record.
func TestExpectIsTheFounders(t *testing.T) {
	n := &Node{store: storagetest.OpenSingle(t, t.TempDir(), nil), log: slog.New(slog.DiscardHandler), conf: Config{BootstrapExpect: 1}}
	if got := n.expect(); got != 1 {
		t.Errorf("before the record %d voters are expected", got)
	}
	if err := n.changeTrust(t.Context(), func(r *trust) error { r.Expect = 3; return nil }); err != nil {
		t.Fatal(err)
	}
	if got := n.expect(); got != 3 {
		t.Errorf("the founder expected 3 voters, this node %d", got)
	}
	// Rotations keep it.
	if err := n.changeTrust(t.Context(), func(r *trust) error { r.GossipKeys = [][]byte{newGossipKey()}; return nil }); err != nil {
		t.Fatal(err)
	}
	if got := n.expect(); got != 3 {
		t.Errorf("after a rotation %d voters are expected", got)
	}
}
