package node

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// TLS says whether connections to servers of one kind are kept secret, and which servers are believed.
type TLS struct {
	On         string `koanf:"tls"`             // on, or off: in clear, which is for one machine or a network of one's own
	CA         string `koanf:"tls_ca"`          // file (PEM) of the authorities that are believed, and no other; empty: the machine's
	ServerName string `koanf:"tls_server_name"` // the name that a server's certificate has to have; empty: the host of its address
	Cert       string `koanf:"tls_cert"`        // file (PEM) of this node's own certificate, for servers that ask for one
	Key        string `koanf:"tls_key"`         // and of its key
}

// ListenTLS names the certificate that the REST listener shows; without one it serves in clear, behind a balancer that does not.
type ListenTLS struct {
	Cert string `koanf:"cert"` // file (PEM), with the certificates in between
	Key  string `koanf:"key"`
}

func (t TLS) isOn() bool { return t.On == "on" }

// config is nil where TLS is off. Every error names the key.
func (t TLS) config() (*tls.Config, error) {
	switch {
	case t.On != "on" && t.On != "off":
		return nil, fmt.Errorf("tls: %q must be on or off", t.On)
	case !t.isOn() && t != (TLS{On: "off"}):
		return nil, errors.New("tls: is off, so the other tls_ keys would do nothing; set it to on")
	case !t.isOn():
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		text, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls_ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("tls_ca: %s has no certificate in PEM", t.CA)
		}
	}
	pair, err := openKeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("tls_cert and tls_key: %w", err)
	}
	if pair != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get(), nil }
	}
	return config, nil
}

// config is nil where the listener serves in clear.
func (l ListenTLS) config() (*tls.Config, error) {
	pair, err := openKeyPair(l.Cert, l.Key)
	if err != nil || pair == nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get(), nil },
	}, nil
}

// listen opens the REST listener.
func (c Config) listen() (net.Listener, error) {
	secured, err := c.ListenTLS.config()
	if err != nil {
		return nil, fmt.Errorf("listen_tls: %w", err)
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil || secured == nil {
		return listener, err
	}
	return tls.NewListener(listener, secured), nil
}

// validateTLS reads every file that is named, so that a node does not start on a typing error.
func (c Config) validateTLS() error {
	for section, setting := range map[string]TLS{
		"mysql": c.MySQL.TLS, "redis_access": c.RedisAccess.TLS, "nats": c.NATS.TLS, "peers": c.Peers.TLS,
	} {
		if _, err := setting.config(); err != nil {
			return fmt.Errorf("%s.%w", section, err)
		}
	}
	if _, err := c.ListenTLS.config(); err != nil {
		return fmt.Errorf("listen_tls: %w", err)
	}
	return nil
}

// keyPair is a certificate with its key that is read again when its file has changed, so that renewing it takes no restart.
type keyPair struct {
	cert, key string

	mu      sync.Mutex
	changed time.Time // of the file that current was read from
	current *tls.Certificate
}

// openKeyPair is nil where neither file is named.
func openKeyPair(cert, key string) (*keyPair, error) {
	switch {
	case cert == "" && key == "":
		return nil, nil
	case cert == "" || key == "":
		return nil, errors.New("name both the certificate and its key, or neither")
	}
	p := &keyPair{cert: cert, key: key}
	return p, p.read()
}

func (p *keyPair) read() error {
	state, err := os.Stat(p.cert)
	if err != nil {
		return err
	}
	if state.ModTime().Equal(p.changed) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		return err
	}
	p.changed, p.current = state.ModTime(), &pair
	return nil
}

// get is the certificate of the files, or the last one that could be read: half of a renewal is no reason to fail.
func (p *keyPair) get() *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.read()
	return p.current
}

// secure makes the DSNs ask for TLS.
func (m *MySQL) secure() error {
	for _, dsn := range append([]*string{&m.Source, &m.Migrate}, pointers(m.Replicas)...) {
		secured, err := m.secured(*dsn)
		if err != nil {
			return err
		}
		*dsn = secured
	}
	return nil
}

func pointers(list []string) []*string {
	all := make([]*string, len(list))
	for i := range list {
		all[i] = &list[i]
	}
	return all
}

// secured is a DSN that asks for TLS, if the configuration does. The driver knows settings by a name that stands in the DSN,
// so that what opens one, a node or any command, need not be told of them. The name comes from what is set: two systems in
// one process do not get each other's.
func (m *MySQL) secured(dsn string) (string, error) {
	config, err := m.TLS.config()
	if err != nil || config == nil || dsn == "" {
		return dsn, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []string{m.TLS.CA, m.TLS.ServerName, m.TLS.Cert, m.TLS.Key}))
	name := "lockstep-" + hex.EncodeToString(sum[:8])
	if err := mysql.RegisterTLSConfig(name, config); err != nil {
		return "", fmt.Errorf("tls: %w", err)
	}
	separator := "?"
	if strings.Contains(dsn[strings.LastIndex(dsn, "/")+1:], "?") {
		separator = "&"
	}
	return dsn + separator + "tls=" + name, nil
}
