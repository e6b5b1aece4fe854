package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lockstep/cluster/chaos"
)

// Each guard stands where the list says, once, and the overlay changes it there and nothing else.
func TestGuardsStandWhereTheListSays(t *testing.T) {
	t.Chdir("../../..")
	for _, g := range guards {
		path, err := g.overlay(t.TempDir())
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		text, _ := os.ReadFile(path)
		var overlay struct{ Replace map[string]string }
		if err := json.Unmarshal(text, &overlay); err != nil {
			t.Fatal(err)
		}
		for original, by := range overlay.Replace {
			before, _ := os.ReadFile(original)
			after, _ := os.ReadFile(by)
			want := string(before)
			for _, e := range g.edits {
				if strings.HasSuffix(original, "/"+e.file) {
					want = strings.Replace(want, e.old, e.new, 1)
				}
			}
			if string(after) != want || want == string(before) {
				t.Errorf("%s: %s is not what a build without the guard has", g.name, original)
			}
		}
	}
}

// A build is found by what it did to money, not by a fault that could not be applied.
func TestOnlyMoneyTells(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "report.json")
	text, _ := json.Marshal(chaos.Result{Checks: []chaos.Check{
		{Name: "balances", Breaches: []string{"one", "two"}},
		{Name: "totals"},
		{Name: "faults_applied", Breaches: []string{"not"}},
		{Name: "lively", Breaches: []string{"not"}},
		{Name: "run", Breaches: []string{"not"}},
	}})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if names, err := broken(path); err != nil || !slices.Equal(names, []string{"balances (2)"}) {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := broken(path + "x"); err == nil {
		t.Error("no report tells nothing")
	}
}
