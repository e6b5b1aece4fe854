package api_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/peers"
	"lockstep/node/store"
)

// page reads a page as somebody; "" is nobody.
func (e *edge) page(tb testing.TB, who, path string, more ...string) answer {
	tb.Helper()
	if who != "" {
		more = append([]string{"Authorization", "Bearer " + who}, more...)
	}
	return e.do(tb, "GET", path, "", append([]string{"Accept", "text/html"}, more...)...)
}

// Nobody sees more on a page than the API would show them, and nobody who is not signed in sees anything.
func TestWalletPagesAreTheirOwnersOnly(t *testing.T) {
	t.Parallel()
	e := newPeered(t)
	// The amount is one that no id, key or hash on a page can have in it, written either way.
	const amount, written = "9876543210", "9,876,543,210"
	number := e.open(t, "alice", "9999999999")
	id := e.post(t, "alice", "/v1/withdrawals", fmt.Sprintf(`{"account":%q,"amount":%q,"currency":"KRW"}`, number, amount)).expect(t, 201, "").field("id")
	account, transfer := "/wallet/accounts/"+number, "/wallet/transfers/"+id
	for path, shown := range map[string]string{account: written, account + "/statement.csv": amount, transfer: written, transfer + "/events": "data: posted"} {
		if got := e.page(t, "alice", path); got.status != 200 || !strings.Contains(string(got.body), shown) {
			t.Errorf("alice gets %v for her own %s", got, path)
		}
		if got := e.page(t, "bob", path); got.status != 404 || !strings.Contains(string(got.body), "<h1>") || strings.Contains(string(got.body), amount) || strings.Contains(string(got.body), written) {
			t.Errorf("bob gets %v for %s", got, path)
		}
	}
	if got := e.page(t, "bob", "/wallet"); strings.Contains(string(got.body), number) {
		t.Errorf("bob's page has alice's account: %v", got)
	}
	for _, path := range []string{"/", "/wallet", "/wallet/send", "/wallet/settings", account, account + "/statement.csv", transfer, transfer + "/events"} {
		got := e.page(t, "", path)
		if got.status != 401 || !strings.Contains(string(got.body), `data-auth="/v1/auth/login"`) || strings.Contains(string(got.body), "data-person") {
			t.Errorf("nobody gets %v for %s", got, path)
		}
		if !strings.Contains(got.header.Get("Cache-Control"), "no-store") || !strings.HasPrefix(got.header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s has the headers %v", path, got.header)
		}
	}
	for _, path := range []string{"/wallet/nothing", "/wallet/accounts/x", "/wallet/transfers/x", "/wallet/transfers/" + uuid.NewString(), "/wallet/assets/wallet.js"} {
		if got := e.page(t, "alice", path); got.status != 404 || !strings.Contains(got.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s is %v", path, got)
		}
	}
}

// A form keeps its key when it is loaded again, and takes nobody's for one that is no key.
func TestWalletFormsKeepTheirKey(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	number := e.open(t, "alice", "10")
	for _, path := range []string{"/wallet/open", "/wallet/deposit", "/wallet/withdraw", "/wallet/send"} {
		for _, query := range []string{"", "?form=", "?form=x", "?form=" + strings.ToUpper(uuid.NewString())} {
			if got := e.page(t, "alice", path+query); got.status != 303 || !strings.HasPrefix(got.header.Get("Location"), path+"?form=") {
				t.Errorf("%s leads to %v", path+query, got)
			}
		}
		first := e.page(t, "alice", path+"?account="+number+"&to=x").header.Get("Location")
		second := e.page(t, "alice", path+"?account="+number+"&to=x").header.Get("Location")
		address, _ := url.Parse(first)
		if first == second || address.Query().Get("account") != number || address.Query().Get("to") != "x" {
			t.Errorf("%s leads to %s and %s", path, first, second)
		}
		for range 2 {
			if got := e.page(t, "alice", first); got.status != 200 || !strings.Contains(string(got.body), `data-key="`+address.Query().Get("form")+`"`) {
				t.Errorf("%s is %v", first, got)
			}
		}
	}
}

