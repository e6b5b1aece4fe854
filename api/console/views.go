package console

import (
	"strings"
	"time"

	"lockstep/node/ledger"
)

// Writer makes what pages show of what the edge has read, in a language and at a place.
type Writer struct {
	Language Language
	Zone     *time.Location
	System   string // id of this payment system
}

// Account is an account as a page shows it.
type Account struct {
	Number    ledger.Number
	Label     string
	Currency  ledger.Currency
	Status    ledger.Status
	Posted    Amount
	Available Amount
	Held      *Amount // nil: nothing is
	Coming    *Amount // nil: nothing is
	OpenedAt  Moment
}

// Usable tells whether money can move on the account.
func (a Account) Usable() bool { return a.Status == ledger.Open }

// Account shows an account.
func (w Writer) Account(a ledger.Account) Account {
	return Account{
		Number: ledger.NewNumber(w.System, a.ID), Label: a.Label, Currency: a.Currency, Status: a.Status,
		Posted: w.amount(a.Posted, a.Currency), Available: w.amount(a.Available(), a.Currency),
		Held: w.unlessZero(a.PendingDebit, a.Currency), Coming: w.unlessZero(a.PendingCredit, a.Currency), OpenedAt: w.moment(a.CreatedAt),
	}
}

// Accounts shows several.
func (w Writer) Accounts(list []ledger.Account) []Account {
	shown := make([]Account, 0, len(list))
	for _, account := range list {
		shown = append(shown, w.Account(account))
	}
	return shown
}

func (w Writer) amount(minor int64, currency ledger.Currency) Amount {
	return NewAmount(w.Language, minor, currency)
}

func (w Writer) unlessZero(minor int64, currency ledger.Currency) *Amount {
	if minor == 0 {
		return nil
	}
	amount := w.amount(minor, currency)
	return &amount
}

func (w Writer) moment(at time.Time) Moment { return NewMoment(w.Language, at, w.Zone) }

// Way is how a transfer goes, seen by the person who looks.
type Way string

// The ways.
const (
	Out   Way = "out"
	In    Way = "in"
	Among Way = "among" // between two accounts of one's own
)

// Activity is one transfer in a list, or one line of a statement.
type Activity struct {
	Transfer    ledger.TransferID
	Way         Way
	What        string        // the key of the word for its kind
	Other       ledger.Number // the other side; empty: cash
	Description string
	Amount      Amount
	After       *Amount // the balance, on a statement
	State       ledger.State
	At          Moment
	NewDay      bool // the first of its day in the list
}

// what is the key of the word for a transfer of a kind.
func what(kind ledger.Kind, way Way) string {
	switch kind {
	case ledger.Deposit, ledger.Withdrawal:
		return "kind." + string(kind)
	case ledger.Captured:
		return "kind.capture"
	case ledger.Payment:
		return "kind." + string(way)
	}
	return "kind.return"
}

// Line is one line of a statement. The lines come newest first; previous is the one above it.
type Line struct {
	Entry       ledger.Entry
	Description string
}

// Statement shows the lines of an account's statement.
func (w Writer) Statement(lines []Line) []Activity {
	shown := make([]Activity, 0, len(lines))
	for _, line := range lines {
		way := In
		if line.Entry.Amount < 0 {
			way = Out
		}
		after := w.amount(line.Entry.BalanceAfter, line.Entry.Currency)
		shown = append(shown, Activity{
			Transfer: line.Entry.Transfer, Way: way, What: what(line.Entry.Kind, way), Other: unlessCash(line.Entry.Counterparty),
			Description: line.Description, Amount: w.amount(line.Entry.Amount, line.Entry.Currency).Signed(), After: &after,
			State: ledger.Posted, At: w.moment(line.Entry.CreatedAt),
		})
	}
	return byDay(shown)
}

func unlessCash(number ledger.Number) ledger.Number {
	if number == ledger.Cash {
		return ""
	}
	return number
}

func byDay(list []Activity) []Activity {
	for i := range list {
		list[i].NewDay = i == 0 || list[i].At.Day != list[i-1].At.Day
	}
	return list
}

// Owned tells which accounts are those of the person who looks.
type Owned func(ledger.AccountID) bool

// Recent shows a list of transfers.
func (w Writer) Recent(transfers []ledger.Transfer, owned Owned) []Activity {
	shown := make([]Activity, 0, len(transfers))
	for _, t := range transfers {
		way := wayOf(t, owned)
		activity := Activity{
			Transfer: t.ID, Way: way, What: what(t.Kind, way), Other: other(t, way), Description: t.Description, State: t.State, At: w.moment(t.CreatedAt),
			Amount: w.towards(t, way),
		}
		shown = append(shown, activity)
	}
	return byDay(shown)
}

// towards is the amount with the sign that it has for the person who looks; nothing has moved by one that was voided.
func (w Writer) towards(t ledger.Transfer, way Way) Amount {
	minor := t.Amount.Minor
	if way == Out {
		minor = -minor
	}
	amount := w.amount(minor, t.Amount.Currency)
	switch {
	case t.State == ledger.Voided || way == Among:
		amount.Sign = ""
	case way == In:
		amount = amount.Signed()
	}
	return amount
}

