package deploy_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// promtool runs Prometheus' own tool, which deploy/install.sh --tests installs.
func promtool(tb testing.TB, args ...string) {
	tb.Helper()
	said, err := exec.Command("promtool", args...).CombinedOutput()
	if err != nil {
		tb.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, said)
	}
}

func TestPromtoolTakesTheRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "alerts.yaml")
}

// Each alert fires when what it is about happens, and only then: the cases show series as nodes export them.
func TestAlertsFireInTheirCases(t *testing.T) {
	t.Parallel()
	promtool(t, "test", "rules", "alerts_cases.yaml")
	text, err := os.ReadFile("alerts_cases.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tests []struct {
			Cases []struct {
				Expr   string
				Expect []map[string]any `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, c := range test.Cases {
			fires[c.Expr] = fires[c.Expr] || len(c.Expect) > 0
			silent[c.Expr] = silent[c.Expr] || len(c.Expect) == 0
		}
	}
	for _, rule := range alertRules(t) {
		job := strings.ToLower(strings.TrimPrefix(rule.Alert, "Lockstep"))
		asked := `ALERTS{alertname="` + rule.Alert + `",alertstate="firing",job="lockstep-` + job + `"}`
		if !fires[asked] || !silent[asked] {
			t.Errorf("%s fires in a case: %v, is silent in one: %v", rule.Alert, fires[asked], silent[asked])
		}
	}
}

// dashboard is what there is to check of one.
type dashboard struct {
	UID, Title string
	Panels     []struct {
		ID      int
		Type    string
		Title   string
		Targets []struct {
			Expr         string
			LegendFormat string
		}
	}
}

// Dashboards ask Prometheus what it understands, of metrics that the code has.
func TestDashboardsAskWhatPrometheusUnderstands(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no dashboards: %v", err)
	}
	var rules []map[string]any
	var uids []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board dashboard
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		uids = append(uids, board.UID)
		seen := map[int]bool{}
		for _, panel := range board.Panels {
			if seen[panel.ID] || panel.Title == "" || (panel.Type != "row") != (len(panel.Targets) > 0) {
				t.Errorf("%s: the panel %q has a used id, or shows nothing", file, panel.Title)
			}
			seen[panel.ID] = true
			for _, target := range panel.Targets {
				expr := strings.NewReplacer("$__rate_interval", "5m", "$job", "lockstep-alpha").Replace(target.Expr)
				if !strings.Contains(target.Expr, `job="$job"`) || strings.Contains(expr, "$") || target.LegendFormat == "" {
					t.Errorf("%s, %q: %s is of every system, or has no name", file, panel.Title, target.Expr)
				}
				rules = append(rules, map[string]any{"record": "panel:check", "expr": expr, "labels": map[string]string{"panel": board.UID + panel.Title + target.LegendFormat}})
			}
		}
	}
	slices.Sort(uids)
	if len(slices.Compact(uids)) != len(files) {
		t.Errorf("%d dashboards have the ids %v", len(files), uids)
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboards", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "panels.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}
