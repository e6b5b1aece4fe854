package chaos

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// other is the system behind a liar: it notes what it hears, and answers with the number of the request.
type other struct {
	mu    sync.Mutex
	heard []string
	hosts []string
}

func (o *other) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard, o.hosts = append(o.heard, string(body)), append(o.hosts, r.Host)
	w.Header().Set("Content-Digest", digestOf(`{"state":"reserved"}`))
	w.Header().Set("Number", strings.Repeat("I", len(o.heard)))
	_, _ = io.WriteString(w, `{"state":"reserved"}`)
}

func digestOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// Each lie is told and counted, and digests fit it, so that nothing but a signature can tell; without one all passes as it is.
func TestALiarLies(t *testing.T) {
	t.Parallel()
	const question, answer = `{"amount":"12"}`, `{"state":"reserved"}`
	for name, c := range map[string]struct {
		lie     lie
		heard   string // by the other system, requests parted by a blank
		status  int
		answers string
		number  string // of the second answer
		told    int    // of two requests
	}{
		"none":     {nil, question + " " + question, 200, answer, "II", 0},
		"failing":  {failing(), question, 500, "it hurts", "", 2},
		"more":     {askingForMore, `{"amount":"120"} {"amount":"120"}`, 200, answer, "II", 2},
		"contrary": {answeringContrary, question + " " + question, 200, `{"state":"refused","code":"account_not_found"}`, "II", 2},
		"another":  {answeringAnother, question + " " + question, 200, answer, "I", 1},
		"twice":    {askingTwice, strings.Repeat(question+" ", 3) + question, 200, answer, "III", 2},
		"dripping": {dripping, question + " " + question, 200, answer, "II", 2},
		"none to lie": {func(ask asked, _ said, pass func(asked) (said, error)) (said, bool, error) {
			a, err := pass(ask)
			return a, false, err
		}, question + " " + question, 200, answer, "II", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			behind := &other{}
			server := httptest.NewServer(behind)
			defer server.Close()
			l, err := newLiar(t.Context(), server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer l.close()
			l.tell(c.lie)
			began := time.Now()
			var response *http.Response
			var body []byte
			for range 2 {
				request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+l.listens+"/peer/v1/transfers", strings.NewReader(question))
				request.Header.Set("Content-Digest", digestOf(question))
				if response, err = http.DefaultClient.Do(request); err != nil {
					t.Fatal(err)
				}
				body, _ = io.ReadAll(response.Body)
				_ = response.Body.Close()
			}
			if heard := strings.Join(behind.heard, " "); heard != c.heard {
				t.Errorf("the other system heard %s, not %s", heard, c.heard)
			}
			if behind.hosts[0] != l.listens {
				t.Errorf("the host became %s: a signature over it would not hold", behind.hosts[0])
			}
			if response.StatusCode != c.status || string(body) != c.answers || response.Header.Get("Number") != c.number {
				t.Errorf("the second answer is %d %s, number %q", response.StatusCode, body, response.Header.Get("Number"))
			}
			if c.status == http.StatusOK && response.Header.Get("Content-Digest") != digestOf(c.answers) {
				t.Error("a digest tells that the answer was changed")
			}
			if slow := time.Since(began) > time.Duration(2*len(answer)-2)*dripPause; slow != (name == "dripping") {
				t.Errorf("two answers took %v", time.Since(began))
			}
			if told := l.tell(nil); told != c.told {
				t.Errorf("%d lies were counted, not %d", told, c.told)
			}
		})
	}
}

// Where the other side gives no answer the liar gives none either.
func TestALiarCutsWhereThereIsNoAnswer(t *testing.T) {
	t.Parallel()
	l, err := newLiar(t.Context(), "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.listens+"/", nil)
	if response, err := http.DefaultClient.Do(request); err == nil {
		_ = response.Body.Close()
		t.Errorf("answered %d for nobody", response.StatusCode)
	}
}
