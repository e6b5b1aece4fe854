package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// The commands that the runbook gives to somebody who has no time are commands of this program, with flags that it has.
func TestTheRunbookGivesCommandsThatThereAre(t *testing.T) {
	text, err := os.ReadFile("deploy/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var given []string
	for _, match := range regexp.MustCompile("(?m)^    (lockstep .*?)(?: +#.*)?$|`(lockstep [a-z]+ [^`]*)`").FindAllStringSubmatch(string(text), -1) {
		given = append(given, match[1]+match[2])
	}
	if len(given) < 20 {
		t.Fatalf("the runbook gives %d commands", len(given))
	}
	for _, command := range given {
		words := strings.Fields(strings.NewReplacer("node.yaml", config, "replica.dsn", config).Replace(command))[1:]
		if words[len(words)-1] == "--help" || command == "lockstep peers add" || command == "lockstep peers list" {
			continue // named, not given to be run
		}
		var cli commands
		parser := kong.Must(&cli, kong.Name("lockstep"), kong.Exit(func(int) {}))
		if _, err := parser.Parse(words); err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
}
