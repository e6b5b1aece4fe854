package console_test

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/api/console"
	"lockstep/node/ledger"
)

func TestAmountsAreWrittenAsPeopleReadThem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		language console.Language
		minor    int64
		currency ledger.Currency
		want     string
	}{
		{console.English, 12000, "KRW", "₩12,000"},
		{console.Korean, 12000, "KRW", "12,000원"},
		{console.Korean, -1234567, "KRW", "−1,234,567원"},
		{console.English, 0, "KRW", "₩0"},
		{console.English, 5, "USD", "$0.05"},
		{console.Korean, 123456, "USD", "$1,234.56"},
		{console.English, -1234567, "KWD", "−KWD\u00a01,234.567"},
		{console.English, 999, "JPY", "¥999"},
		{console.Korean, 1000, "JPY", "1,000엔"},
		{console.English, 9_000_000_000_000_000_000, "KRW", "₩9,000,000,000,000,000,000"},
	} {
		if got := console.NewAmount(c.language, c.minor, c.currency).String(); got != c.want {
			t.Errorf("%d %s in %s is %s, want %s", c.minor, c.currency, c.language, got, c.want)
		}
	}
	if got := console.NewAmount(console.English, 0, "USD").Signed().String(); got != "$0.00" {
		t.Errorf("nothing has a sign: %s", got)
	}
	if got := console.NewAmount(console.English, 70, "USD").Signed().String(); got != "+$0.70" {
		t.Errorf("a credit is %s", got)
	}
}

// A day begins and ends where the person is, also when it has 23 hours; what is no day is refused.
func TestDaysAreThoseOfThePerson(t *testing.T) {
	t.Parallel()
	from, until, ok := console.Days("2026-01-31", "2026-01-31", console.Zone("Asia/Seoul"))
	if !ok || from.UTC().Format(time.RFC3339) != "2026-01-30T15:00:00Z" || until.Sub(from) != 24*time.Hour {
		t.Errorf("got %v to %v", from, until)
	}
	from, until, _ = console.Days("2026-03-29", "2026-03-29", console.Zone("Europe/Berlin"))
	if until.Sub(from) != 23*time.Hour {
		t.Errorf("the day on which summer time begins has %v", until.Sub(from))
	}
	if from, until, ok := console.Days("", "", time.UTC); !ok || !from.IsZero() || !until.IsZero() {
		t.Errorf("no days are %v to %v", from, until)
	}
	for _, wrong := range []string{"2026-02-30", "yesterday", "2026-1-1", "2026-01-31T00:00:00Z"} {
		if _, _, ok := console.Days(wrong, "", time.UTC); ok {
			t.Errorf("%q is a day", wrong)
		}
	}
	for _, wrong := range []string{"", "Local", "../etc/passwd", "Nowhere/City", strings.Repeat("a", 100)} {
		if got := console.Zone(wrong); got != time.UTC {
			t.Errorf("the zone %q is %v", wrong, got)
		}
	}
}

// What somebody writes to a payee is text in a spreadsheet, whatever it begins with.
func TestCSVIsHarmless(t *testing.T) {
	t.Parallel()
	w := console.Writer{Language: console.English, Zone: console.Zone("Asia/Seoul"), System: "alpha"}
	entry := ledger.Entry{
		Account: 1000, Sequence: 1, Transfer: "t", Kind: ledger.Payment, Amount: -1250, Currency: "USD", BalanceAfter: 50,
		Counterparty: "beta-00000000100042", CreatedAt: time.Date(2026, 1, 31, 15, 30, 0, 0, time.UTC),
	}
	var lines []console.Line
	notes := [][2]string{ // as written, and in the table
		{`=HYPERLINK("https://evil")`, `'=HYPERLINK("https://evil")`},
		{"+1", "'+1"},
		{"-1", "'-1"},
		{"@x", "'@x"},
		{"\t =1", "\t '=1"},
		{"＝1", "'＝1"},
		{"＋1", "'＋1"},
		{"－1", "'－1"},
		{"＠x", "'＠x"},
		{"a;=1;+2", "a;'=1;'+2"},
		{`a; "=1`, `a; "'=1`},
		{"a\t@x", "a\t'@x"},
		{"a,\n-1", "a,\n'-1"},
		{"a \"b\",\nc", "a \"b\",\nc"},
		{"점심", "점심"},
		{"1+1=2 - a@b; c", "1+1=2 - a@b; c"},
	}
	for _, note := range notes {
		lines = append(lines, console.Line{Entry: entry, Description: note[0]})
	}
	text, err := w.CSV(lines)
	if err != nil {
		t.Fatal(err)
	}
	plain, marked := strings.CutPrefix(string(text), "\ufeff")
	rows, err := csv.NewReader(strings.NewReader(plain)).ReadAll()
	if err != nil || !marked || len(rows) != len(lines)+1 {
		t.Fatalf("%d rows, marked %t: %v", len(rows), marked, err)
	}
	if want := []string{"2026-02-01T00:30:00+09:00", "Sent", "beta-00000000100042", `'=HYPERLINK("https://evil")`, "-12.50", "USD", "0.50", "t"}; !slices.Equal(rows[1], want) {
		t.Errorf("got %q, want %q", rows[1], want)
	}
	for i, note := range notes {
		if got := rows[i+1][3]; got != note[1] {
			t.Errorf("%q is %q, not %q, which is no formula", note[0], got, note[1])
		}
	}
}

