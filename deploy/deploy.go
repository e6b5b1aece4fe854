// Package deploy holds the configuration files of the servers that a payment
// system runs on, as templates: the local cluster renders them, and they show
// what a production set-up needs.
package deploy

import (
	"embed"
	"fmt"
	"io"
	"net"
	"text/template"
)

//go:embed *.tmpl *.lua
var files embed.FS

// TooLargeScript is the Lua script that HAProxy's configuration loads.
func TooLargeScript() ([]byte, error) { return files.ReadFile("too_large.lua") }

// MariaDB is what mariadb.cnf.tmpl asks for.
type MariaDB struct {
	User         string // the system user to become; empty stays who we are
	DataDir      string
	TempDir      string // of this server alone
	InitFile     string // SQL run at each start, before anybody can connect
	Port         int
	ServerID     int // unique in the system
	Domain       int // the system's GTID domain
	Replica      bool
	Replicas     int  // how many replicas this source has
	Supervised   bool // any of the servers may be the source: it starts read-only, until somebody who knows lets it take writes
	BufferPoolMB int
	LogFileMB    int
}

// Render writes the server's configuration file.
func (m MariaDB) Render(w io.Writer) error { return render(w, "mariadb.cnf.tmpl", m) }

func render(w io.Writer, name string, data any) error {
	functions := template.FuncMap{
		"problem": problemPage,
		"host":    func(address string) (string, error) { host, _, err := net.SplitHostPort(address); return host, err },
		"inc":     func(i int) int { return i + 1 },
	}
	parsed, err := template.New(name).Funcs(functions).ParseFS(files, name)
	if err != nil {
		return fmt.Errorf("read template %s: %w", name, err)
	}
	if err := parsed.Execute(w, data); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	return nil
}
