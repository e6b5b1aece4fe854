package main_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// imports says which of our packages each package may import; a package that is not listed fails the test, so that a new
// one has to find its place first.
var imports = map[string][]string{
	"lockstep/rounds":            nil,
	"lockstep/node/ledger":       nil,
	"lockstep/locks":             nil,
	"lockstep/saga":              nil,
	"lockstep/api/client":        nil,
	"lockstep/api/httpsig":       nil,
	"lockstep/cluster/flat":      nil,
	"lockstep/cluster/events":    {"lockstep/cluster/flat"},
	"lockstep/cluster/statement": nil,
	"lockstep/cluster/traces":    nil,
	"lockstep/cluster/peers":     {"lockstep/api/httpsig", "lockstep/api/ratelimit", "lockstep/cluster/flat", "lockstep/cluster/statement", "lockstep/cluster/traces", "lockstep/rounds"},
	"lockstep/node/store":        {"lockstep/node/ledger", "lockstep/rounds", "lockstep/saga"},
	"lockstep/node/posting":      {"lockstep/cluster/traces", "lockstep/node/ledger", "lockstep/node/store", "lockstep/locks", "lockstep/rounds", "lockstep/saga"},
	"lockstep/node/remit": {
		"lockstep/cluster/events", "lockstep/cluster/peers", "lockstep/cluster/traces", "lockstep/node/ledger", "lockstep/node/posting", "lockstep/node/store", "lockstep/saga",
	},
	"lockstep/node/remit/sim": {
		"lockstep/cluster/events", "lockstep/cluster/peers", "lockstep/node/ledger", "lockstep/node/posting", "lockstep/node/remit",
		"lockstep/node/store", "lockstep/saga",
	},
	"lockstep/node/webhooks": {"lockstep/node/ledger", "lockstep/node/store"},
	"lockstep/node/audit":    nil,
	"lockstep/node/verify":   nil,
	"lockstep/api/auth":      {"lockstep/node/ledger", "lockstep/rounds"},
	"lockstep/api/ratelimit": nil,
	"lockstep/api/console":   {"lockstep/node/ledger"},
	"lockstep/api": {
		"lockstep/api/auth", "lockstep/api/console", "lockstep/api/httpsig", "lockstep/api/ratelimit", "lockstep/cluster/events", "lockstep/cluster/peers", "lockstep/cluster/traces", "lockstep/node/audit", "lockstep/node/ledger",
		"lockstep/node/posting", "lockstep/node/remit", "lockstep/node/store", "lockstep/saga",
	},
	"lockstep/node": {
		"lockstep/api", "lockstep/api/auth", "lockstep/api/client", "lockstep/api/httpsig", "lockstep/api/ratelimit", "lockstep/cluster/events", "lockstep/cluster/peers", "lockstep/cluster/traces", "lockstep/locks", "lockstep/node/audit", "lockstep/node/ledger",
		"lockstep/node/posting", "lockstep/node/remit", "lockstep/node/store", "lockstep/node/webhooks", "lockstep/rounds", "lockstep/saga",
	},
}

// free are the rooms beyond one node, which run processes and hold no money: they may use what they like, but for the
// packages among them that are listed above.
var free = []string{"lockstep", "lockstep/cluster/", "lockstep/deploy", "lockstep/deploy/", "lockstep/k6/", "lockstep/node/store/storetest", "lockstep/api/auth/authtest"}

// neighbours are programs of other teams: of ours they may import what every outside program may, beside their own.
const neighbours = "lockstep/examples/"

var outside = []string{"lockstep/api/client", "lockstep/cluster/events", "lockstep/locks", "lockstep/saga"}

func TestNeighboursImportOnlyWhatEveryOutsideProgramMay(t *testing.T) {
	checked := 0
	for _, pkg := range packages(t) {
		name, is := strings.CutPrefix(pkg.ImportPath, neighbours)
		if !is {
			continue
		}
		checked++
		example, _, _ := strings.Cut(name, "/")
		own := neighbours + example + "/"
		for _, path := range pkg.Imports {
			if strings.HasPrefix(path, "lockstep/") && !strings.HasPrefix(path, own) && !slices.Contains(outside, path) {
				t.Errorf("%s imports %s, which no outside program may", pkg.ImportPath, path)
			}
		}
	}
	if checked == 0 {
		t.Error("there are no examples")
	}
}

// Data goes one way, edge -> engine -> store, and the domain imports nothing of ours.
func TestPackagesImportOnlyWhatTheirLayerMay(t *testing.T) {
	checked := 0
	for _, pkg := range packages(t) {
		if strings.HasPrefix(pkg.ImportPath, neighbours) {
			continue
		}
		allowed, listed := imports[pkg.ImportPath]
		if !listed && isFree(pkg.ImportPath) {
			continue
		}
		if !listed {
			t.Errorf("package %s has no place in the layers; add it to this test with what it may import", pkg.ImportPath)
			continue
		}
		checked++
		for _, path := range pkg.Imports {
			if strings.HasPrefix(path, "lockstep/") && !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s, which its layer may not", pkg.ImportPath, path)
			}
		}
		if pkg.ImportPath == "lockstep/node/ledger" {
			for _, path := range pkg.Imports {
				if strings.Contains(strings.Split(path, "/")[0], ".") {
					t.Errorf("the domain imports %s; it is to use the standard library only", path)
				}
			}
		}
	}
	if checked != len(imports) {
		t.Errorf("%d packages were checked, %d are listed", checked, len(imports))
	}
}

func isFree(path string) bool {
	return slices.ContainsFunc(free, func(prefix string) bool {
		return path == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(path, prefix)
	})
}

type listed struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var pkg listed
		err := decoder.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		all = append(all, pkg)
	}
}
