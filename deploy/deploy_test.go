package deploy_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/cluster/local/process"
	"lockstep/deploy"
)

// HAProxy itself judges the configuration, warnings included.
func TestHAProxyAcceptsItsConfiguration(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "with a blank")
	script, err := deploy.TooLargeScript()
	if err != nil {
		t.Fatal(err)
	}
	config := deploy.HAProxy{
		System: "alpha", Listen: "127.0.0.1:8080", Script: filepath.Join(dir, "too_large.lua"),
		Nodes: []string{"127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"},
	}
	var text bytes.Buffer
	if err := config.Render(&text); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "haproxy.cfg")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{path: text.Bytes(), config.Script: script} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	haproxy, err := process.Find("haproxy")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(haproxy, "-c", "-f", path).CombinedOutput()
	if err != nil || strings.Contains(string(out), "WARNING") {
		t.Errorf("haproxy -c: %v\n%s", err, out)
	}
}

// More than one replica means that no commit may pass unacknowledged.
func TestSemiSyncFallsBackOnlyWithASingleReplica(t *testing.T) {
	t.Parallel()
	for replicas, want := range map[int]string{
		1: "rpl_semi_sync_master_timeout = 1000\n", 2: "rpl_semi_sync_master_timeout = 4294967295\n", 3: "= 4294967295\n",
	} {
		var text bytes.Buffer
		if err := (deploy.MariaDB{Replicas: replicas}).Render(&text); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text.String(), want) {
			t.Errorf("with %d replicas the configuration lacks %q", replicas, want)
		}
	}
	var supervised bytes.Buffer
	if err := (deploy.MariaDB{Replicas: 2, Supervised: true}).Render(&supervised); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"\nread_only = ON\n", "rpl_semi_sync_master_enabled = OFF\n", "rpl_semi_sync_master_timeout = 4294967295\n", "rpl_semi_sync_slave_enabled = ON\n"} {
		if !strings.Contains(supervised.String(), line) {
			t.Errorf("a server that may be the source or a replica lacks %q", line)
		}
	}
	var alone bytes.Buffer
	if err := (deploy.MariaDB{}).Render(&alone); err != nil || strings.Contains(alone.String(), "semi_sync") {
		t.Errorf("a source without replicas waits for one: %v", err)
	}
}

func TestInstallHasNothingToDoHere(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--check"}, {"--tests", "--check"}} {
		if out, err := exec.Command("./install.sh", args...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("install.sh %v: %v\n%s", args, err, out)
		}
	}
}

func TestInstallRefusesAnOldGoByName(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte("#!/bin/sh\necho go1.25.4\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	install := exec.Command("./install.sh", "--check")
	install.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := install.CombinedOutput()
	if err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "go1.25.4 is too old: Go 1.26") {
		t.Errorf("install.sh with an old Go: %v\n%s", err, out)
	}
}

func TestInstallRefusesUnknownArguments(t *testing.T) {
	t.Parallel()
	err := exec.Command("./install.sh", "--force").Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("install.sh --force: %v, want exit status 2", err)
	}
}
