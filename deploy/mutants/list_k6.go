package main

// k6Mutants break what each k6 script has to notice. They take minutes, so they run only when asked for (-k6).
var k6Mutants = []mutant{
	{
		name: "k6-smoke-fingerprint",
		file: "node/posting/batch.go",
		old:  "if row.Claim.Fingerprint != t.Claim.Fingerprint {",
		new:  "if false {",
		pkg:  "./k6/suite", test: "TestScript/smoke",
		failure: "other contents under the key",
	},
	{
		name: "k6-load-credit",
		file: "node/ledger/book.go",
		old:  "b.enter(payee, t, t.Amount.Minor, t.From)",
		new:  "b.enter(payee, t, t.Amount.Minor-t.Amount.Minor/500%2, t.From)", // a unit is lost now and then
		pkg:  "./k6/suite", test: "TestScript/load",
		failure: "money_gap{place:drawer-",
	},
	{
		name: "k6-concurrency-row-lock",
		file: "node/store/batch.go",
		old:  `lockAccounts(ctx, tx, ids, " FOR UPDATE")`,
		new:  `lockAccounts(ctx, tx, ids, "")`,
		pkg:  "./k6/suite", test: "TestScript/concurrency",
		failure: "money_gap{place:hot}",
	},
	{
		name: "k6-deadlock-release",
		file: "locks/set.go",
		old: `	s.released = true
	ok, err := s.unlock(ctx)
`,
		new: `	s.released = true
	ok, err := true, ctx.Err()
`,
		pkg: "./k6/suite", test: "TestScript/deadlock",
		failure: "repeats count<20",
	},
	{
		name: "k6-idempotency-claim",
		file: "node/posting/batch.go",
		old:  "b.settlements[i].mine = t.Claim == nil || row.CommandID == t.id",
		new:  "b.settlements[i].mine = true",
		pkg:  "./k6/suite", test: "TestScript/idempotency",
		failure: "money_gap{place:",
	},
	{
		name: "k6-cross-hold",
		file: "node/ledger/remit.go",
		old:  "payer.PendingDebit -= transfer.Amount.Minor",
		new:  "payer.PendingDebit -= 0",
		pkg:  "./k6/suite", test: "TestScript/cross",
		failure: "stuck_money",
	},
	{
		name: "k6-login-denied",
		file: "api/auth/auth.go",
		old:  "	if a.denials.has(verified.session) {",
		new:  "	if false {",
		pkg:  "./k6/suite", test: "TestScript/login",
		failure: "not unauthenticated",
	},
	{
		name: "k6-spike-gate",
		file: "api/gate.go",
		old: `	if g.inHand.Add(1) > g.max {
		g.inHand.Add(-1)
		g.refused.Inc()
`,
		new: `	if g.inHand.Add(1) > 100*g.max {
		g.inHand.Add(-1)
		g.refused.Inc()
`,
		pkg: "./k6/suite", test: "TestScript/spike",
		failure: "refused{part:spike}",
	},
	{
		name: "k6-soak-void",
		file: "node/ledger/operation.go",
		old:  "account.PendingDebit -= hold.Amount.Minor",
		new:  "account.PendingDebit -= hold.Amount.Minor - 1",
		pkg:  "./k6/suite", test: "TestScript/soak",
		failure: "stuck_money",
	},
	{
		name: "k6-chaos-claim",
		file: "node/posting/batch.go",
		old:  "b.settlements[i].mine = t.Claim == nil || row.CommandID == t.id",
		new:  "b.settlements[i].mine = true",
		pkg:  "./k6/suite", test: "TestScript/chaos",
		failure: "money_gap{place:",
	},
}
