package deploy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"lockstep/node"
)

// object is a Kubernetes object, or a part of one.
type object map[string]any

// at follows names and, in lists, numbers; what is missing is nil.
func (o object) at(path ...any) any {
	var now any = map[string]any(o)
	for _, step := range path {
		switch step := step.(type) {
		case string:
			fields, _ := now.(map[string]any)
			now = fields[step]
		case int:
			list, _ := now.([]any)
			if step >= len(list) {
				return nil
			}
			now = list[step]
		}
	}
	return now
}

// rendered reads what deploy/charts.sh has kept, by kind and name.
func rendered(t *testing.T, values string) map[string]object {
	t.Helper()
	all := map[string]object{}
	decoder := yaml.NewDecoder(strings.NewReader(read(t, "helm/rendered/"+values+".yaml")))
	for {
		var o map[string]any // whose parts are of that type too
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[fmt.Sprintf("%v/%v", o["kind"], object(o).at("metadata", "name"))] = o
	}
}

func TestTheChartKeepsItsPromises(t *testing.T) {
	t.Parallel()
	for values, scheme := range map[string]string{"least": "HTTP", "full": "HTTPS"} {
		objects := rendered(t, values)
		deployment := objects["Deployment/pay-lockstep"]
		container := func(path ...any) any {
			return deployment.at(append([]any{"spec", "template", "spec", "containers", 0}, path...)...)
		}
		for probe, path := range map[string]string{"startupProbe": "/livez", "readinessProbe": "/readyz", "livenessProbe": "/livez"} {
			if container(probe, "httpGet", "path") != path || container(probe, "httpGet", "scheme") != scheme {
				t.Errorf("%s: the %s asks %v", values, probe, container(probe, "httpGet"))
			}
		}
		if container("lifecycle", "preStop", "sleep", "seconds") != 5 {
			t.Errorf("%s: preStop is %v", values, container("lifecycle"))
		}
		spread := deployment.at("spec", "template", "spec", "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution", 0)
		if part, _ := spread.(map[string]any); part["topologyKey"] != "kubernetes.io/hostname" {
			t.Errorf("%s: two nodes may share a machine: %v", values, spread)
		}
		if deployment.at("spec", "strategy", "rollingUpdate", "maxUnavailable") != 1 || deployment.at("spec", "strategy", "rollingUpdate", "maxSurge") != 0 {
			t.Errorf("%s: an upgrade takes several nodes at once, or wants a machine that is not there", values)
		}
		for name, object := range objects {
			if pod, is := object.at("spec", "template", "spec").(map[string]any); is && pod["enableServiceLinks"] != false {
				t.Errorf("%s: %s is given variables that a node takes for settings", values, name)
			}
		}
		if objects["PodDisruptionBudget/pay-lockstep"].at("spec", "maxUnavailable") != 1 {
			t.Errorf("%s: an eviction may take all nodes", values)
		}
		policy := objects["NetworkPolicy/pay-lockstep"]
		if types, _ := policy.at("spec", "policyTypes").([]any); !slices.Equal(types, []any{"Ingress", "Egress"}) || policy.at("spec", "ingress", 0, "from", 0) == nil {
			t.Errorf("%s: everybody may reach the nodes: %v", values, policy)
		}
		migration := objects["Job/pay-lockstep-migration"]
		if migration.at("metadata", "annotations", "helm.sh/hook") != "pre-install,pre-upgrade" {
			t.Errorf("%s: migrations do not come first: %v", values, migration.at("metadata"))
		}
	}
	full := rendered(t, "full")
	for _, peer := range []string{"beta", "gamma"} {
		job := full["Job/pay-lockstep-peer-"+peer]
		if job.at("metadata", "annotations", "helm.sh/hook") != "post-install,post-upgrade" {
			t.Errorf("peer %s is not made known: %v", peer, job)
		}
	}
}

