package ledger

import "time"

// DailyLimit bounds what leaves an account in a day of the system's time zone. It is part of the account, so that it is
// locked, changed and taken back together with it.
//
// What leaves is counted when it is decided: a hold and a transfer to another system when the amount is set aside, and
// nothing more when they are captured or posted, for the hold is the right. What is released comes back to the day it was
// counted in, while that day lasts.
type DailyLimit struct {
	Kept   bool // the account has a limit, or had one: what leaves is counted
	Capped bool
	Out    int64     // what may leave in a day, in minor units, when Capped
	Day    time.Time // when the day began that is counted
	Used   int64     // what left in it
	Since  time.Time // from when on all that leaves is counted
}

// Unlimited takes a limit away.
const Unlimited = -1

// countedAfter is how long after a limit was first set an amount must have been set aside to come back to it. One from
// before was never counted, and the times of two batches on one account may be out of order by as long as a lock is
// waited for.
const countedAfter = time.Minute

// DayBegan is when the day of a moment began in a time zone; nil is UTC.
func DayBegan(at time.Time, zone *time.Location) time.Time {
	if zone == nil {
		zone = time.UTC
	}
	year, month, day := at.In(zone).Date()
	return time.Date(year, month, day, 0, 0, 0, 0, zone).UTC()
}

// on is the limit as it stands on a day. A day that is over never comes back, even if a clock says so.
func (d DailyLimit) on(today time.Time) DailyLimit {
	if d.Day.Before(today) {
		d.Day, d.Used = today, 0
	}
	return d
}

// Left is what may still leave on a day, which may be less than nothing after the limit was lowered.
func (d DailyLimit) Left(today time.Time) int64 { return d.Out - d.on(today).Used }

// amended is the limit with another bound. What was counted stays counted.
func (d DailyLimit) amended(out int64, now, today time.Time) DailyLimit {
	if !d.Kept && out == Unlimited {
		return d
	}
	if !d.Kept {
		d = DailyLimit{Kept: true, Day: today, Since: now}
	}
	d.Capped, d.Out = out != Unlimited, max(out, 0)
	return d
}

// today is when the day of the batch began.
func (b *Book) today() time.Time { return DayBegan(b.Now, b.Zone) }

// canSpend refuses what the account does not have, or what would leave it beyond its limit.
func (b *Book) canSpend(account *Account, number Number, amount int64) error {
	if err := account.canPay(number, amount); err != nil {
		return err
	}
	if d := account.Daily; d.Capped && d.Left(b.today()) < amount {
		return Refuse(LimitExceeded, "account %s may not pay out as much today", number)
	}
	return nil
}

// spend counts what leaves. The account must be remembered before.
func (b *Book) spend(account *Account, amount int64) {
	if account.Daily.Kept {
		account.Daily = account.Daily.on(b.today())
		account.Daily.Used = min(account.Daily.Used, BalanceMax-amount) + amount
	}
}

// unspend takes back what was counted when it was set aside, if that day is still counted. The account must be remembered
// before.
func (b *Book) unspend(account *Account, amount int64, setAside time.Time) {
	d := account.Daily.on(b.today())
	if d.Kept && d.Day.Equal(DayBegan(setAside, b.Zone)) && setAside.After(d.Since.Add(countedAfter)) {
		d.Used = max(d.Used-amount, 0)
		account.Daily = d
	}
}

// ChangedLimits lists the accounts whose limit differs from what was locked, in canonical order, and those of them that
// had none.
func (b *Book) ChangedLimits() (changed, first []Account) {
	for _, account := range b.Changed() {
		switch before := b.loaded[account.ID]; {
		case account.Daily == before.Daily:
		case !before.Daily.Kept:
			first = append(first, account)
			fallthrough
		default:
			changed = append(changed, account)
		}
	}
	return changed, first
}
