// Package idp is the OpenID provider of a local cluster, with a page to sign in on and one to agree on, so that signing in
// works end to end without the internet and without an account elsewhere. It stands in for Google and is for development
// only: it keeps nothing on disk and listens on this machine alone.
//
// The provider proper is npm's oidc-provider (provider.mjs). Where there is no Node, the one in this package takes its
// place: it has the same pages and does what signing in here needs, no more.
package idp

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Config is what both providers are told, as JSON.
type Config struct {
	Issuer    string   `json:"issuer"`     // http://127.0.0.1:port; it listens there
	CookieKey string   `json:"cookie_key"` // signs its cookies
	Clients   []Client `json:"clients"`
	Users     []User   `json:"users"`
}

// Client is a system that people sign in to.
type Client struct {
	ID           string   `json:"id"`
	Secret       string   `json:"secret"`
	Name         string   `json:"name"` // as people read it
	RedirectURIs []string `json:"redirect_uris"`
}

// User is somebody who can sign in.
type User struct {
	Subject   string   `json:"sub"`
	Username  string   `json:"username"`
	Passwords []string `json:"passwords"` // any of them
	Name      string   `json:"name"`
	Email     string   `json:"email"`
	Picture   string   `json:"picture"`
}

// Load reads a configuration.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the provider's configuration: %w", err)
	}
	var config Config
	if err := json.Unmarshal(text, &config); err != nil {
		return Config{}, fmt.Errorf("read the provider's configuration: %w", err)
	}
	return config, nil
}

//go:embed provider.mjs package.json package-lock.json login.html consent.html style.css
var files embed.FS

// Script is the name of the program that Node runs, in the directory that Unpack has filled.
const Script = "provider.mjs"

// Version names these files, so that others get a place of their own.
func Version() string {
	sum := sha256.New()
	for _, name := range []string{Script, "package.json", "package-lock.json", "login.html", "consent.html", "style.css"} {
		text, err := files.ReadFile(name)
		if err != nil {
			panic("idp: " + err.Error()) // they are embedded
		}
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16]
}

// Unpack writes the files of the Node program into a directory.
func Unpack(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("unpack the provider: %w", err)
	}
	all, err := files.ReadDir(".")
	if err != nil {
		return fmt.Errorf("unpack the provider: %w", err)
	}
	for _, file := range all {
		text, err := files.ReadFile(file.Name())
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file.Name()), text, 0o644)
		}
		if err != nil {
			return fmt.Errorf("unpack the provider: %w", err)
		}
	}
	return nil
}