// Whatever runs is no superuser, writes nowhere, has bounds and no token; secrets are mounted, and only migrations may change
// the schema.
func TestPodsOfTheChartHaveNoMoreThanTheyNeed(t *testing.T) {
	t.Parallel()
	for _, values := range []string{"least", "full"} {
		pods := 0
		for name, o := range rendered(t, values) {
			if o.at("spec", "template") == nil {
				continue
			}
			pods++
			pod := func(path ...any) any { return o.at(append([]any{"spec", "template", "spec"}, path...)...) }
			one := func(path ...any) any { return pod(append([]any{"containers", 0}, path...)...) }
			switch {
			case pod("securityContext", "runAsNonRoot") != true || pod("securityContext", "seccompProfile", "type") != "RuntimeDefault":
				t.Errorf("%s %s runs as %v", values, name, pod("securityContext"))
			case one("securityContext", "readOnlyRootFilesystem") != true || one("securityContext", "allowPrivilegeEscalation") != false ||
				one("securityContext", "capabilities", "drop", 0) != "ALL":
				t.Errorf("%s %s may %v", values, name, one("securityContext"))
			case one("resources", "requests", "cpu") == nil || one("resources", "requests", "memory") == nil || one("resources", "limits", "memory") == nil:
				t.Errorf("%s %s is without bounds: %v", values, name, one("resources"))
			case pod("automountServiceAccountToken") != false:
				t.Errorf("%s %s gets a token for Kubernetes", values, name)
			case strings.HasSuffix(fmt.Sprint(one("image")), ":latest") || !strings.Contains(fmt.Sprint(one("image")), ":"):
				t.Errorf("%s %s has the image %v", values, name, one("image"))
			}
			list, _ := one("env").([]any)
			for _, variable := range list {
				entry := object(variable.(map[string]any))
				if !strings.HasSuffix(entry["name"].(string), "_FILE") || !strings.HasPrefix(fmt.Sprint(entry["value"]), "/run/secrets/") {
					t.Errorf("%s %s has %v in its environment", values, name, entry)
				}
			}
			text, err := yaml.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			if migrates := strings.Contains(string(text), "key: migrate"); migrates != strings.HasSuffix(name, "-migration") {
				t.Errorf("%s %s may change the schema: %v", values, name, migrates)
			}
		}
		if want := map[string]int{"least": 2, "full": 4}[values]; pods != want {
			t.Errorf("%s: %d kinds of pods, want %d", values, pods, want)
		}
	}
}

