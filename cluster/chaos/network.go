package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"lockstep/cluster/local/process"
)

// network is a Toxiproxy server with a proxy on each way that a node or a system takes to another process. Between two systems
// a liar stands behind it.
type network struct {
	server *process.Process
	api    string
	http   http.Client

	mu    sync.Mutex
	ways  []string          // named FROM>TO
	at    map[string]string // where the proxy of a way listens
	liars map[string]*liar  // of the ways between two systems
	wrong error             // why there is no proxy on one of them
}

const networkStartMax = 10 * time.Second

// openNetwork starts the server, which keeps nothing but its log, in dir.
func openNetwork(ctx context.Context, program, dir string) (*network, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port for toxiproxy: %w", err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	host, port, _ := net.SplitHostPort(address)
	n := &network{api: "http://" + address + "/proxies", http: http.Client{Timeout: networkStartMax}, at: map[string]string{}, liars: map[string]*liar{}}
	n.server, err = process.Start(process.Spec{
		Name: "toxiproxy", Path: program, Args: []string{"-host", host, "-port", port},
		Env: append(os.Environ(), "LOG_LEVEL=error"), // it tells of every connection otherwise
		Log: filepath.Join(dir, "toxiproxy.log"), PIDFile: filepath.Join(dir, "toxiproxy.pid"),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, networkStartMax)
	defer cancel()
	for {
		if err = n.ask(ctx, http.MethodGet, "", nil, nil); err == nil {
			return n, nil
		}
		if !sleep(ctx, settledPoll/10) {
			n.close()
			return nil, fmt.Errorf("start toxiproxy: %w", err)
		}
	}
}

func (n *network) close() {
	for _, l := range n.liars {
		l.close()
	}
	n.http.CloseIdleConnections()
	n.server.Stop(syscall.SIGTERM, time.Second)
}

// linkSign is between the two ends of a way.
const linkSign = ">"

// via puts a proxy on a way, once.
func (n *network) via(from, to, address string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	way := from + linkSign + to
	if at := n.at[way]; at != "" {
		return at
	}
	if strings.HasSuffix(to, systemWord) {
		l, err := newLiar(context.Background(), address)
		if err != nil {
			n.wrong = errors.Join(n.wrong, err)
			return address
		}
		n.liars[way], address = l, l.listens
	}
	var made struct{ Listen string }
	err := n.ask(context.Background(), http.MethodPost, "", object{"name": way, "listen": "127.0.0.1:0", "upstream": address, "enabled": true}, &made)
	if err != nil {
		n.wrong = errors.Join(n.wrong, err)
		return address
	}
	n.ways, n.at[way] = append(n.ways, way), made.Listen
	return made.Listen
}

// to lists the ways to processes whose names have the word.
func (n *network) to(word string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(n.ways), func(way string) bool {
		_, to, _ := strings.Cut(way, linkSign)
		return !strings.Contains(to, word)
	})
}

// systemWord ends the name of a process that other systems reach.
const systemWord = "-lb"

// liar stands on a way between two systems.
func (n *network) liar(way string) *liar {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.liars[way]
}

// toxic is something that is wrong with a way, in one direction.
type toxic struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"` // upstream: towards the server
	Attributes map[string]int `json:"attributes"`
}

func (n *network) add(ctx context.Context, way string, t toxic) error {
	return n.ask(ctx, http.MethodPost, "/"+url.PathEscape(way)+"/toxics", t, nil)
}

func (n *network) remove(ctx context.Context, way, name string) error {
	return n.ask(ctx, http.MethodDelete, "/"+url.PathEscape(way)+"/toxics/"+name, nil, nil)
}

// enable cuts all connections of a way and refuses new ones, or lets them pass again.
func (n *network) enable(ctx context.Context, way string, on bool) error {
	return n.ask(ctx, http.MethodPost, "/"+url.PathEscape(way), object{"enabled": on}, nil)
}

func (n *network) ask(ctx context.Context, method, path string, body, into any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, n.api+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	response, err := n.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("toxiproxy answers %d: %s", response.StatusCode, answer)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(answer, into)
	}
	return err
}
