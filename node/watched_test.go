package node_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"lockstep/api/client"
	"lockstep/cluster/local/servers"
)

// afterIncidents are metrics that a node has only once something happened, for nobody knows their labels before.
var afterIncidents = map[string]bool{"lockstep_remit_faults_total": true}

// exports are the series that a node exports, by name.
func (s *system) exports() map[string]bool {
	s.Helper()
	answer, err := http.Get("http://" + s.admin + "/metrics")
	must(s, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(s, err)
	found := map[string]bool{}
	for _, name := range regexp.MustCompile(`(?m)^[a-z_]+`).FindAllString(string(text), -1) {
		found[name] = true
	}
	return found
}

// What alert rules and dashboards look at is there on running nodes, before anything has gone wrong: of a series that begins
// with the first failure Prometheus shows no increase.
func TestRunningNodesExportWhatIsWatched(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, map[string]any{"locks": "on", "redis": servers.Shared(t).RedisAddrs, "reads": "replica"})
	payer, payee := w.alpha.funded("10"), w.beta.empty()
	_, err := w.alpha.client.Transfer(w.context(), client.Payment{From: payer, To: payee, Amount: "7", Currency: krw})
	must(t, err)
	w.settle()
	exported := w.alpha.exports()
	for name := range w.beta.exports() {
		exported[name] = true
	}
	files, err := filepath.Glob("../deploy/dashboards/*.json")
	must(t, err)
	watched := regexp.MustCompile(`\b(lockstep|process)_[a-z_]*[a-z]\b`)
	for _, file := range append(files, "../deploy/alerts.yaml") {
		text, err := os.ReadFile(file)
		must(t, err)
		names := watched.FindAllString(string(text), -1)
		if len(names) < 20 || len(files) < 2 {
			t.Errorf("%s, one of %d dashboards, looks at %d metrics only", file, len(files), len(names))
		}
		for _, name := range names {
			if !exported[name] && !afterIncidents[name] {
				t.Errorf("%s looks at %s, which no node exports", file, name)
			}
		}
	}
}
