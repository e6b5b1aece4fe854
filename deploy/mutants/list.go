package main

// mutants are the guards that must not be lost, each with the test that misses it.
var mutants = []mutant{
	{
		name: "row-lock",
		file: "node/store/batch.go",
		old:  "marks(len(ids)) + `) ORDER BY id FOR UPDATE`\n\tif err := tx.Query(ctx, scan, query, anys(ids)...); err != nil {\n\t\treturn nil, time.Time{},",
		new:  "marks(len(ids)) + `) ORDER BY id`\n\tif err := tx.Query(ctx, scan, query, anys(ids)...); err != nil {\n\t\treturn nil, time.Time{},",
		pkg:  "./node/posting", test: "TestHoldsOfTwoNodesSumToPendingDebit",
		failure: "accepted holds do not sum to pending_debit",
	},
	{
		name: "claim-sort",
		file: "node/store/claims.go",
		old:  "cmp.Compare(a.ID, b.ID)",
		new:  `cmp.Compare("", "")`,
		pkg:  "./node/posting", test: "TestKeysInOppositeOrdersNeverDeadlock",
		failure: "claims in opposite orders deadlocked",
	},
	{
		name: "claim-command-id",
		file: "node/posting/batch.go",
		old:  "b.settlements[i].mine = t.Claim == nil || row.CommandID == t.id",
		new:  "b.settlements[i].mine = true",
		pkg:  "./node/posting", test: "TestOneKeyOnTwoNodesHasOneEffect",
		failure: "a key had not one effect",
	},
	{
		name: "claim-fingerprint",
		file: "node/posting/batch.go",
		old:  "if row.Claim.Fingerprint != t.Claim.Fingerprint {",
		new:  "if false {",
		pkg:  "./node/posting", test: "TestOneKeyOnTwoNodesHasOneMeaning",
		failure: "meanings of one key succeeded",
	},
	{
		name: "lane-row-committed",
		file: "node/posting/resolve.go",
		old:  "case err == nil && number == b.number:",
		new:  "case err == nil && number == -b.number:",
		pkg:  "./node/posting", test: "TestALostCommitIsAnsweredTruly",
		failure: "a command of a lost COMMIT ran twice",
	},
	{
		name: "lane-row-not-committed",
		file: "node/posting/resolve.go",
		old: `			l.log.Info("the COMMIT had not happened", "batch", b.number)
			return "", errNotCommitted`,
		new: `			l.log.Info("the COMMIT had not happened", "batch", b.number)
			return "", nil`,
		pkg: "./node/posting", test: "TestALostBatchClaimsNothingThatAnotherNodeDid",
		failure: "a command claims a success that the journal does not have",
	},
	{
		name: "no-claim-without-answer",
		file: "node/posting/batch.go",
		old: `			dropped = append(dropped, t.claimID)
`,
		new: "",
		pkg: "./node/posting", test: "TestNoClaimIsCommittedWithoutItsAnswer",
		failure: "a claim was committed without its answer",
	},
	{
		name: "lane-fence",
		file: "node/store/batch.go",
		old:  "UPDATE lanes SET batch = ? WHERE node = ? AND lane = ? AND incarnation = ?",
		new:  "UPDATE lanes SET batch = ? WHERE node = ? AND lane = ? AND ? <> ''",
		pkg:  "./node/posting", test: "TestANodeWhoseIDIsTakenOverWritesNoMore",
		failure: "a node went on writing after its id was taken over",
	},
	{
		name: "fingerprint-path",
		file: "api/payments.go",
		old:  `		hash.Write([]byte(x.param(name) + "\x00"))`,
		new:  `		hash.Write([]byte(name + "\x00"))`,
		pkg:  "./cluster/e2e", test: "TestKeyOfOneHoldIsNotThatOfAnother",
		failure: "idempotency_key_reused",
	},
	{
		name: "redis-sort",
		file: "locks/set.go",
		old: `	slices.Sort(names)
`,
		new: "",
		pkg: "./locks", test: "TestNamesReachServersInCanonicalOrder",
		failure: "want canonical order",
	},
	{
		name: "redis-owner-token",
		file: "locks/scripts.go",
		old: `  if holder == ARGV[1] then
    mine[`,
		new: `  if holder then
    mine[`,
		pkg: "./locks", test: "TestLateReleaseLeavesTheNextOwnersLock",
		failure: "a late release deleted the next owner's lock",
	},
	{
		name: "redis-minority",
		file: "locks/set.go",
		old:  "if stray {",
		new:  "if false && stray {",
		pkg:  "./locks", test: "TestNameWithoutAnyQuorumIsSplitAndGivenBack",
		failure: "a minority grant stayed behind",
	},
	{
		name: "store-poison",
		file: "node/store/tx.go",
		old: `	case tx.failed != nil:
		return fmt.Errorf("%w: %w", ErrPoisoned, tx.failed)
`,
		new: "",
		pkg: "./node/store", test: "TestNothingIsCommittedAfterADeadlock",
		failure: "a statement ran after the deadlock that ended its transaction",
	},
	{
		name: "store-poison-commit",
		file: "node/store/tx.go",
		old: `	if err := tx.usable(); err != nil {
		return err
	}
	if err := ctx.Err()`,
		new: "	if err := ctx.Err()",
		pkg: "./node/store", test: "TestNoErrorLetsHalfATransactionCommit",
		failure: "half of a failed transaction was committed",
	},
	{
		name: "store-poison-scan",
		file: "node/store/tx.go",
		old: `		return tx.poison(err)
	}
	return nil`,
		new: `		return err
	}
	return nil`,
		pkg: "./node/store", test: "TestNoErrorLetsHalfATransactionCommit",
		failure: "COMMIT was sent on a failed transaction",
	},
	{
		name: "store-rollback",
		file: "node/store/tx.go",
		old:  "if tx.began {",
		new:  "if false {",
		pkg:  "./node/store", test: "TestAConnectionComesBackOnlyRolledBack",
		failure: "a rolled back row was committed by the connection's next user",
	},
	{
		name: "store-unknown",
		file: "node/store/tx.go",
		old:  `fmt.Errorf("%w: %w", ErrCommitUnknown, err)`,
		new:  "err",
		pkg:  "./node/store", test: "TestAnyErrorOfCommitIsUnknown",
		failure: "a lost answer to COMMIT is not called unknown",
	},
	{
		name: "store-token",
		file: "node/store/token.go",
		old:  "	return needPosition, meant.gtid",
		new:  `	return needNothing, ""`,
		pkg:  "./node/store", test: "TestReadsOnServersThatFail/StoppedThread",
		failure: "a read with the token of the write: 100 from the replica",
	},
	{
		name: "store-token-system",
		file: "node/store/token.go",
		old:  " || meant.system != s.config.System",
		new:  "",
		pkg:  "./node/store", test: "TestReadsOnServersThatFail/ForeignTokens",
		failure: "another system's token: 150 from the source",
	},
	{
		name: "store-token-epoch",
		file: "node/store/token.go",
		old:  "meant.epoch != s.Epoch() || ",
		new:  "",
		pkg:  "./node/store", test: "TestReadsOnServersThatFail/ForeignTokens",
		failure: "a token of an older epoch: 100 from the replica",
	},
	{
		name: "store-claims-command",
		file: "node/store/claims.go",
		old:  "ON DUPLICATE KEY UPDATE command_id = command_id",
		new:  "ON DUPLICATE KEY UPDATE command_id = VALUES(command_id)",
		pkg:  "./node/store", test: "TestOneCommandHoldsAKey",
		failure: "a command of another transaction took over a key that was held",
	},
	{
		name: "store-claims-sort",
		file: "node/store/claims.go",
		old:  "return slices.SortedFunc(slices.Values(rows), func(a, b ClaimRow) int { return cmp.Compare(a.ID, b.ID) })",
		new:  `return slices.SortedStableFunc(slices.Values(rows), func(a, b ClaimRow) int { return cmp.Compare("", "") })`,
		pkg:  "./node/store", test: "TestClaimsAreTakenInOneOrder",
		failure: "claims in opposite orders met",
	},
	{
		name: "store-claims-answer",
		file: "node/store/once.go",
		old: `	if err := AnswerClaims(ctx, tx, []ClaimRow{row}); err != nil {
		return Answer{}, false, "", err
	}
`,
		new: "",
		pkg: "./node/store", test: "TestOneKeyHasOneEffect",
		failure: "was committed without its answer",
	},
	{
		name: "store-fingerprint",
		file: "node/store/once.go",
		old:  "case !ours && held.Claim.Fingerprint != o.claim.Fingerprint:",
		new:  "case false:",
		pkg:  "./node/store", test: "TestAKeyStandsForOneRequest",
		failure: "another request with a used key got",
	},
	{
		name: "store-lost-commit",
		file: "node/store/once.go",
		old: `		o.sent[commandID] = answer
`,
		new: "",
		pkg: "./node/store", test: "TestALostCommitIsAskedAbout",
		failure: "after a lost COMMIT the caller got",
	},
	{
		name: "store-key-cut",
		file: "node/store/claim.go",
		old:  "c.Key}",
		new:  "c.Key[:min(len(c.Key), 255)]}",
		pkg:  "./node/store", test: "TestLongKeysStayDistinct",
		failure: "two long keys have one claim",
	},
	{
		name: "store-sqlmode",
		file: "node/store/dsn.go",
		old: `	parsed.Params["sql_mode"] = sqlMode
`,
		new: `	parsed.Params["sql_mode"] = "''"
`,
		pkg: "./node/store", test: "TestLongKeysStayDistinct",
		failure: "a key of 300 bytes was stored, cut",
	},
	{
		name: "store-check-binlog",
		file: "node/store/check.go",
		old:  "d.syncBinlog != 1",
		new:  "false",
		pkg:  "./node/store", test: "TestReadsOnServersThatFail/UnsafeSettings",
		failure: "a node started on a source with sync_binlog = 0",
	},
	{
		name: "store-check-flush",
		file: "node/store/check.go",
		old:  "d.flushLog != 1",
		new:  "false",
		pkg:  "./node/store", test: "TestReadsOnServersThatFail/UnsafeSettings",
		failure: "a node started on a source with innodb_flush_log_at_trx_commit = 2",
	},
	{
		name: "store-check-readonly",
		file: "node/store/check.go",
		old:  "if d.readOnly",
		new:  "if false",
		pkg:  "./node/store", test: "TestReadsOnServersThatFail/UnsafeSettings",
		failure: "a node started on a source with read_only = 1",
	},
	{
		name: "store-check-clock",
		file: "node/store/check.go",
		old:  "d.skew.Abs() > skewMax",
		new:  "false",
		pkg:  "./node/store", test: "TestReadsOnServersThatFail/UnsafeSettings",
		failure: "a node whose clock is",
	},
	{
		name: "store-lease",
		file: "node/store/lease.go",
		old:  "FROM `system` WHERE only = 1 FOR UPDATE",
		new:  "FROM `system` WHERE only = 1",
		pkg:  "./node/store", test: "TestNodesThatStartAtOnceGetTheirOwnIDs",
		failure: "eight nodes got the ids",
	},
	{
		name: "store-lanes",
		file: "node/store/lease.go",
		old:  "UPDATE lanes SET incarnation = ? WHERE node = ?",
		new:  "UPDATE lanes SET incarnation = ? WHERE node = -?",
		pkg:  "./node/store", test: "TestALostLeaseIsNoticedAndItsLanesAreTaken",
		failure: "the last owner of the id still writes on lane 1",
	},
	{
		name: "store-lost-lease",
		file: "node/store/lease.go",
		old:  "case err == nil && !mine:",
		new:  "case err == nil && !mine && false:",
		pkg:  "./node/store", test: "TestALostLeaseIsNoticedAndItsLanesAreTaken",
		failure: "the loss of the lease was not noticed",
	},
	{
		name: "store-other-system",
		file: "node/store/migrate.go",
		old:  "case id != system:",
		new:  "case false:",
		pkg:  "./node/store", test: "TestADatabaseBelongsToOneSystem",
		failure: "another system's migration said",
	},
	{
		name: "store-schema",
		file: "node/store/migrate.go",
		old:  "case found.Int64 < wanted:",
		new:  "case false:",
		pkg:  "./node/store", test: "TestANodeRefusesASchemaThatIsNotItsOwn",
		failure: "with an old schema a node said",
	},
	{
		name: "store-page",
		file: "node/store/history.go",
		old:  "e.sequence < ?",
		new:  "e.sequence <= ?",
		pkg:  "./node/store", test: "TestPagesOfAStatementMissAndRepeatNothing",
		failure: "has the sequence",
	},
	{
		name: "store-miss",
		file: "node/store/read.go",
		old: `if err == nil || isRefusal(err) {
			return FromReplica`,
		new: `if err == nil || isRefusal(err) || errors.Is(err, ErrMiss) {
			return FromReplica`,
		pkg: "./node/store", test: "TestReadsOnServersThatFail/Misses",
		failure: "an account that the replica misses",
	},
	{
		name: "answer-not-stored",
		file: "node/posting/batch.go",
		old: `case !s.stored:
`,
		new: `case true:
`,
		pkg: "./cluster/e2e", test: "TestKeyHasOneEffectWhenItsNodeIsKilledAfterCommit",
		failure: "effects, want 1",
	},
	{
		name: "batch-in-part",
		file: "node/ledger/book.go",
		old:  "	for i := len(b.undo) - 1; i >= mark; i-- {",
		new:  "	for i := len(b.undo) - 1; i >= len(b.undo); i-- {",
		pkg:  "./cluster/e2e", test: "TestBatchIsAllOrNoneUnlessEachStandsForItself",
		failure: "a refused batch moved money",
	},
	{
		name: "stranger-pays",
		file: "node/ledger/book.go",
		old:  "if !there || !actor.Owns(account) {",
		new:  `if !there || actor.Principal == "" {`,
		pkg:  "./cluster/e2e", test: "TestStrangersSeeAndMoveNothing",
		failure: "want 404",
	},
	{
		name: "client-new-key",
		file: "api/client/call.go",
		old: `		case anew:
			run.key`,
		new: `		case again, anew:
			run.key`,
		pkg: "./cluster/e2e", test: "TestGoClientMakesAPaymentOnceWhenItsAnswerIsLost",
		failure: "had 2 effects",
	},
}
