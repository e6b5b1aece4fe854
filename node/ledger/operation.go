package ledger

import "time"

// Actor is who asks for an operation.
type Actor struct {
	Principal string // whose accounts it may use: a client's owner, else the client or user itself
	Operator  bool   // may set owner, status and overdraft limit of every account
	Depositor bool   // may deposit into any account of the system
}

// Owns tells whether the account belongs to the actor.
func (a Actor) Owns(account *Account) bool {
	return !account.Stripe() && account.Owner == a.Principal
}

// Operation is one change of balances. It says beforehand which rows it needs locked, and then changes all that it is
// about or, when it refuses, nothing.
type Operation interface {
	// Accounts lists the rows to lock; lane tells whose stripes of system accounts are meant.
	Accounts(system string, lane Lane) []AccountID
	// Holds lists the holds to lock.
	Holds() []HoldID
	Apply(*Book) (Result, error)
}

// Result is what an operation made; the fields that do not concern it are nil.
type Result struct {
	Transfer   *Transfer
	Remittance *Remittance // of a transfer between two systems
	Hold       *Hold
	Account    *Account
	Batch      []BatchItem
}

// BatchItem is the result of one transfer of a batch: a transfer or a refusal.
type BatchItem struct {
	Transfer *Transfer
	Refusal  *Error
}

// local keeps the rows of this system's ordinary accounts; other numbers have nothing to lock here.
func local(system string, numbers ...Number) []AccountID {
	var ids []AccountID
	for _, number := range numbers {
		if number.System() == system && number.Serial() >= systemSerialsMax {
			ids = append(ids, number.Serial())
		}
	}
	return ids
}

// Pay is a deposit (From is Cash), a withdrawal (To is Cash) or a transfer inside the system.
type Pay struct {
	ID          TransferID
	Actor       Actor
	Kind        Kind
	From, To    Number
	Amount      Money
	Description string
	Reference   string
}

// TransferID is the id that the transfer will have.
func (p Pay) TransferID() TransferID { return p.ID }

// Accounts lists payer and payee.
func (p Pay) Accounts(system string, lane Lane) []AccountID {
	ids := local(system, p.From, p.To)
	if p.Kind == Deposit || p.Kind == Withdrawal {
		ids = append(ids, lane.Stripe(CashSerial, p.Amount.Currency))
	}
	return ids
}

// Holds is empty.
func (p Pay) Holds() []HoldID { return nil }

// Apply moves the amount, or refuses.
func (p Pay) Apply(b *Book) (Result, error) {
	payer, payee, err := p.parties(b)
	if err != nil {
		return Result{}, err
	}
	if err := checkMove(payer, payee, p.From, p.To, p.Amount); err != nil {
		return Result{}, err
	}
	if err := b.canSpend(payer, p.From, p.Amount.Minor); err != nil {
		return Result{}, err
	}
	transfer := b.post(Transfer{
		ID: p.ID, Kind: p.Kind, From: p.From, To: p.To, Amount: p.Amount,
		Description: p.Description, Reference: p.Reference,
	}, payer, payee)
	b.spend(payer, p.Amount.Minor)
	return Result{Transfer: &transfer}, nil
}

// parties finds both accounts as the actor may use them.
func (p Pay) parties(b *Book) (payer, payee *Account, err error) {
	switch p.Kind {
	case Deposit:
		payee, there := b.account(p.To)
		if !there || !(p.Actor.Depositor || p.Actor.Owns(payee)) {
			return nil, nil, Refuse(AccountNotFound, "there is no account %s", p.To)
		}
		return b.stripe(CashSerial, p.Amount.Currency), payee, nil
	case Withdrawal:
		payer, err := b.owned(p.From, p.Actor)
		if err != nil {
			return nil, nil, err
		}
		return payer, b.stripe(CashSerial, p.Amount.Currency), nil
	default:
		return b.payerAndPayee(p.From, p.To, p.Actor)
	}
}

func (b *Book) payerAndPayee(from, to Number, actor Actor) (payer, payee *Account, err error) {
	payer, err = b.owned(from, actor)
	if err != nil {
		return nil, nil, err
	}
	if from == to {
		return nil, nil, Refuse(SameAccount, "payer and payee are the same account")
	}
	if to.System() != b.System {
		return nil, nil, Refuse(PeerUnknown, "this system knows no peer named %s", to.System())
	}
	payee, there := b.account(to)
	if !there {
		return nil, nil, Refuse(PayeeNotFound, "there is no account %s to pay to", to)
	}
	return payer, payee, nil
}

