package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The names that the program knows are those of the scripts that there are.
func TestEveryScriptIsRun(t *testing.T) {
	t.Parallel()
	found, err := filepath.Glob("../*.js")
	all := append(slices.Clone(scripts), upgradeName)
	if err != nil || len(found) != len(all) {
		t.Errorf("%d scripts are there and %d are run: %v", len(found), len(all), err)
	}
	for _, name := range all {
		if _, err := os.Stat(filepath.Join("..", name+".js")); err != nil {
			t.Error(err)
		}
	}
}

// Scripts run without the internet: what they import is k6's own or stands beside them.
func TestScriptsImportNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	var files []string
	for _, pattern := range []string{"../*.js", "../lib/*.js"} {
		found, _ := filepath.Glob(pattern) // the pattern is well-formed
		files = append(files, found...)
	}
	imports := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			_, from, is := strings.Cut(line, " from '")
			if !is || !strings.HasPrefix(line, "import ") {
				continue
			}
			imports++
			if !strings.HasPrefix(from, "k6'") && !strings.HasPrefix(from, "k6/") && !strings.HasPrefix(from, "./") {
				t.Errorf("%s imports %s", file, from)
			}
		}
	}
	if imports < len(files) {
		t.Errorf("only %d imports were found in %d files", imports, len(files))
	}
}

// A failed threshold, a missing one and a record of another form are failures; so is a breach in the books.
func TestNothingShownIsAFailure(t *testing.T) {
	t.Parallel()
	figures := `{"metrics":{"paid":{"type":"counter","values":{"count":7},"thresholds":{"count>0":{"ok":true}}}}}`
	record := `{"event":"param","data":{"aggregates":{"counter":["count","rate"],"gauge":["value"]}}}
{"event":"metric","data":{"time":{"type":"gauge"}}}
{"event":"metric","data":{"paid":{"type":"counter"}}}
{"event":"snapshot","data":[[7,7],[1795767444145]]}
`
	for name, test := range map[string]struct{ figures, record, wrong string }{
		"all there":         {figures, record, ""},
		"no figures":        {"", record, "read the figures"},
		"no threshold":      {`{"metrics":{"paid":{"type":"counter","values":{"count":7}}}}`, record, "no threshold was judged"},
		"a rule is broken":  {strings.Replace(figures, "true", "false", 1), record, "failed: paid count>0: 7"},
		"no record":         {figures, "", "read the record"},
		"a value too few":   {figures, strings.Replace(record, "[7,7],", "", 1), "1 values for 2 metrics"},
		"in another order":  {figures, strings.Replace(record, "[7,7],[1795767444145]", "[1795767444145],[7]", 1), "in another order"},
		"figures cut short": {figures[:20], record, "read the figures"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := script{name: "smoke", out: t.TempDir()}
			for kind, text := range map[string]string{".json": test.figures, ".ndjson": test.record} {
				if text == "" {
					continue
				}
				if err := os.WriteFile(s.file(kind), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var r result
			err := s.read(&r)
			if (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
				t.Fatalf("got %v, want %q", err, test.wrong)
			}
			if err == nil && r.Seconds[0].of("paid", "rate") != 7 {
				t.Errorf("the record says %v", r.Seconds)
			}
		})
	}
}

// The page names what failed, and opens it.
func TestTheReportShowsWhatFailed(t *testing.T) {
	t.Parallel()
	var paid metric
	if err := json.Unmarshal([]byte(`{"type":"counter","values":{"count":0},"thresholds":{"count>0":{"ok":false}}}`), &paid); err != nil {
		t.Fatal(err)
	}
	broken := result{Name: "load", Err: errFailed, Metrics: map[string]metric{"paid": paid}}
	r := report{Form: "short", Results: []result{broken}, Books: errFailed}
	if r.verdict() == nil {
		t.Error("a report with failures has no verdict")
	}
	path := filepath.Join(t.TempDir(), "report.html")
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`<span class="bad">failed</span>`, `<span class="bad">FAILED</span><td>paid<td>count&gt;0<td class="n">0`, "<details open>"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %s", want)
		}
	}
}