func wayOf(t ledger.Transfer, owned Owned) Way {
	payer, payee := owned(t.PayerID), owned(t.PayeeID)
	switch {
	case payer && payee:
		return Among
	case payee:
		return In
	}
	return Out
}

func other(t ledger.Transfer, way Way) ledger.Number {
	if way == In {
		return unlessCash(t.From)
	}
	return unlessCash(t.To)
}

// Transfer is one transfer with its way.
type Transfer struct {
	Activity
	From, To  ledger.Number // empty: cash
	Reference string
	Between   bool // two systems
	Failure   string
	Steps     []Step
	Finished  bool   // nothing will be added to the steps
	Mark      string // changes whenever the page would
}

// Step is something that happened to a transfer.
type Step struct {
	Key string // of its words
	At  Moment
}

// Transfer shows a transfer. remittance is its way between two systems, nil inside one.
func (w Writer) Transfer(t ledger.Transfer, remittance *ledger.Remittance, owned Owned) Transfer {
	shown := Transfer{
		Activity: w.Recent([]ledger.Transfer{t}, owned)[0], From: unlessCash(t.From), To: unlessCash(t.To), Reference: t.Reference, Between: t.Remote(),
	}
	if remittance == nil {
		shown.Steps = []Step{{Key: "step." + string(t.State), At: w.moment(t.FinishedAt)}}
		shown.Finished = t.State != ledger.Pending
	} else {
		shown.Failure = string(remittance.Failure)
		shown.Steps = w.steps(*remittance, shown.Way)
		shown.Finished = remittance.State == ledger.Voided || remittance.State == ledger.Posted && (!remittance.CreditedAt.IsZero() || shown.Way == In)
	}
	shown.Mark = Mark(t, remittance)
	return shown
}

// Mark is a text that changes whenever something happens to a transfer.
func Mark(t ledger.Transfer, remittance *ledger.Remittance) string {
	mark := string(t.State)
	if remittance != nil {
		mark = string(remittance.State)
		if !remittance.CreditedAt.IsZero() {
			mark += "-credited"
		}
	}
	return mark
}

func (w Writer) steps(r ledger.Remittance, way Way) []Step {
	steps := []Step{{Key: "step.held", At: w.moment(r.CreatedAt)}}
	if way == In {
		steps[0].Key = "step.reserved"
	}
	switch r.State {
	case ledger.Posted:
		steps = append(steps, Step{Key: "step.posted", At: w.moment(r.FinishedAt)})
	case ledger.Pending:
	default:
		steps = append(steps, Step{Key: "step.voided", At: w.moment(r.FinishedAt)})
	}
	if !r.CreditedAt.IsZero() {
		steps = append(steps, Step{Key: "step.credited", At: w.moment(r.CreditedAt)})
	}
	return steps
}

// What each page is made of.
type (
	// SignIn is the page of those who are not signed in, and the one on which they register.
	SignIn struct {
		Next   string // where to go afterwards, a path of this site
		Google bool   // there is a provider
	}

	// Home is the list of accounts.
	Home struct {
		Accounts []Account
		Totals   []Amount // by currency
		Recent   []Activity
		More     bool // accounts than are shown
	}

	// AccountPage is an account with its statement.
	AccountPage struct {
		Account Account
		Lines   []Activity
		Filter  Filter
		Older   string // address of the next page; empty: there is none
		Newest  bool   // the first page
		Export  string // address of the statement as CSV
	}

	// Filter is what a statement was narrowed to, as the person wrote it.
	Filter struct {
		Kind, First, Last string
		Kinds             []string
		Zone              string
	}

	// Form is a page that changes something, once: its key is part of its address.
	Form struct {
		Key        string
		Accounts   []Account
		Selected   ledger.Number
		To         string
		Currencies []ledger.Currency
		Again      string // address of a new form of its kind
	}

	// Failure is a page that could not be shown.
	Failure struct {
		Status               int
		Code, Title, Meaning string
		RequestID            string
	}

	// Settings are about the person.
	Settings struct {
		Password bool // the person has one to change
		Sessions []Session
	}

	// Session is a browser in which the person is signed in.
	Session struct {
		Current bool // the one that looks at the page
		Browser string
		Address string
		Since   Moment
	}
)

// browsers are told by these words of a User-Agent, the first one that is there: most pretend to be the later ones, too.
var browsers = []struct{ mark, name string }{
	{"Edg", "Edge"},
	{"SamsungBrowser", "Samsung Internet"},
	{"Whale", "Whale"},
	{"OPR", "Opera"},
	{"Firefox", "Firefox"},
	{"FxiOS", "Firefox"},
	{"Chrome", "Chrome"},
	{"CriOS", "Chrome"},
	{"Safari", "Safari"},
}

// platforms likewise.
var platforms = []struct{ mark, name string }{
	{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"Mac OS", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"},
}

// Browser names the program and the machine that a User-Agent (RFC 9110, 10.1.5) speaks of; empty when it says neither.
func Browser(agent string) string {
	var parts []string
	for _, list := range [][]struct{ mark, name string }{browsers, platforms} {
		for _, one := range list {
			if strings.Contains(agent, one.mark) {
				parts = append(parts, one.name)
				break
			}
		}
	}
	return strings.Join(parts, ", ")
}

// Active tells whether anything narrows the statement.
func (f Filter) Active() bool { return f.Kind != "" || f.First != "" || f.Last != "" }