func TestWalletSpeaksTheChosenLanguage(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for _, c := range []struct {
		query, cookie, accept, want string
	}{
		{"", "", "", "en"}, {"", "", "ko-KR,ko;q=0.9,en;q=0.8", "ko"}, {"", "en", "ko", "en"}, {"?lang=ko", "en", "en", "ko"}, {"?lang=fr", "", "ko", "ko"}, {"", "<b>", "en", "en"},
	} {
		got := e.page(t, "", "/wallet/sign-in"+c.query, "Cookie", "wallet_lang="+c.cookie, "Accept-Language", c.accept)
		if !strings.Contains(string(got.body), `<html lang="`+c.want+`">`) {
			t.Errorf("%+v: %.300s", c, got.body)
		}
		if kept := strings.HasPrefix(got.header.Get("Set-Cookie"), "wallet_lang=ko"); kept != (c.query == "?lang=ko") {
			t.Errorf("%+v: the choice is kept: %q", c, got.header.Get("Set-Cookie"))
		}
	}
	// Whoever is told that they may not is told in their language.
	if got := e.page(t, "limited", "/wallet/send", "Accept-Language", "ko"); got.status != 403 || !strings.Contains(string(got.body), "권한 없음") {
		t.Errorf("got %v", got)
	}
}

// After signing in people go on to a page of this site, and to no other.
func TestWalletSignInLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for next, want := range map[string]string{
		"/wallet/send?form=1": "/wallet/send?form=1", "https://evil": "/wallet", "//evil": "/wallet", `/\evil`: "/wallet", "javascript:alert(1)": "/wallet", "": "/wallet", "/wallet\n": "/wallet",
	} {
		got := e.page(t, "", "/wallet/sign-in?next="+url.QueryEscape(next))
		if !strings.Contains(string(got.body), `data-next="`+want+`"`) {
			t.Errorf("%q leads to %.2000s", next, got.body)
		}
	}
	if got := e.page(t, "", `/wallet/accounts/"><script>x`); strings.Contains(string(got.body), "<script>x") {
		t.Errorf("a path is taken for the page's own text: %s", got.body)
	}
}

func TestWalletStatementIsNarrowedAndExported(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	number := e.open(t, "alice", "1000")
	for range 30 {
		e.post(t, "alice", "/v1/withdrawals", fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, number)).expect(t, 201, "")
	}
	path := "/wallet/accounts/" + number
	count := func(got answer) int { return strings.Count(string(got.body), `<a class="entry`) }
	first := e.page(t, "alice", path)
	_, older, _ := strings.Cut(string(first.body), `href="`+path+`?before=`)
	older, _, _ = strings.Cut(older, `"`)
	if second := e.page(t, "alice", path+"?before="+older); count(first) != 25 || count(second) != 6 || !strings.Contains(string(second.body), "</span>1,000") {
		t.Errorf("%d lines, then %d before %q", count(first), count(second), older)
	}
	if got := count(e.page(t, "alice", path+"?kind=deposit")); got != 1 {
		t.Errorf("%d deposits", got)
	}
	for _, wrong := range []string{"?kind=theft", "?from=today", "?to=2026-02-31", "?before=-1", "?before=x"} {
		if got := e.page(t, "alice", path+wrong); got.status != 400 {
			t.Errorf("%s is %d", wrong, got.status)
		}
	}
	got := e.page(t, "alice", path+"/statement.csv", "Cookie", "wallet_zone=Asia%2FSeoul; wallet_lang=ko")
	lines := strings.Split(strings.TrimSpace(string(got.body)), "\r\n")
	if len(lines) != 32 || !strings.Contains(lines[31], "2026-01-31T18:00:00+09:00,입금,,,1000,KRW,1000,") {
		t.Errorf("%d lines, the last one %q", len(lines), lines[len(lines)-1])
	}
	if name := got.header.Get("Content-Disposition"); name != `attachment; filename="`+number+`.csv"` {
		t.Errorf("it is kept as %q", name)
	}
}

// Pages read as new as the browser's last change, or from the source when it asks for that.
func TestWalletPagesAreAsFreshAsTheBrowserHasSeen(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for _, c := range []struct {
		headers []string
		want    store.Consistency
	}{
		{nil, store.Consistency{}},
		{[]string{"Cookie", "wallet_seen=t1"}, store.Consistency{Token: "t1"}},
		{[]string{"Cache-Control", "no-cache"}, store.Consistency{Source: true}},
	} {
		e.page(t, "alice", "/wallet", c.headers...)
		if got := e.bank.wants[len(e.bank.wants)-1]; got != c.want {
			t.Errorf("%v: it read %+v", c.headers, got)
		}
	}
}

