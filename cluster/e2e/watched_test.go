package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// afterIncidents are metrics that a node has only once something happened, for nobody knows their labels before.
var afterIncidents = map[string]bool{"lockstep_remit_faults_total": true}

// What alert rules and dashboards look at is there on running nodes, before anything has happened: of a series that begins with
// the first failure Prometheus shows no increase.
func TestRunningNodesExportWhatIsWatched(t *testing.T) {
	x := openCrossing(t, calm(), 1)
	payer, payee := x.on(t, 0), x.on(t, 1)
	from, to := payer.account("KRW", "10"), payee.account("KRW", "1")
	payer.post("/v1/transfers", payment(from, to, "7", "KRW")).expect(t, 201, "")
	exported := map[string]bool{}
	for _, admin := range x.admins {
		c := caller{TB: t, site: x.sides[0], base: admin, quick: true}
		for name := range c.metrics() {
			exported[name] = true
		}
	}
	files, err := filepath.Glob("../../deploy/dashboards/*.json")
	if err != nil || len(files) < 2 {
		t.Fatalf("found %d dashboards: %v", len(files), err)
	}
	watched := regexp.MustCompile(`\b(lockstep|process)_[a-z_]*[a-z]`)
	for _, file := range append(files, "../../deploy/alerts.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := watched.FindAllString(string(text), -1)
		if len(names) < 20 {
			t.Errorf("%s looks at %d metrics only", file, len(names))
		}
		for _, name := range names {
			if !exported[name] && !afterIncidents[name] {
				t.Errorf("%s looks at %s, which no node exports", file, name)
			}
		}
	}
}
