package bench_test

import (
	"slices"
	"strings"
	"testing"

	"lockstep/cluster/bench"
)

// --only runs the named sections in the usual order, and refuses a name that there is not.
func TestOnlyPicksSections(t *testing.T) {
	all, err := bench.Picked()
	if err != nil || !slices.Contains(all, "speed") || !slices.Contains(all, "locks") || !slices.Contains(all, "reads") {
		t.Fatalf("all sections are %q, %v", all, err)
	}
	slices.Sort(all)
	if len(slices.Compact(all)) != len(all) {
		t.Errorf("two sections have one name: %q", all)
	}
	if some, err := bench.Picked("reads", "speed"); err != nil || !slices.Equal(some, []string{"speed", "reads"}) {
		t.Errorf("--only reads,speed runs %q, %v", some, err)
	}
	if _, err := bench.Picked("speed", "sped"); err == nil || !strings.Contains(err.Error(), `"sped"`) {
		t.Errorf("an unknown section is refused with: %v", err)
	}
}

// --list needs no cluster, and describes each section in one line.
func TestListDescribesTheSections(t *testing.T) {
	var out strings.Builder
	command := bench.Command{Seconds: 1, List: true}
	if err := command.Run(t.Context(), "v1", &out); err != nil {
		t.Fatal(err)
	}
	all, _ := bench.Picked()
	if lines := strings.Count(out.String(), "\n"); lines != len(all) || !strings.Contains(out.String(), "speed ") {
		t.Errorf("%d sections are listed as:\n%s", len(all), out.String())
	}
}

// A metric is the sum of its series that carry the labels, whatever else their names begin with.
func TestAMetricIsTheSumOfItsSeries(t *testing.T) {
	const text = `# HELP commands_total Commands.
commands_total{outcome="ok",lane="0"} 3
commands_total{outcome="ok",lane="one lane"} 4.5
commands_total{outcome="refused"} 7
commands_total_more 100
bytes 1.5e+07
`
	for want, got := range map[float64]float64{
		7.5:   bench.SumMetric(text, "commands_total", `outcome="ok"`),
		14.5:  bench.SumMetric(text, "commands_total"),
		1.5e7: bench.SumMetric(text, "bytes"),
		0:     bench.SumMetric(text, "missing"),
	} {
		if got != want {
			t.Errorf("the sum is %v, want %v", got, want)
		}
	}
}
