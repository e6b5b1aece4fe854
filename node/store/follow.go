package store

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// leader is the server that is the source now, with every connection that leads to it.
type leader struct {
	dialer net.Dialer
	tls    map[string]*tls.Config // by address; nil in clear

	mu      sync.Mutex
	address string
	open    map[*session]struct{}
}

// session is one connection to the source. It stays a TCP connection, so that the driver can see whether it is still alive.
type session struct {
	*net.TCPConn
	leader *leader
}

func (c *session) Close() error {
	c.leader.mu.Lock()
	delete(c.leader.open, c)
	c.leader.mu.Unlock()
	return c.TCPConn.Close()
}

// dial connects to whichever server is the source, whatever address the driver was given.
func (l *leader) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	address := l.current()
	conn, err := l.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &session{conn.(*net.TCPConn), l} // what dialling TCP answers with
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.address != address {
		return nil, errors.Join(ErrMoved, conn.Close())
	}
	l.open[c] = struct{}{}
	return c, nil
}

// secure has the driver expect the certificate of whichever server is the source.
func (l *leader) secure(_ context.Context, parsed *mysql.Config) error {
	parsed.TLS = l.tls[l.current()]
	return nil
}

func (l *leader) current() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.address
}

// follow makes another server the source. Sessions that lead to the last one end at once: none of them may hear from it any
// more, nor wait for it. It returns how many there were.
func (l *leader) follow(address string) int {
	l.mu.Lock()
	l.address = address
	left := l.open
	l.open = map[*session]struct{}{}
	l.mu.Unlock()
	for c := range left {
		_ = c.TCPConn.Close() // the driver finds it closed
	}
	return len(left)
}

// candidate is a server that may have become the source.
type candidate struct {
	store   *Store
	address string
	db      *sql.DB
}

// openCandidates prepares a connection to each of the servers, with the source's account.
func (s *Store) openCandidates() error {
	for _, address := range s.config.Candidates {
		parsed, err := s.config.parseDSNAt(s.config.Source, address)
		if err != nil {
			return err
		}
		s.leader.tls[address] = parsed.TLS
		parsed.ReadTimeout = lookMax
		db, err := pool(parsed, mariaDB(), 1)
		if err != nil {
			return err
		}
		s.candidates = append(s.candidates, &candidate{s, address, db})
	}
	return nil
}

// ask tells whether the server takes writes, and the epoch that its copy of the system is in.
func (c *candidate) ask(ctx context.Context) (takesWrites bool, epoch int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	var readOnly bool
	err = c.db.QueryRowContext(ctx, "SELECT @@GLOBAL.read_only, epoch FROM `system` WHERE only = 1").Scan(&readOnly, &epoch)
	return err == nil && !readOnly, epoch, err
}

// look follows the server when it takes writes in an epoch that the source has not reached: it was promoted.
func (c *candidate) look(ctx context.Context) {
	takesWrites, epoch, err := c.ask(ctx)
	if err == nil && takesWrites && epoch > c.store.Epoch() {
		c.store.follow(c.address, epoch)
	}
}

// follow moves to a source of a higher epoch, one candidate's look at a time. The epoch is noted after the last session to the old
// source has ended: who reads the epoch first and then a row must not take an older row for one of the new epoch.
func (s *Store) follow(address string, epoch int64) {
	s.following.Lock()
	defer s.following.Unlock()
	if epoch <= s.Epoch() || address == s.leader.current() {
		return
	}
	ended := s.leader.follow(address)
	s.setStanding(epoch, stateUnreconciled) // until the first look there
	s.config.Logger.Warn("the source is another server now", "address", address, "epoch", epoch, "sessions_ended", ended)
}

// findSource chooses, before anything else is asked, the server that takes writes in the highest epoch. When none does, the
// configured one stays, and the checks that follow say what is wrong with it.
func (s *Store) findSource(ctx context.Context) {
	type answer struct {
		takesWrites bool
		epoch       int64
	}
	answers := make([]answer, len(s.candidates))
	var asking sync.WaitGroup
	for i, c := range s.candidates {
		asking.Go(func() { answers[i].takesWrites, answers[i].epoch, _ = c.ask(ctx) })
	}
	asking.Wait()
	highest := int64(0)
	for i, found := range answers {
		if found.takesWrites && found.epoch > highest {
			highest = found.epoch
			s.leader.follow(s.candidates[i].address)
		}
	}
}

func (s *Store) watchCandidates() {
	for _, c := range s.candidates {
		s.every(s.config.CheckEvery, c.look)
	}
}

// lead prepares the choice of the source among several servers, and makes the driver go where it is.
func (s *Store) lead(ctx context.Context, configured *mysql.Config) error {
	s.leader = &leader{
		dialer: net.Dialer{Timeout: s.config.DialMax, KeepAlive: 15 * time.Second}, address: configured.Addr, open: map[*session]struct{}{},
		tls: map[string]*tls.Config{configured.Addr: configured.TLS},
	}
	if err := s.openCandidates(); err != nil {
		return fmt.Errorf("candidates: %w", err)
	}
	if len(s.candidates) == 0 {
		return nil
	}
	s.findSource(ctx)
	configured.DialFunc = s.leader.dial
	return configured.Apply(mysql.BeforeConnect(s.leader.secure))
}

// sourceAddress is where the source is now.
func (s *Store) sourceAddress() string { return s.leader.current() }
