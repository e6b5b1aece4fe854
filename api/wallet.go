package api

import (
	"context"
	"fmt"
	"math/big"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"lockstep/api/auth"
	"lockstep/api/console"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// The wallet's pages. They read what the REST API reads and show it to people; all that they change goes through the
// API's own routes, so that there is one way to move money.
const (
	walletPath = "/wallet"

	walletAccountsMax = 200
	walletRecent      = 8
)

// The cookies by which the wallet's script tells what the server needs to know to render a page. Nothing rests on them.
const (
	languageCookie = "wallet_lang" // the language that the person chose
	zoneCookie     = "wallet_zone" // the browser's time zone
	seenCookie     = "wallet_seen" // the Consistency-Token of the last change
)

const languageCookieLife = 365 * 24 * 60 * 60 // seconds

// forPeople tells whether the request is for a page, which people read: they get pages for refusals, too. On their way to
// a provider and back browsers only pass the API's routes.
func (x *exchange) forPeople() bool {
	switch path := x.fiber.Path(); {
	case path == walletPath, strings.HasPrefix(path, walletPath+"/"):
		return true
	case path == "/", strings.HasPrefix(path, "/v1/auth/google/"):
		return strings.Contains(x.header("Accept"), "text/html")
	}
	return false
}

// spoken is the language of a page: the one that was just chosen, or chosen before, or that the browser prefers.
func (x *exchange) spoken() language {
	for _, chosen := range []string{x.fiber.Query("lang"), x.fiber.Cookies(languageCookie)} {
		switch said := language(chosen); said {
		case english, korean:
			return said
		}
	}
	return preferredLanguage(x.header("Accept-Language"))
}

// writer words what a page shows.
func (x *exchange) writer() console.Writer {
	name, _ := url.QueryUnescape(x.fiber.Cookies(zoneCookie)) // what cannot be read is no zone
	return console.Writer{Language: console.Language(x.language), Zone: console.Zone(name), System: x.server.deps.System}
}

// showPage renders a page.
func (x *exchange) showPage(status int, name string, frame console.Frame, body any) error {
	frame.System, frame.Path = x.server.deps.System, x.pageAddress()
	page, err := x.server.console.Render(console.Language(x.language), name, frame, body)
	if err != nil {
		return err
	}
	if language(x.fiber.Query("lang")) == x.language {
		x.fiber.Cookie(&fiber.Cookie{
			Name: languageCookie, Value: string(x.language), Path: "/", MaxAge: languageCookieLife, SameSite: fiber.CookieSameSiteLaxMode,
		})
	}
	x.set("Content-Security-Policy", console.Policy)
	if x.fiber.GetRespHeader("Referrer-Policy") == "" {
		x.set("Referrer-Policy", "same-origin")
	}
	x.set("Cross-Origin-Opener-Policy", "same-origin")
	x.set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=()")
	x.set("Content-Language", string(x.language))
	x.set("Cache-Control", "no-store")
	return x.write(store.Answer{Status: status, ContentType: htmlType, Body: page})
}

// pageAddress is where the page is, without the choice of a language.
func (x *exchange) pageAddress() string {
	address, err := url.ParseRequestURI(x.fiber.OriginalURL())
	if err != nil {
		return walletPath
	}
	query := address.Query()
	query.Del("lang")
	return (&url.URL{Path: x.fiber.Path(), RawQuery: query.Encode()}).String()
}

// personal is the frame of a page of somebody who is signed in.
func (x *exchange) personal() console.Frame { return console.Frame{Person: x.personName()} }

// personName is how the one who is signed in is called.
func (x *exchange) personName() string {
	id, isUser := strings.CutPrefix(x.principal.Caller, "user:")
	if !isUser || x.server.deps.People == nil {
		return x.principal.Caller
	}
	return x.server.names.get(x.context(), x.server.deps, id)
}

// failPage answers a page's request that failed: with the page to sign in on, or with one that says what is wrong.
func (x *exchange) failPage(p problem) error {
	provider := strings.HasPrefix(x.fiber.Path(), "/v1/") // the way to a provider and back: nothing to come back to
	if p.Code == ledger.Unauthenticated && !provider {
		return x.showPage(p.Status, "signin", console.Frame{}, console.SignIn{Next: x.pageAddress(), Google: x.provider()})
	}
	failure := console.Failure{Status: p.Status, Code: string(p.Code), Title: p.Title, Meaning: console.Problem(console.Language(x.language), string(p.Code)), RequestID: p.RequestID}
	if p.Code == ledger.InvalidRequest || p.Code == ledger.Unauthenticated {
		failure.Meaning = p.Detail
	}
	frame := console.Frame{}
	if x.principal.Caller != "" {
		frame = x.personal()
	}
	return x.showPage(p.Status, "failure", frame, failure)
}

// provider tells whether people can sign in at a provider.
func (x *exchange) provider() bool { return x.server.deps.Logins != nil }

func (x *exchange) getWalletAsset() error {
	asset, there := x.server.console.Asset(x.param("name"))
	if !there {
		return ledger.Refuse(ledger.NotFound, "there is no such file")
	}
	x.set("Cache-Control", "public, max-age=31536000, immutable") // its name changes with its contents
	return x.write(store.Answer{Status: 200, ContentType: asset.Type, Body: asset.Body})
}

func (x *exchange) getWalletSignIn() error { return x.welcome("signin") }

func (x *exchange) getWalletRegister() error { return x.welcome("register") }

// welcome shows a page for those who are not signed in; others go on to where they wanted to be.
func (x *exchange) welcome(page string) error {
	next := x.fiber.Query("next")
	if !auth.SafePath(next) {
		next = walletPath
	}
	if access, refresh := x.cookies(); access != "" || refresh != "" {
		ctx, cancel := context.WithTimeout(x.context(), readWaitMax)
		defer cancel()
		if _, err := x.authenticated(ctx); err == nil {
			return x.seeOther(next)
		}
	}
	return x.showPage(200, page, console.Frame{}, console.SignIn{Next: next, Google: x.provider()})
}

func (x *exchange) seeOther(path string) error {
	x.set("Location", path)
	x.set("Cache-Control", "no-store")
	return x.write(store.Answer{Status: fiber.StatusSeeOther, ContentType: htmlType})
}

// getWallet is the list of one's own accounts and of what happened on them.
func (x *exchange) getWallet() error {
	var accounts []ledger.Account
	var recent store.TransferPage
	err := x.read(nil, func(ctx context.Context, q Queries) (err error) {
		if accounts, err = q.Accounts(ctx, store.AccountFilter{Owner: x.principal.Owner, Limit: walletAccountsMax + 1}); err != nil {
			return err
		}
		recent, err = q.Transfers(ctx, store.TransferFilter{Owner: x.principal.Owner, Limit: walletRecent})
		return err
	})
	if err != nil {
		return err
	}
	own := map[ledger.AccountID]bool{}
	for _, account := range accounts {
		own[account.ID] = true
	}
	more := len(accounts) > walletAccountsMax
	if more {
		accounts = accounts[:walletAccountsMax]
	}
	w := x.writer()
	return x.showPage(200, "home", x.personal(), console.Home{
		Accounts: w.Accounts(accounts), Totals: totals(w.Language, accounts), More: more,
		Recent: w.Recent(recent.Transfers, func(id ledger.AccountID) bool { return own[id] }),
	})
}

// totals sums what is available, by currency in the order of the accounts. A sum beyond what one account may have is left
// out: it could not be written.
func totals(in console.Language, accounts []ledger.Account) []console.Amount {
	sums, order := map[ledger.Currency]*big.Int{}, []ledger.Currency{}
	for _, account := range accounts {
		if sums[account.Currency] == nil {
			sums[account.Currency] = new(big.Int)
			order = append(order, account.Currency)
		}
		if account.Status == ledger.Open {
			sums[account.Currency].Add(sums[account.Currency], big.NewInt(account.Available()))
		}
	}
	var shown []console.Amount
	for _, currency := range order {
		if sum := sums[currency]; sum.IsInt64() {
			shown = append(shown, console.NewAmount(in, sum.Int64(), currency))
		}
	}
	return shown
}

func (x *exchange) getWalletOpen() error {
	return x.form("open", func(key string) (any, error) {
		return console.Form{Key: key, Currencies: x.server.deps.Currencies, Again: walletPath + "/open"}, nil
	})
}

func (x *exchange) getWalletDeposit() error  { return x.moneyForm("deposit") }
func (x *exchange) getWalletWithdraw() error { return x.moneyForm("withdraw") }
func (x *exchange) getWalletSend() error     { return x.moneyForm("send") }

// form shows a page that changes something once. Its key is part of its address: whoever loads the page again, or goes
// back to it, has the same form and can only repeat the same request.
func (x *exchange) form(page string, body func(key string) (any, error)) error {
	key := x.fiber.Query("form")
	if !canonicalID(key) {
		query := url.Values{"form": {x.server.deps.NewID()}}
		for _, kept := range []string{"account", "to", "lang"} {
			if value := x.fiber.Query(kept); value != "" {
				query.Set(kept, value)
			}
		}
		return x.seeOther(x.fiber.Path() + "?" + query.Encode())
	}
	shown, err := body(key)
	if err != nil {
		return err
	}
	return x.showPage(200, page, x.personal(), shown)
}

// moneyForm is a form on one's own accounts that can be used.
func (x *exchange) moneyForm(page string) error {
	return x.form(page, func(key string) (any, error) {
		var accounts []ledger.Account
		err := x.read(nil, func(ctx context.Context, q Queries) (err error) {
			accounts, err = q.Accounts(ctx, store.AccountFilter{Owner: x.principal.Owner, Limit: walletAccountsMax})
			return err
		})
		form := console.Form{Key: key, To: x.fiber.Query("to"), Again: x.fiber.Path()}
		selected := x.fiber.Query("account")
		for _, account := range x.writer().Accounts(accounts) {
			if !account.Usable() {
				continue
			}
			form.Accounts = append(form.Accounts, account)
			if string(account.Number) == selected {
				form.Selected = account.Number
			}
		}
		return form, err
	})
}

// getWalletSettings shows where the person is signed in. A program that looks at the page has no sessions.
func (x *exchange) getWalletSettings() error {
	var shown console.Settings
	people, id, err := x.person()
	if err != nil {
		return x.showPage(200, "settings", x.personal(), shown)
	}
	ctx, cancel := context.WithTimeout(x.context(), readWaitMax)
	defer cancel()
	user, err := people.User(ctx, id)
	if err != nil {
		return err
	}
	sessions, err := people.Sessions(ctx, id)
	if err != nil {
		return err
	}
	w := x.writer()
	shown.Password = user.HasPassword
	for _, session := range sessions {
		shown.Sessions = append(shown.Sessions, console.Session{
			Current: session.ID == x.principal.Session, Browser: console.Browser(session.Agent), Address: session.Address,
			Since: console.NewMoment(w.Language, session.CreatedAt, w.Zone),
		})
	}
	return x.showPage(200, "settings", x.personal(), shown)
}

// getWalletTransfer shows a transfer to those who may see it.
func (x *exchange) getWalletTransfer() error {
	id := ledger.TransferID(x.param("id"))
	missing := ledger.Refuse(ledger.TransferNotFound, "there is no transfer %s", id)
	if !canonicalID(string(id)) {
		return missing
	}
	var shown console.Transfer
	err := x.read(missing, func(ctx context.Context, q Queries) error {
		transfer, remittance, err := x.visibleTransfer(ctx, q, id, missing)
		if err != nil {
			return err
		}
		own, err := x.ownedOf(ctx, q, transfer)
		shown = x.writer().Transfer(transfer, remittance, own)
		return err
	})
	if err != nil {
		return err
	}
	return x.showPage(200, "transfer", x.personal(), shown)
}

// visibleTransfer reads a transfer that the caller may see, and its way between two systems if it has one.
func (x *exchange) visibleTransfer(ctx context.Context, q Queries, id ledger.TransferID, missing error) (ledger.Transfer, *ledger.Remittance, error) {
	transfer, err := q.Transfer(ctx, id)
	if err != nil {
		return transfer, nil, err
	}
	if err := x.mayLook(ctx, q, transfer, missing); err != nil {
		return transfer, nil, err
	}
	remitted, err := remittancesOf(ctx, q, transfer)
	if err != nil {
		return transfer, nil, err
	}
	remittance, there := remitted[id]
	if !there || remittance.Transfer == nil {
		return transfer, nil, nil
	}
	return *remittance.Transfer, &remittance, nil
}

// ownedOf tells which of a transfer's two accounts are the caller's.
func (x *exchange) ownedOf(ctx context.Context, q Queries, transfer ledger.Transfer) (console.Owned, error) {
	own := map[ledger.AccountID]bool{}
	for _, id := range []ledger.AccountID{transfer.PayerID, transfer.PayeeID} {
		if system, _ := ledger.StripeOf(id); system != 0 || id == 0 {
			continue
		}
		account, err := q.Account(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("read an account of transfer %s: %w", transfer.ID, err)
		}
		actor := ledger.Actor{Principal: x.principal.Owner}
		own[id] = actor.Owns(&account)
	}
	return func(id ledger.AccountID) bool { return own[id] }, nil
}