// Every text that a page names is there in both languages, and none is there for nothing.
func TestPagesHaveTheirWordsInBothLanguages(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	pages, _ := filepath.Glob("pages/*.html")
	if err != nil || len(pages) < 10 {
		t.Fatalf("found %d pages: %v", len(pages), err)
	}
	var text strings.Builder
	for _, file := range append(files, pages...) {
		if file == "words.go" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(content)
	}
	// Keys that are put together while a page is written.
	made := regexp.MustCompile(`^(kind|step|transfer|account|problem|column)\.`)
	used := map[string]bool{}
	for _, match := range regexp.MustCompile(`\bt "([a-z]+(?:\.[a-z_]+)?)"`).FindAllStringSubmatch(text.String(), -1) {
		used[match[1]] = true
	}
	for key, phrase := range console.Phrases() {
		if phrase[0] == "" || phrase[1] == "" || strings.Count(phrase[0], "%") != strings.Count(phrase[1], "%") {
			t.Errorf("the words of %s are %q", key, phrase)
		}
		if !used[key] && !made.MatchString(key) {
			t.Errorf("no page says %s", key)
		}
		delete(used, key)
	}
	for key := range used {
		t.Errorf("there are no words for %s", key)
	}
}

// Every page is written in both languages, with each state that it knows, and nothing in it is inline: the policy would
// keep it from working.
func TestPagesAreWrittenWithoutAnythingInline(t *testing.T) {
	t.Parallel()
	c, err := console.New()
	if err != nil {
		t.Fatal(err)
	}
	inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script(?:>|\s[^>]*[^"]>[^<])|javascript:|https?://`)
	for _, language := range []console.Language{console.English, console.Korean} {
		for name, body := range bodies(language) {
			page, _, _ := strings.Cut(name, " ")
			text, err := c.Render(language, page, console.Frame{System: "alpha", Person: "Alice", Path: "/wallet"}, body)
			if err != nil {
				t.Errorf("%s in %s: %v", name, language, err)
				continue
			}
			if found := inline.Find(text); found != nil {
				t.Errorf("%s in %s has %q", name, language, found)
			}
			if strings.Contains(string(text), "ZgotmplZ") || strings.Contains(string(text), "%!") {
				t.Errorf("%s in %s has something that could not be written", name, language)
			}
			if !strings.Contains(string(text), `<html lang="`+string(language)+`">`) {
				t.Errorf("%s does not say that it is in %s", name, language)
			}
			if strings.Contains(string(text), "<b>evil") {
				t.Errorf("%s in %s takes a label for its own text", name, language)
			}
		}
	}
}

// bodies are contents for every page.
func bodies(language console.Language) map[string]any {
	w := console.Writer{Language: language, Zone: time.UTC, System: "alpha"}
	at := time.Date(2026, 1, 31, 9, 0, 0, 0, time.UTC)
	account := ledger.Account{ID: 1000, Owner: "user:a", Currency: "KRW", Label: "<b>evil</b>", Status: ledger.Open, Posted: 100, PendingDebit: 5, PendingCredit: 7, CreatedAt: at}
	frozen := ledger.Account{ID: 1001, Owner: "user:a", Currency: "USD", Status: ledger.Frozen, CreatedAt: at}
	accounts := w.Accounts([]ledger.Account{account, frozen})
	transfer := ledger.Transfer{
		ID: "0190a0c8-7d4a-7c3e-8a01-000000000001", Kind: ledger.Payment, State: ledger.Pending, From: ledger.NewNumber("alpha", 1000),
		To: ledger.NewNumber("beta", 1000), PayerID: 1000, Amount: ledger.Money{Minor: 5, Currency: "KRW"}, Description: "<b>evil</b>", CreatedAt: at,
	}
	own := func(id ledger.AccountID) bool { return id == 1000 }
	remittance := ledger.Remittance{ID: transfer.ID, Payer: "alpha", Payee: "beta", State: ledger.Pending, CreatedAt: at, Transfer: &transfer}
	posted, voided := remittance, remittance
	posted.State, posted.FinishedAt, posted.CreditedAt = ledger.Posted, at, at
	voided.State, voided.Failure = ledger.Voided, "a_code_that_nobody_knows"
	done, given := transfer, transfer
	done.State, given.State = ledger.Posted, ledger.Voided
	cash := ledger.Transfer{ID: transfer.ID, Kind: ledger.Deposit, State: ledger.Posted, From: ledger.Cash, To: transfer.From, PayeeID: 1000, Amount: transfer.Amount, CreatedAt: at, FinishedAt: at}
	lines := w.Statement([]console.Line{{Entry: ledger.Entry{Account: 1000, Kind: ledger.Captured, Amount: -3, Currency: "KRW", Counterparty: transfer.To, CreatedAt: at}, Description: "<b>evil</b>"}})
	filter := console.Filter{Kind: "deposit", Kinds: []string{"deposit", "withdrawal", "transfer", "capture", "return"}, Zone: "UTC"}
	return map[string]any{
		"home":       console.Home{Accounts: accounts, Totals: []console.Amount{accounts[0].Available}, Recent: w.Recent([]ledger.Transfer{transfer, cash, given}, own), More: true},
		"home empty": console.Home{}, "home quiet": console.Home{Accounts: accounts},
		"account":      console.AccountPage{Account: accounts[0], Lines: lines, Filter: filter, Older: "/wallet/x?before=1", Newest: true},
		"account none": console.AccountPage{Account: accounts[1], Filter: filter}, "account new": console.AccountPage{Account: accounts[1], Newest: true},
		"open": console.Form{Key: "k", Currencies: []ledger.Currency{"KRW", "USD"}}, "deposit": console.Form{Key: "k", Accounts: accounts}, "withdraw": console.Form{Key: "k", Accounts: accounts},
		"send": console.Form{Key: "k", Accounts: accounts, To: `"><script>alert(1)</script>`}, "send none": console.Form{Key: "k"}, "deposit none": console.Form{}, "withdraw none": console.Form{},
		"transfer pending": w.Transfer(transfer, &remittance, own), "transfer posted": w.Transfer(done, &posted, own), "transfer voided": w.Transfer(given, &voided, own),
		"transfer cash": w.Transfer(cash, nil, own),
		"signin":        console.SignIn{Next: "/wallet", Google: true}, "register": console.SignIn{Next: "/wallet"},
		"settings": console.Settings{Password: true, Sessions: []console.Session{{Current: true, Browser: "Firefox, Linux"}, {}}}, "settings program": console.Settings{},
		"failure": console.Failure{Status: 503, Title: "<b>evil</b>", Meaning: "x", RequestID: "r"},
	}
}

// A file's name tells what is in it, so that it may be kept for ever.
func TestAssetsAreNamedByTheirContents(t *testing.T) {
	t.Parallel()
	c, err := console.New()
	if err != nil {
		t.Fatal(err)
	}
	page, err := c.Render(console.English, "signin", console.Frame{}, console.SignIn{})
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`"/wallet/assets/([^"]+)"`).FindAllStringSubmatch(string(page), -1)
	if len(links) != 4 {
		t.Fatalf("the page links to %q", links)
	}
	for _, link := range links {
		asset, there := c.Asset(link[1])
		if !there || len(asset.Body) == 0 || asset.Type == "" {
			t.Errorf("%s is not there", link[1])
		}
		if strings.HasSuffix(link[1], ".css") {
			for _, font := range regexp.MustCompile(`url\(([^)]+)\)`).FindAllStringSubmatch(string(asset.Body), -1) {
				if _, there := c.Asset(font[1]); !there {
					t.Errorf("the style sheet's %s is not there", font[1])
				}
			}
		}
	}
	for _, other := range []string{"wallet.js", "OFL.txt", "../words.go", ""} {
		if _, there := c.Asset(other); there {
			t.Errorf("%q is served", other)
		}
	}
}

func TestBrowsersAreTold(t *testing.T) {
	t.Parallel()
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36":                                      "Chrome, Linux",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1":    "Safari, iPhone",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0":              "Edge, Windows",
		"Mozilla/5.0 (Linux; Android 14; SM-S921N) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36": "Samsung Internet, Android",
		"curl/8.5.0": "",
	} {
		if got := console.Browser(agent); got != want {
			t.Errorf("%s is %q, want %q", agent, got, want)
		}
	}
}
