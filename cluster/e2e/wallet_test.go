package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/local"
	"lockstep/cluster/local/servers"
)

// walletMax bounds the visit of the browser.
const walletMax = 3 * time.Minute

// visit is what the browser is given, and what it has seen.
type visit struct {
	Browser      string                `json:"browser"`
	Screens      string                `json:"screens"` // where pictures of the pages are kept
	Alpha        string                `json:"alpha"`
	Nodes        []string              `json:"nodes"`
	Providers    []string              `json:"providers"` // origins to which people are sent to sign in
	BetaNodes    []string              `json:"betaNodes"`
	Control      string                `json:"control"`
	ControlToken string                `json:"controlToken"`
	Alice        local.UserCredentials `json:"alice"`
	Google       local.UserCredentials `json:"google"` // at the provider
	Bobs         string                `json:"bobs"`   // bob's account, in alpha
	Payee        string                `json:"payee"`  // an account in beta

	Number   string   `json:"number"`
	Repeated []string `json:"repeated"` // transfers that were asked for more than once
	Followed string   `json:"followed"`
}

// walletInABrowser has a person sign in, open an account, deposit, send money inside the system and to another one, read the
// statement, be refused in words, click twice, follow a transfer to its end, and sign out: in Chromium, at the balancer's
// address, by password and at npm's OpenID provider. Each page is looked at on a desk and on a phone, by day and by night; the
// pictures stay in .lockstep/test/wallet.
func walletInABrowser(t *testing.T) {
	place, err := servers.Here()
	if err != nil {
		t.Fatal(err)
	}
	x := openCrossing(t, between("1s", "2m", askAfter.String()), 0, func(o *local.Options) { // what is slow here is not given up
		o.IDP, o.IDPModules = local.IDPNode, filepath.Join(string(place), "idp")
	})
	alpha, credentials := x.sides[0], x.Credentials()
	users := credentials.Systems[0].Users
	bob := alpha.person(t, users[1])
	v := visit{
		Browser: findBrowser(t), Screens: walletScreens(t), Alpha: alpha.balancer, Nodes: alpha.nodes, Providers: []string{credentials.IDPURL},
		BetaNodes: []string{"beta-node-1", "beta-node-2"}, Control: credentials.ControlURL, ControlToken: credentials.ControlToken,
		Alice: users[0], Google: users[0], Bobs: bob.open(t, "Bob Miller"),
		Payee: x.on(t, 1).post("/v1/accounts", object{"currency": "KRW", "label": "Carol"}).expect(t, http.StatusCreated, "").field("number"),
	}
	v.run(t)
	// The provider's alice is somebody else than the one with the password, and signing in again makes nobody new.
	if users := alpha.journal(t, "SELECT COUNT(*) FROM users"); users != 3 {
		t.Errorf("there are %d people, want alice, bob, and the provider's alice", users)
	}
	x.settled(t, alikeMaxWait)
	// 10,000 in; out go 3,000, 2,000, 10, 100, 200, 300 and 50.
	if got := alpha.as(t, alpha.operator).posted(v.Number); got != "4340" {
		t.Errorf("the account has %s, want 4340: something moved twice, or not at all", got)
	}
	if got := bob.balance(t, v.Bobs); got != "3310" {
		t.Errorf("bob has %s, want 3310", got)
	}
	if got := x.on(t, 1).posted(v.Payee); got != "2300" {
		t.Errorf("the payee in beta has %s, want 2300", got)
	}
}

// run lets the browser visit, and reads what it has seen.
func (v *visit) run(t *testing.T) {
	t.Helper()
	input, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), walletMax)
	defer cancel()
	command := exec.CommandContext(ctx, "node", "wallet.mjs")
	command.Dir, command.Stdin = walletScript(t), bytes.NewReader(input)
	var told bytes.Buffer
	command.Stderr = &told
	out, err := command.Output()
	t.Logf("the browser's visit:\n%s", told.String())
	if err != nil {
		t.Fatalf("the visit ended early: %v; pictures are in %s", err, v.Screens)
	}
	if err := json.Unmarshal(out, v); err != nil {
		t.Fatalf("read what the browser has seen: %v", err)
	}
}

// findBrowser fails the test without one.
func findBrowser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("there is no Chromium: run deploy/install.sh --tests")
	return ""
}

// walletScreens is an empty directory beside the servers of the tests.
func walletScreens(t *testing.T) string {
	t.Helper()
	place, err := servers.Here()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(string(place), "wallet")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// walletScript puts the script and what drives the browser into a directory, once for these contents. It works beside it
// and renames, so that nobody sees half of it.
func walletScript(t *testing.T) string {
	t.Helper()
	place, err := servers.Here()
	if err != nil {
		t.Fatal(err)
	}
	sum, files := sha256.New(), map[string][]byte{}
	for _, name := range []string{"package.json", "package-lock.json", "wallet.mjs"} {
		text, err := os.ReadFile(filepath.Join("testdata", "wallet", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = text
		sum.Write(text)
	}
	cache := filepath.Join(string(place), "wallet-script")
	ready := filepath.Join(cache, hex.EncodeToString(sum.Sum(nil))[:16])
	if _, err := os.Stat(ready); err == nil {
		return ready
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	building, err := os.MkdirTemp(cache, "building-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(building) }()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(building, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--prefer-offline")
	install.Dir = building
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.Rename(building, ready); err != nil {
		if _, missing := os.Stat(ready); missing != nil {
			t.Fatal(err)
		}
	}
	return ready
}

// person is somebody who is signed in, by cookies.
type person struct {
	site *site
	http *http.Client
}

// person signs somebody in by password.
func (s *site) person(t *testing.T, who local.UserCredentials) person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := person{site: s, http: &http.Client{Transport: s.http.Transport, Jar: jar, Timeout: s.http.Timeout}}
	p.send(t, http.MethodPost, "/v1/auth/login", object{"username": who.Username, "password": who.Password}).expect(t, http.StatusOK, "")
	return p
}

func (p person) send(t *testing.T, method, path string, body any) answer {
	t.Helper()
	var content []byte
	if body != nil {
		content, _ = json.Marshal(body) // of our own
	}
	request, err := http.NewRequestWithContext(t.Context(), method, p.site.balancer+path, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "Origin": p.site.balancer, "Idempotency-Key": uuid.NewString()} {
		request.Header.Set(name, value)
	}
	through := site{http: p.http}
	return through.send(request)
}

func (p person) open(t *testing.T, label string) string {
	t.Helper()
	return p.send(t, http.MethodPost, "/v1/accounts", object{"currency": "KRW", "label": label}).expect(t, http.StatusCreated, "").field("number")
}

func (p person) balance(t *testing.T, number string) string {
	t.Helper()
	return p.send(t, http.MethodGet, "/v1/accounts/"+number, nil).expect(t, http.StatusOK, "").field("balance", "posted")
}
