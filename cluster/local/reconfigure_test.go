package local_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/cluster/local"
)

// Reconfigure replaces every node's process and the keys of its file, and returns when all serve again.
func TestReconfigureStartsAllNodesWithTheNewKeys(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.NodeConfig = map[string]any{"drain": "1ms"}
	cluster := start(t, o)
	before := []local.Status{status(t, cluster, "alpha-node-1"), status(t, cluster, "alpha-node-2")}
	if err := cluster.Reconfigure(t.Context(), map[string]any{
		"locks": "off", "peers": map[string]any{"ask_after": "3s"},
	}); err != nil {
		t.Fatal(err)
	}
	for _, old := range before {
		node := status(t, cluster, old.Name)
		if node.State != local.Running || node.PID == old.PID || node.PID == 0 {
			t.Errorf("%s is %s as process %d, which was %d before", node.Name, node.State, node.PID, old.PID)
		}
		if _, answer, err := get(t, "http://"+node.Address); answer != node.Address {
			t.Errorf("%s answers %q, %v", node.Name, answer, err)
		}
		file := filepath.Join(o.Dir, "alpha", strings.TrimPrefix(node.Name, "alpha-")+".yaml")
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "locks: \"off\"") || strings.Contains(string(text), "drain") {
			t.Errorf("%s holds: %s %v", file, text, err)
		}
		if !strings.Contains(string(text), "ask_after: 3s") || !strings.Contains(string(text), "authorities:") {
			t.Errorf("a key of a section does not stand beside the section's own: %s", text)
		}
	}
}

// A node that refuses its new configuration is an error, not an endless wait.
func TestReconfigureFailsWhenANodeDoesNotStart(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Nodes, o.StartWait = 1, 30*time.Second
	cluster := start(t, o)
	err := cluster.Reconfigure(t.Context(), map[string]any{"fail": true})
	if err == nil || !strings.Contains(err.Error(), "alpha-node-1") {
		t.Errorf("a node that cannot start is reported as: %v", err)
	}
}
