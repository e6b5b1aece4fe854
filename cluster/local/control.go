package local

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// control is the HTTP interface of the supervisor, on the loopback and for those
// who can read credentials.json:
//
//	GET  /processes                 the state of every process
//	POST /processes/{name}/kill     SIGKILL; ?down=1 keeps it down
//	POST /processes/{name}/stop     SIGSTOP
//	POST /processes/{name}/cont     SIGCONT
//	POST /processes/{name}/start    ends kill?down=1 or stop; answers when it is ready
//	POST /processes/{name}/restart  ends it in good order; answers when its successor is ready
//	POST /redis/{name}/flush        forgets all locks
//	POST /shutdown                  ends the cluster
//
// Each needs `Authorization: Bearer <control_token>`. An answer is JSON: the
// processes, {"ok":true}, or {"error":"..."} with 401, 404 or 409.
type control struct {
	cluster  *Cluster
	listener net.Listener
	server   *http.Server
	token    string
	served   chan struct{} // closed when serving ended; nil before it begins
}

// Bounds of what the control address waits for: a start, and any answer, of which a restart takes longest, for a node
// drains before it.
const (
	startWaitMax  = 30 * time.Second
	answerWaitMax = nodeGrace + startWaitMax + 5*time.Second
)

func newControl(c *Cluster, listener net.Listener) *control {
	k := &control{cluster: c, listener: listener, token: newSecret()}
	k.server = &http.Server{Handler: k.authorized(k.routes()), ReadHeaderTimeout: 5 * time.Second}
	return k
}

func (k *control) serve() {
	k.served = make(chan struct{})
	go func() {
		defer close(k.served)
		_ = k.server.Serve(k.listener) // returns when closed
	}()
}

// close lets the answers under way go out, such as the one to /shutdown.
func (k *control) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if k.server.Shutdown(ctx) != nil {
		_ = k.server.Close()
	}
	_ = k.listener.Close()
	if k.served != nil {
		<-k.served
	}
}

func (k *control) routes() http.Handler {
	c, mux := k.cluster, http.NewServeMux()
	mux.HandleFunc("GET /processes", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"processes": c.Processes()})
	})
	post := func(path string, do func(r *http.Request, name string) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			answerWith(w, do(r, r.PathValue("name")))
		})
	}
	post("/processes/{name}/kill", func(r *http.Request, name string) error {
		return c.Kill(name, r.URL.Query().Get("down") == "1")
	})
	post("/processes/{name}/stop", func(_ *http.Request, name string) error { return c.Stop(name) })
	post("/processes/{name}/cont", func(_ *http.Request, name string) error { return c.Continue(name) })
	post("/processes/{name}/start", func(r *http.Request, name string) error {
		ctx, cancel := context.WithTimeout(r.Context(), startWaitMax)
		defer cancel()
		return c.StartProcess(ctx, name)
	})
	post("/processes/{name}/restart", func(r *http.Request, name string) error { return c.Restart(r.Context(), name) })
	post("/redis/{name}/flush", func(r *http.Request, name string) error { return c.Flush(r.Context(), name) })
	post("/shutdown", func(*http.Request, string) error { c.askForEnd(); return nil })
	return mux
}

func (k *control) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(token), []byte(k.token)) != 1 {
			writeJSON(w, http.StatusUnauthorized, controlError{"the control token of credentials.json is needed"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

type controlError struct {
	Error string `json:"error"`
}

func answerWith(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, map[string]bool{"ok": true})
	case errors.Is(err, ErrNoProcess):
		writeJSON(w, http.StatusNotFound, controlError{err.Error()})
	default:
		writeJSON(w, http.StatusConflict, controlError{err.Error()})
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever asked may have left
}

// Controller controls a cluster that another process runs, over its control address.
type Controller struct {
	url, token string
	http       *http.Client
}

// Control returns the controller of the cluster that these credentials belong to.
func (c Credentials) Control() *Controller {
	return &Controller{url: c.ControlURL, token: c.ControlToken, http: &http.Client{Timeout: answerWaitMax}}
}

// Processes tells the state of every process.
func (c *Controller) Processes(ctx context.Context) ([]Status, error) {
	var answer struct {
		Processes []Status `json:"processes"`
	}
	err := c.call(ctx, http.MethodGet, "/processes", &answer)
	return answer.Processes, err
}

// Do applies a verb, which is kill, stop, cont, start or restart, to a process.
func (c *Controller) Do(ctx context.Context, verb, process string, down bool) error {
	query := ""
	if down {
		query = "?down=1"
	}
	return c.call(ctx, http.MethodPost, "/processes/"+process+"/"+verb+query, nil)
}

// Flush makes a Redis server forget all locks.
func (c *Controller) Flush(ctx context.Context, process string) error {
	return c.call(ctx, http.MethodPost, "/redis/"+process+"/flush", nil)
}

// Shutdown asks the cluster to end. It returns when the supervisor has heard it.
func (c *Controller) Shutdown(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/shutdown", nil)
}

func (c *Controller) call(ctx context.Context, method, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, nil)
	if err != nil {
		return fmt.Errorf("ask the supervisor: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	answer, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("reach the supervisor at %s (is the cluster up?): %w", c.url, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		var refusal controlError
		_ = json.NewDecoder(answer.Body).Decode(&refusal)
		return fmt.Errorf("the supervisor refused (%d): %s", answer.StatusCode, refusal.Error)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		return fmt.Errorf("read the supervisor's answer: %w", err)
	}
	return nil
}