// The configuration that the chart writes is one that a node takes, with the secrets of the environment that it sets.
func TestANodeTakesTheConfigurationOfTheChart(t *testing.T) {
	for _, values := range []string{"least", "full"} {
		t.Run(values, func(t *testing.T) {
			objects := rendered(t, values)
			dir := t.TempDir()
			place := func(path string) string { return strings.ReplaceAll(path, "/run/secrets", dir) }
			text, _ := objects["ConfigMap/pay-lockstep"].at("data", "node.yaml").(string)
			path := filepath.Join(dir, "node.yaml")
			if err := os.WriteFile(path, []byte(place(text)), 0o600); err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string]string{
				"ca/ca.crt": read(t, filepath.Join(secrets(t), "ca.crt")), "listener/tls.crt": read(t, filepath.Join(secrets(t), "node.crt")),
				"listener/tls.key": read(t, filepath.Join(secrets(t), "node.key")), "mysql/source": "u:p@tcp(db:3306)/lockstep",
				"mysql/replicas": "u:p@tcp(replica:3306)/lockstep", "seal/seal": strings.Repeat("s", 40), "nats/password": "nats-secret",
				"redis/password": "redis-secret", "oidc/client-secret": "oidc-secret",
			} {
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			variables, _ := objects["Deployment/pay-lockstep"].at("spec", "template", "spec", "containers", 0, "env").([]any)
			for _, variable := range variables {
				entry := variable.(map[string]any)
				t.Setenv(entry["name"].(string), place(entry["value"].(string)))
			}
			config, err := node.Load(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if config.System != "alpha" || config.Listen != "0.0.0.0:8080" || !strings.Contains(config.MySQL.Source, "tcp(db:3306)") {
				t.Errorf("the node gets %s, %s, %s", config.System, config.Listen, config.MySQL.Source)
			}
			if values == "full" && (config.NATS.Password != "nats-secret" || config.RedisAccess.Password != "redis-secret" || config.ListenTLS.Cert == "") {
				t.Errorf("secrets do not arrive")
			}
		})
	}
}

// instructions are those of the Dockerfile, by stage.
func instructions(t *testing.T) (stages [][][]string) {
	t.Helper()
	text := strings.ReplaceAll(read(t, "../Dockerfile"), "\\\n", " ")
	for line := range strings.SplitSeq(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if words[0] == "FROM" {
			stages = append(stages, nil)
		}
		stages[len(stages)-1] = append(stages[len(stages)-1], words)
	}
	return stages
}

func TestTheImageHoldsTheProgramAloneAndRunsItAsNobody(t *testing.T) {
	t.Parallel()
	stages := instructions(t)
	last := stages[len(stages)-1]
	if len(stages) < 2 || !slices.Equal(last[0], []string{"FROM", "scratch"}) {
		t.Fatalf("the last of %d stages is %v", len(stages), last[0])
	}
	var user, copied string
	for _, words := range last {
		switch words[0] {
		case "USER":
			user = words[1]
		case "COPY":
			copied += " " + words[len(words)-1]
		case "RUN", "ADD":
			t.Errorf("the last stage does %v", words)
		}
	}
	if id, err := strconv.Atoi(strings.Split(user, ":")[0]); err != nil || id == 0 {
		t.Errorf("the program runs as %q; a number that is not 0 is what Kubernetes can check", user)
	}
	for _, file := range []string{"/etc/ssl/certs/ca-certificates.crt", "zoneinfo.zip", "/lockstep"} {
		if !strings.Contains(copied, file) {
			t.Errorf("the image lacks %s", file)
		}
	}
	build := fmt.Sprint(stages[0])
	if !strings.Contains(build, "CGO_ENABLED=0") || strings.Contains(build, "-tags") {
		t.Errorf("the program is not static, or has fault points: %s", build)
	}
	ignored := strings.Split(read(t, "../.dockerignore"), "\n")
	for _, secret := range []string{".lockstep", "deploy/compose/secrets", ".git"} {
		if !slices.Contains(ignored, secret) {
			t.Errorf("%s gets into the build", secret)
		}
	}
}

// What the unit of the backup says of its configuration is one that commands take.
func TestTheBackupsConfigurationIsEnough(t *testing.T) {
	const credentials = "/run/credentials/lockstep-backup.service/"
	var text strings.Builder
	for line := range strings.SplitSeq(read(t, "systemd/lockstep-backup.service"), "\n") {
		if shown, is := strings.CutPrefix(line, "#   "); is {
			text.WriteString(shown + "\n")
		}
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"mysql_source": "u:p@tcp(db:3306)/lockstep", "seal": strings.Repeat("s", 40)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "backup.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text.String(), credentials, dir+"/")), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := node.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := config.Validate(); err != nil || config.System != "alpha" || !strings.Contains(config.MySQL.Source, "tcp(db:3306)") {
		t.Errorf("a backup gets %s, %s: %v", config.System, config.MySQL.Source, err)
	}
}

// systemd itself judges the units, where it is there; elsewhere they are read for what they promise.
func TestUnitsAreSoundAndHardened(t *testing.T) {
	t.Parallel()
	units, err := filepath.Glob("systemd/lockstep-*")
	if err != nil || len(units) < 4 {
		t.Fatalf("%d units, %v", len(units), err)
	}
	dir := t.TempDir()
	var paths []string
	for _, unit := range units {
		text := read(t, unit)
		if strings.HasSuffix(unit, ".service") {
			for _, line := range []string{"DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "PrivateDevices=yes", "SystemCallFilter=@system-service"} {
				if !strings.Contains(text, "\n"+line+"\n") {
					t.Errorf("%s lacks %s", unit, line)
				}
			}
		}
		name := strings.Replace(filepath.Base(unit), "@.", "@1.", 1)
		path := filepath.Join(dir, name)
		paths = append(paths, path)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "/usr/local/bin/lockstep", "/bin/true")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return
	}
	if out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, paths...)...).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for _, path := range paths {
		if !strings.HasSuffix(path, ".service") {
			continue
		}
		if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=20", path).CombinedOutput(); err != nil {
			t.Errorf("%s is exposed: %v\n%s", filepath.Base(path), err, out)
		}
	}
}