// checkMove refuses what forbids a move whatever funds there are.
func checkMove(payer, payee *Account, from, to Number, amount Money) error {
	if err := payer.mayMove(from, amount.Currency); err != nil {
		return err
	}
	if err := payee.mayMove(to, amount.Currency); err != nil {
		return err
	}
	return payee.canReceive(to, amount.Minor)
}

// Batch is up to 100 transfers in one operation: all or none when Atomic, else each for itself.
type Batch struct {
	Atomic    bool
	Transfers []Pay
}

// Accounts lists the accounts of all transfers.
func (o Batch) Accounts(system string, lane Lane) []AccountID {
	var ids []AccountID
	for _, pay := range o.Transfers {
		ids = append(ids, pay.Accounts(system, lane)...)
	}
	return ids
}

// Holds is empty.
func (o Batch) Holds() []HoldID { return nil }

// Apply runs the transfers in order. An atomic batch refuses with the first refusal.
func (o Batch) Apply(b *Book) (Result, error) {
	items := make([]BatchItem, 0, len(o.Transfers))
	err := b.Atomically(func() error {
		for i, pay := range o.Transfers {
			result, err := pay.Apply(b)
			refusal, isRefusal := err.(*Error) //nolint:errorlint // operations return refusals unwrapped
			switch {
			case err != nil && !isRefusal:
				return err
			case err != nil && o.Atomic:
				return Refuse(refusal.Code, "transfer %d of the batch: %s", i+1, refusal.Detail)
			}
			items = append(items, BatchItem{Transfer: result.Transfer, Refusal: refusal})
		}
		return nil
	})
	if err != nil {
		return Result{}, err
	}
	return Result{Batch: items}, nil
}

// Amend changes what an account is, not its balance. Nil fields stay. Only operators change more than the label.
type Amend struct {
	Actor          Actor
	Number         Number
	Label          *string
	Status         *Status
	Owner          *string
	OverdraftLimit *int64
	DailyOut       *int64 // what may leave in a day, or Unlimited
}

// Accounts is the one account.
func (o Amend) Accounts(system string, _ Lane) []AccountID { return local(system, o.Number) }

// Holds is empty.
func (o Amend) Holds() []HoldID { return nil }

// Apply changes the account; closing needs it empty, and a closed account stays closed.
func (o Amend) Apply(b *Book) (Result, error) {
	account, there := b.account(o.Number)
	if !there || !(o.Actor.Operator || o.Actor.Owns(account)) {
		return Result{}, Refuse(AccountNotFound, "there is no account %s", o.Number)
	}
	next := *account
	if err := o.amend(&next); err != nil {
		return Result{}, err
	}
	if o.DailyOut != nil {
		next.Daily = next.Daily.amended(*o.DailyOut, b.Now, b.today())
	}
	b.remember(account)
	*account = next
	return Result{Account: &next}, nil
}