// A stream tells of the decision when it is made, and ends when nothing more will come.
func TestWalletFollowsATransferToItsEnd(t *testing.T) {
	t.Parallel()
	e := newPeered(t)
	number := e.open(t, "alice", "100")
	decided := make(chan struct{})
	e.asker.says(func(ctx context.Context) (peers.PrepareResult, error) {
		select {
		case <-decided:
			return peers.PrepareResult{State: peers.Refused, Code: "account_frozen"}, nil
		case <-ctx.Done():
			return peers.PrepareResult{}, ctx.Err()
		}
	})
	body := fmt.Sprintf(`{"from":%q,"to":%q,"amount":"10","currency":"KRW"}`, number, account("beta", 1000))
	id := e.post(t, "alice", "/v1/transfers", body, "Prefer", "wait=1").expect(t, 202, "").field("id")
	if got := e.page(t, "alice", "/wallet/transfers/"+id); !strings.Contains(string(got.body), `data-mark="pending" data-finished="false"`) {
		t.Fatalf("got %v", got)
	}
	request, err := http.NewRequestWithContext(t.Context(), "GET", e.base+"/wallet/transfers/"+id+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer alice")
	response, err := e.client.Do(request)
	if err != nil || response.StatusCode != 200 || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("got %v: %v", response, err)
	}
	defer response.Body.Close()
	var marks []string
	began := time.Now()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		mark, is := strings.CutPrefix(lines.Text(), "data: ")
		if is && (len(marks) == 0 || marks[len(marks)-1] != mark) {
			marks = append(marks, mark)
		}
		if is && len(marks) == 1 && mark == "pending" {
			select {
			case <-decided:
			default:
				close(decided)
			}
		}
	}
	if got := fmt.Sprint(marks); got != "[pending voided]" || time.Since(began) > 20*time.Second {
		t.Errorf("the stream told %s in %v", got, time.Since(began))
	}
	got := e.page(t, "alice", "/wallet/transfers/"+id, "Accept-Language", "ko")
	if !strings.Contains(string(got.body), `data-mark="voided" data-finished="true"`) || !strings.Contains(string(got.body), "동결") {
		t.Errorf("got %v", got)
	}
}

// Pages work on a session's cookies: they are renewed on the way, name the person, and are nobody's after signing out, when
// the address of the page to sign in on stays the one that was asked for.
func TestWalletPagesLiveOnASession(t *testing.T) {
	t.Parallel()
	l := newLobby(t)
	b, username := l.register(t)
	page := func(path string) answer { return b.do(1, "GET", path, "", "Accept", "text/html") }
	if got := page("/"); got.status != 200 || !strings.Contains(string(got.body), "Signed in as "+username) {
		t.Errorf("got %v", got)
	}
	l.bank.pass(20 * time.Minute) // the access token has ended
	got := page("/wallet/settings")
	if got.status != 200 || len(setCookies(got)) != 2 || !strings.Contains(string(got.body), "This one") {
		t.Errorf("with the refresh token alone: %v", got)
	}
	b.do(0, "POST", "/v1/auth/logout", "{}").expect(t, 204, "")
	for _, path := range []string{"/", "/wallet", "/wallet/settings", "/wallet/deposit?account=x"} {
		got := page(path)
		if got.status != 401 || strings.Contains(string(got.body), username) || !strings.Contains(string(got.body), `data-next="`+path+`"`) {
			t.Errorf("%s after signing out: %v", path, got)
		}
	}
}

// Whoever is signed in is led past the page to sign in on.
func TestWalletSignInIsSkippedByThoseWhoAre(t *testing.T) {
	t.Parallel()
	l := newLobby(t)
	b, _ := l.register(t)
	l.nodes[0].client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	got := b.do(0, "GET", "/wallet/sign-in?next=/wallet/open", "")
	if got.status != 303 || got.header.Get("Location") != "/wallet/open" {
		t.Errorf("got %v", got)
	}
	b.set("access", "x")
	b.set("refresh", "y")
	if got := b.do(0, "GET", "/wallet/sign-in?next=/wallet/open", ""); got.status != 200 {
		t.Errorf("with cookies that are worth nothing: %v", got)
	}
}
