package deploy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type alertRule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func alertRules(tb testing.TB) []alertRule {
	tb.Helper()
	text, err := os.ReadFile("alerts.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []alertRule
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		tb.Fatal(err)
	}
	var all []alertRule
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) == 0 {
		tb.Fatal("there are no rules")
	}
	return all
}

// metricsOf reads the names of metrics from the source: whole ones, and those that a file makes of a prefix and a name.
func metricsOf(tb testing.TB, root string) map[string]bool {
	tb.Helper()
	whole, part := regexp.MustCompile(`^lockstep_[a-z_]*[a-z]$`), regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		var prefixes, parts []string
		for _, text := range literals(tb, path) {
			switch {
			case whole.MatchString(text):
				names[text] = true
			case strings.HasPrefix(text, "lockstep_") && strings.HasSuffix(text, "_"):
				prefixes = append(prefixes, text)
			case part.MatchString(text):
				parts = append(parts, text)
			}
		}
		for _, prefix := range prefixes {
			for _, name := range parts {
				names[prefix+name] = true
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return names
}

func literals(tb testing.TB, path string) (texts []string) {
	tb.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		tb.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil {
				texts = append(texts, text)
			}
		}
		return true
	})
	return texts
}

// An alert on a metric that nobody has never fires, and nobody notices.
func TestAlertsNameMetricsOfTheCode(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, root := range []string{"../node", "../api", "../cluster"} {
		for name := range metricsOf(t, root) {
			known[name] = true
		}
	}
	named := regexp.MustCompile(`lockstep_[a-z_]+`)
	used := map[string]bool{}
	for _, rule := range alertRules(t) {
		metrics := named.FindAllString(rule.Expr, -1)
		if len(metrics) == 0 && !strings.Contains(rule.Expr, "up{") { // which Prometheus has itself
			t.Errorf("%s looks at nothing", rule.Alert)
		}
		for _, metric := range metrics {
			used[metric] = true
			metric = strings.TrimSuffix(metric, "_bucket") // of a histogram
			if !known[metric] {
				t.Errorf("%s looks at %s, which no code has", rule.Alert, metric)
			}
		}
	}
	// What waits for a person is looked at by some rule.
	for _, metric := range literals(t, "../node/sagametrics.go") {
		if strings.HasPrefix(metric, "lockstep_") && !used[metric] {
			t.Errorf("no alert looks at %s", metric)
		}
	}
}

func TestAlertsSayWhatIsWrongAndHowMuchItMatters(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, rule := range alertRules(t) {
		if seen[rule.Alert] || !strings.HasPrefix(rule.Alert, "Lockstep") {
			t.Errorf("%q is named twice, or not as ours", rule.Alert)
		}
		seen[rule.Alert] = true
		if severity := rule.Labels["severity"]; severity != "page" && severity != "ticket" {
			t.Errorf("%s has the severity %q", rule.Alert, severity)
		}
		if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
			t.Errorf("%s does not say what is wrong", rule.Alert)
		}
		if strings.Count(rule.Expr, "(") != strings.Count(rule.Expr, ")") {
			t.Errorf("%s: %s", rule.Alert, rule.Expr)
		}
	}
}