func (o Amend) amend(account *Account) error {
	if !o.Actor.Operator && (o.Status != nil || o.Owner != nil || o.OverdraftLimit != nil || o.DailyOut != nil) {
		return Refuse(Forbidden, "only an operator changes status, owner or limits")
	}
	if account.Status == Closed {
		return Refuse(InvalidState, "account %s is closed and stays so", o.Number)
	}
	if o.Status != nil && *o.Status == Closed && (account.Posted != 0 || account.PendingDebit != 0 || account.PendingCredit != 0) {
		return Refuse(InvalidState, "account %s is not empty: it can be closed when posted and pending amounts are zero", o.Number)
	}
	if o.OverdraftLimit != nil && account.Posted-account.PendingDebit+*o.OverdraftLimit < 0 {
		return Refuse(InvalidState, "account %s already uses more than this overdraft limit", o.Number)
	}
	set(&account.Label, o.Label)
	set(&account.Status, o.Status)
	set(&account.Owner, o.Owner)
	set(&account.OverdraftLimit, o.OverdraftLimit)
	return nil
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// HoldFunds makes a hold.
type HoldFunds struct {
	ID        HoldID
	Actor     Actor
	Account   Number
	To        Number // optional
	Amount    Money
	ExpiresIn time.Duration
}

// Accounts is the held account and the payee, whose existence is checked.
func (o HoldFunds) Accounts(system string, _ Lane) []AccountID { return local(system, o.Account, o.To) }

// Holds is empty: the hold is new.
func (o HoldFunds) Holds() []HoldID { return nil }

// Apply holds the amount, or refuses.
func (o HoldFunds) Apply(b *Book) (Result, error) {
	account, err := b.owned(o.Account, o.Actor)
	if err != nil {
		return Result{}, err
	}
	if o.To != "" {
		if _, _, err := b.payerAndPayee(o.Account, o.To, o.Actor); err != nil {
			return Result{}, err
		}
	}
	if err := account.mayMove(o.Account, o.Amount.Currency); err != nil {
		return Result{}, err
	}
	if err := b.canSpend(account, o.Account, o.Amount.Minor); err != nil {
		return Result{}, err
	}
	b.remember(account)
	account.PendingDebit += o.Amount.Minor
	b.spend(account, o.Amount.Minor)
	hold := Hold{
		ID: o.ID, Account: account.ID, To: o.To, Amount: o.Amount, State: Pending,
		ExpiresAt: b.Now.Add(o.ExpiresIn), CreatedAt: b.Now,
	}
	b.putHold(hold)
	return Result{Hold: &hold}, nil
}

// Settle ends a hold: it captures, voids or expires it.
type Settle struct {
	Hold    HoldID
	Actor   Actor
	Account Number // the hold's account, read before; empty when the hold was not found
	End     State  // Posted (capture), Voided or Expired
	// For a capture:
	Transfer TransferID
	To       Number // the payee; the caller fills in the one that the hold names
	Minor    int64  // 0: the whole hold
}

// Accounts is the held account and, for a capture, the payee.
func (o Settle) Accounts(system string, _ Lane) []AccountID { return local(system, o.Account, o.To) }

// Holds is the one hold.
func (o Settle) Holds() []HoldID { return []HoldID{o.Hold} }

// Apply ends the hold once; a hold that is no longer pending refuses with InvalidState. Expiry asks for no actor.
func (o Settle) Apply(b *Book) (Result, error) {
	hold, account, err := o.find(b)
	if err != nil {
		return Result{}, err
	}
	due := !b.Now.Before(hold.ExpiresAt)
	if hold.State != Pending || due != (o.End == Expired) {
		return Result{}, Refuse(InvalidState, "the hold is %s", currentState(hold, due))
	}
	next, result := *hold, Result{}
	next.State = o.End
	if o.End == Posted {
		if result, err = o.capture(b, account, &next); err != nil {
			return Result{}, err
		}
	} else {
		b.remember(account)
		account.PendingDebit -= hold.Amount.Minor
		b.unspend(account, hold.Amount.Minor, hold.CreatedAt)
	}
	b.putHold(next)
	result.Hold = &next
	return result, nil
}

func currentState(hold *Hold, due bool) State {
	if hold.State == Pending && due {
		return Expired
	}
	return hold.State
}

func (o Settle) find(b *Book) (*Hold, *Account, error) {
	hold, there := b.holds[o.Hold]
	if !there {
		return nil, nil, Refuse(HoldNotFound, "there is no hold %s", o.Hold)
	}
	account, there := b.accounts[hold.Account]
	if !there || (o.End != Expired && !o.Actor.Owns(account)) {
		return nil, nil, Refuse(HoldNotFound, "there is no hold %s", o.Hold)
	}
	return hold, account, nil
}

// capture pays from the hold and releases the rest.
func (o Settle) capture(b *Book, account *Account, hold *Hold) (Result, error) {
	to, minor := o.To, o.Minor
	if minor == 0 {
		minor = hold.Amount.Minor
	}
	if minor > hold.Amount.Minor {
		return Result{}, Refuse(HoldExceeded, "the hold is over %s; a capture cannot be more", hold.Amount)
	}
	from := NewNumber(b.System, account.ID)
	payer, payee, err := b.payerAndPayee(from, to, o.Actor)
	if err != nil {
		return Result{}, err
	}
	amount := Money{minor, hold.Amount.Currency}
	if err := checkMove(payer, payee, from, to, amount); err != nil {
		return Result{}, err
	}
	b.remember(payer)
	payer.PendingDebit -= hold.Amount.Minor
	b.unspend(payer, hold.Amount.Minor-minor, hold.CreatedAt)
	hold.Captured = minor
	transfer := b.post(Transfer{ID: o.Transfer, Kind: Captured, From: from, To: to, Amount: amount, Hold: hold.ID}, payer, payee)
	return Result{Transfer: &transfer}, nil
}
