package posting_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// proxy stands between a node and a server, and loses what a network loses.
type proxy struct {
	*world
	listener net.Listener
	target   string
	slow     func(question []byte) time.Duration // nil: nothing is
	pumps    sync.WaitGroup

	mu     sync.Mutex
	next   fate // of the next COMMIT
	late   time.Duration
	down   bool
	opened map[net.Conn]bool
}

// fate is what becomes of a COMMIT.
type fate int

const (
	arrives       fate = iota
	losesAnswer        // it is carried out, and the connection is lost before the answer
	losesQuestion      // the connection is lost before it
	comesLate          // the connection is lost for the node; the server gets it a while later
)

func (w *world) proxy(target string, slow func(question []byte) time.Duration) *proxy {
	w.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(w, err)
	p := &proxy{world: w, listener: listener, target: target, slow: slow, opened: map[net.Conn]bool{}}
	p.pumps.Go(p.accept)
	w.Cleanup(func() {
		_ = listener.Close()
		p.cut(true)
		p.pumps.Wait()
	})
	return p
}

// through makes a node reach the database through the proxy.
func (p *proxy) through(o *options) {
	address := p.database.Source[strings.Index(p.database.Source, "(")+1 : strings.Index(p.database.Source, ")")]
	o.store.Source = strings.Replace(p.database.Source, address, p.listener.Addr().String(), 1)
}

// nextCommit decides about the next COMMIT.
func (p *proxy) nextCommit(what fate, late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.late = what, late
}

// cut closes all connections and, while down, those that come.
func (p *proxy) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	for conn := range p.opened {
		_ = conn.Close()
	}
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil || !p.keep(client, server) {
			_ = client.Close()
			continue
		}
		p.pumps.Go(func() { p.questions(client, server) })
		p.pumps.Go(func() { p.answers(client, server) })
	}
}

// keep refuses connections while the proxy is down.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		if p.down {
			_ = conn.Close()
		} else {
			p.opened[conn] = true
		}
	}
	return !p.down
}

func (p *proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.opened, conn)
	_ = conn.Close()
}

func (p *proxy) answers(client, server net.Conn) {
	defer p.forget(client)
	_, _ = io.Copy(client, server)
}

func (p *proxy) questions(client, server net.Conn) {
	defer p.forget(server)
	for buffer := make([]byte, 64<<10); ; {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if p.slow != nil {
			time.Sleep(p.slow(buffer[:n]))
		}
		if bytes.Contains(buffer[:n], []byte("\x03COMMIT;")) && p.lose(client, server, buffer[:n]) {
			return
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// lose does to a COMMIT what was decided.
func (p *proxy) lose(client, server net.Conn, commit []byte) bool {
	p.mu.Lock()
	what, late := p.next, p.late
	p.next = arrives
	p.mu.Unlock()
	if what == arrives {
		return false
	}
	_ = client.Close()
	if what == losesQuestion {
		return true
	}
	if what == comesLate {
		time.Sleep(late)
	}
	_, _ = server.Write(commit)
	time.Sleep(50 * time.Millisecond) // the other pump reads the answer, and finds nobody to give it to
	return true
}
