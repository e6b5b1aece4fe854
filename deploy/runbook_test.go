package deploy_test

import (
	"os"
	"strings"
	"testing"
)

// pages reads a runbook: the text under each heading, by the anchor that leads to it.
func pages(tb testing.TB, path string) map[string]string {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	found := map[string]string{}
	for i, page := range strings.Split(string(text), "\n## ") {
		heading, body, _ := strings.Cut(page, "\n")
		if i == 0 {
			continue
		}
		anchor := strings.ToLower(heading)
		if _, twice := found[anchor]; twice || strings.ContainsFunc(heading, func(r rune) bool { return r < '0' || r > 'z' }) {
			tb.Errorf("no link leads to the heading %q alone", heading)
		}
		found[anchor] = body
	}
	return found
}

// Who is woken up by an alert finds under its link what it means, how to see it and what to do.
func TestEveryAlertLeadsToItsPage(t *testing.T) {
	t.Parallel()
	found, used := pages(t, "RUNBOOK.md"), map[string]bool{}
	for _, rule := range alertRules(t) {
		file, anchor, _ := strings.Cut(rule.Annotations["runbook_url"], "#")
		page, there := found[anchor]
		if file != "RUNBOOK.md" || anchor != strings.ToLower(rule.Alert) || !there {
			t.Errorf("%s leads to %s, where no page of its own is", rule.Alert, rule.Annotations["runbook_url"])
			continue
		}
		used[anchor] = true
		for _, part := range []string{"**Means.** ", "**See.**", "**Do.** "} {
			if strings.Count(page, part) != 1 {
				t.Errorf("the page of %s has not one part %s", rule.Alert, part)
			}
		}
	}
	for anchor := range found {
		if !used[anchor] {
			t.Errorf("no alert leads to the page %s", anchor)
		}
	}
}
