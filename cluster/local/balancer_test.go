package local_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"lockstep/cluster/local"
)

// problem checks that a body is the problem of this code.
func problem(t *testing.T, body, code, outcome string) {
	t.Helper()
	var p struct {
		Type, Title, Detail, Code, Outcome, Retry string
		RequestID                                 string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Errorf("the answer is no JSON: %v: %q", err, body)
		return
	}
	if p.Code != code || p.Outcome != outcome || p.Type != "/problems/"+code || p.Title == "" || p.Detail == "" ||
		p.Retry == "" || len(p.RequestID) != 36 {
		t.Errorf("the problem is %+v, want code %s, outcome %s", p, code, outcome)
	}
}

// A client that is still sending when it is refused loses the answer unless the
// balancer reads on; curl and Go lose it in different places, so both sizes count.
func tooLarge(t *testing.T, cluster *local.Cluster, _ local.Options) {
	url := cluster.Credentials().Systems[0].BaseURL
	for _, size := range []int{65<<10 + 1, 70 << 10, 1 << 20, 8 << 20} {
		body := bytes.Repeat([]byte("a"), size)
		for try := range 30 {
			code, text, err := send(t, http.MethodPost, url, bytes.NewReader(body))
			if err != nil || code != http.StatusRequestEntityTooLarge {
				t.Fatalf("%d bytes, try %d: %d, %v", size, try, code, err)
			}
			problem(t, text, "payload_too_large", "not_applied")
		}
	}
	if code, _, err := send(t, http.MethodPost, url, bytes.NewReader(make([]byte, 64<<10))); code != http.StatusOK {
		t.Errorf("64 KiB are refused: %d, %v", code, err)
	}

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(make([]byte, 70<<10)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept-Language", "ko-KR, en;q=0.5")
	_, header, text := do(t, request)
	if !strings.Contains(text, "요청") || header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("in Korean the answer is %q, %v", text, header)
	}
}

// do sends a request on a connection of its own and reads the answer.
func do(t *testing.T, request *http.Request) (status int, header http.Header, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(text)
}

func noNodes(t *testing.T, cluster *local.Cluster, _ local.Options) {
	url := cluster.Credentials().Systems[0].BaseURL
	for _, node := range []string{"alpha-node-1", "alpha-node-2"} {
		if err := cluster.Kill(node, true); err != nil {
			t.Fatal(err)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	code, header, text := do(t, request)
	if code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" ||
		header.Get("Content-Type") != "application/problem+json" || header.Get("Request-Id") == "" {
		t.Errorf("the answer is %d, %v", code, header)
	}
	problem(t, text, "overloaded", "not_applied")
	for _, node := range []string{"alpha-node-1", "alpha-node-2"} {
		if err := cluster.StartProcess(t.Context(), node); err != nil {
			t.Error(err)
		}
	}
}

// The node that got the POST may have done it. A second one must not get it too.
func noSecondNode(t *testing.T, cluster *local.Cluster, _ local.Options) {
	url := cluster.Credentials().Systems[0].BaseURL
	restarts := func() int {
		return status(t, cluster, "alpha-node-1").Restarts + status(t, cluster, "alpha-node-2").Restarts
	}
	before := restarts()
	code, text, err := send(t, http.MethodPost, url+"/die", strings.NewReader("{}"))
	if err != nil || code != http.StatusBadGateway {
		t.Fatalf("a POST whose node died: %d, %v", code, err)
	}
	problem(t, text, "gateway_unknown", "unknown")
	await(t, "the dead node was started again", func() bool { return restarts() > before })
	if n := restarts() - before; n != 1 {
		t.Errorf("%d nodes died of one POST", n)
	}
}

func TestANodeThatDrainsFailsNoRequest(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.NodeConfig = map[string]any{"drain": "1500ms"} // the balancer needs 1 s to see it
	cluster := start(t, o)
	url := cluster.Credentials().Systems[0].BaseURL
	var answered, failed atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var load sync.WaitGroup
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	for range 8 {
		load.Go(func() {
			for ctx.Err() == nil {
				answer, err := (&http.Client{Transport: transport}).Post(url, "application/json", strings.NewReader("{}"))
				if err != nil || answer.StatusCode != http.StatusOK {
					failed.Add(1)
					t.Errorf("a request failed: %v", fmt.Sprint(answer, err))
				}
				if err == nil {
					_, _ = io.Copy(io.Discard, answer.Body)
					_ = answer.Body.Close()
				}
				answered.Add(1)
			}
		})
	}
	for _, node := range []string{"alpha-node-1", "alpha-node-2"} {
		before := status(t, cluster, node)
		if err := syscall.Kill(before.PID, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		await(t, node+" has drained and is back", func() bool {
			now := status(t, cluster, node)
			return now.PID != before.PID && now.State == local.Running
		})
		served := answered.Load()
		await(t, "the balancer goes on", func() bool { return answered.Load() > served+100 })
		awaitServing(t, url, strings.TrimPrefix(before.Address, "http://"))
	}
	cancel()
	load.Wait()
	if failed.Load() != 0 || answered.Load() < 200 {
		t.Errorf("%d of %d requests failed", failed.Load(), answered.Load())
	}
}

// awaitServing waits until the balancer sends requests to a node again.
func awaitServing(t *testing.T, url, node string) {
	t.Helper()
	await(t, "the balancer uses "+node, func() bool {
		_, from, _ := get(t, url)
		return from == node
	})
}
