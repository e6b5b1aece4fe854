package main

// storeMutants are guards of the store.
var storeMutants = []mutant{
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
		old: `	if err := tx.idle(); err != nil {
		return tx.poison(err)
	}
	if err := ctx.Err()`,
		new: "	if err := ctx.Err()",
		pkg: "./node/store", test: "TestNoErrorLetsHalfATransactionCommit",
		failure: "half of a failed transaction was committed",
	},
	{
		name: "store-poison-scan",
		file: "node/store/tx.go",
		old: `	if err := each(ctx, tx.conn, scan, query, args...); err != nil {
		return tx.poison(err)`,
		new: `	if err := each(ctx, tx.conn, scan, query, args...); err != nil {
		return err`,
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
		failure: "another system's token: 100 from the replica",
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
		name: "retention-30-days",
		file: "node/store/retention.go",
		old:  "Keep: 30 * 24 * time.Hour",
		new:  "Keep: 29 * 24 * time.Hour",
		pkg:  "./node/store", test: "TestRetentionsThatCannotWorkAreRefused",
		failure: "the default keeps keys for 696h",
	},
	{
		name: "retention-made-again",
		file: "node/store/retention.go",
		old:  "AND created_at <= UTC_TIMESTAMP(6) - INTERVAL ? SECOND ORDER BY claim",
		new:  "AND ? > 0 ORDER BY claim",
		pkg:  "./node/store", test: "TestAKeyThatWasMadeAgainIsKept",
		failure: "3 keys were deleted that were made again",
	},
	{
		name: "retention-waits",
		file: "node/store/retention.go",
		old:  "FOR UPDATE SKIP LOCKED",
		new:  "FOR UPDATE",
		pkg:  "./node/store", test: "TestTheCleanerWaitsForNobody",
		failure: "the cleaner deletes a key that is too old",
	},
	{
		name: "retention-pending",
		file: "node/store/retention.go",
		old:  "finished_at IS NULL OR finished_at >",
		new:  "finished_at IS NULL AND finished_at >",
		pkg:  "./node/store", test: "TestAKeyIsKeptUntilItsTransferIsLongFinal",
		failure: "wanted the keys of the pending transfer",
	},
	{
		name: "retention-last-part",
		file: "node/store/retention.go",
		old:  `return "g"`,
		new:  `return "f"`,
		pkg:  "./node/store", test: "TestAllOldKeysGoInSmallDeletes",
		failure: "keys were deleted, 1100 are old",
	},
	{
		name: "grammar-sequence",
		file: "node/store/account.go",
		old:  "INSERT INTO serials () VALUES ()",
		new:  "CREATE SEQUENCE serials",
		pkg:  "./node/store", test: "TestEveryStatementIsMySQLs",
		failure: "a statement of the kind *ast.CreateSequenceStmt",
	},
	{
		name: "grammar-reserved-word",
		file: "node/store/epoch.go",
		old:  "UPDATE `system` SET epoch = GREATEST",
		new:  "UPDATE system SET epoch = GREATEST",
		pkg:  "./node/store", test: "TestEveryStatementIsMySQLs",
		failure: `the reserved word "system" without backticks`,
	},
	{
		name: "grammar-returning",
		file: "node/store/account.go",
		old:  "0, 0, 0, ?, 0, ?)`",
		new:  "0, 0, 0, ?, 0, ?) RETURNING id`",
		pkg:  "./node/store", test: "TestEveryStatementIsMySQLs",
		failure: `near "RETURNING id`,
	},
	{
		name: "grammar-dialect",
		file: "node/store/dialect.go",
		old:  `"SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)"`,
		new:  `"SELECT MASTER_GTID_WAIT(?, ?) "`,
		pkg:  "./node/store", test: "TestEveryStatementIsMySQLs",
		failure: "the name master_gtid_wait",
	},
	{
		name: "store-queued-commit",
		file: "node/store/tx.go",
		old: `	if err := tx.idle(); err != nil {
		return tx.poison(err)`,
		new: `	if err := tx.usable(); err != nil {
		return tx.poison(err)`,
		pkg: "./node/store", test: "TestCommitRefusesStatementsThatWereNotSent",
		failure: "COMMIT was sent before a queued statement",
	},
	{
		name: "store-queued-overtaken",
		file: "node/store/tx.go",
		old: `	if err := tx.idle(); err != nil {
		return err
	}
	tx.began = true
	if err := each`,
		new: `	if err := tx.usable(); err != nil {
		return err
	}
	tx.began = true
	if err := each`,
		pkg: "./node/store", test: "TestCommitRefusesStatementsThatWereNotSent",
		failure: "a query overtook a statement that was queued",
	},
	{
		name: "store-flush-poison",
		file: "node/store/tx.go",
		old: `	found, err := execAll(ctx, tx.conn, query.String(), args)
	if err != nil {
		return nil, tx.poison(err)`,
		new: `	found, err := execAll(ctx, tx.conn, query.String(), args)
	if err != nil {
		return nil, err`,
		pkg: "./node/store", test: "TestNothingOfAFailedFlushIsCommitted",
		failure: "a part of a failed Flush was committed",
	},
	{
		name: "store-flush-counts",
		file: "node/store/tx.go",
		old:  "found = result.(mysql.Result).AllRowsAffected()",
		new:  "found = make([]int64, len(result.(mysql.Result).AllRowsAffected()))",
		pkg:  "./node/store", test: "TestFlushCountsTheRowsOfEachStatement",
		failure: "the statements found",
	},
	{
		name: "grammar-queued",
		file: "node/store/remittance.go",
		old:  "credited = VALUES(credited), posted",
		new:  "credited = VALUES(credited) RETURNING id, posted",
		pkg:  "./node/store", test: "TestEveryStatementIsMySQLs",
		failure: `near "RETURNING id`,
	},
	{
		name: "grammar-commit",
		file: "node/store/tx.go",
		old:  `"COMMIT;"+`,
		new:  `"COMMIT;SELECT 1;"+`,
		pkg:  "./node/store", test: "TestEveryStatementIsMySQLs",
		failure: "2 statements in one",
	},
	{
		name: "odd-token",
		file: "node/store/token.go",
		old:  "\tif !readable || meant.system != s.config.System || ",
		new:  "\tif !readable || meant.system != s.config.System {\n\t\treturn needNothing, \"\"\n\t}\n\tif ",
		pkg:  "./node/store", test: "TestReadsOnServersThatFail",
		failure: "wanted 150 from the source",
	},
	{
		name: "saga-logged-under-lock",
		file: "node/store/open.go",
		old:  "openDue = `look_at <= UTC_TIMESTAMP(6) ORDER BY look_at LIMIT ? FOR UPDATE SKIP LOCKED`",
		new:  "openDue = `look_at <= UTC_TIMESTAMP(6) ORDER BY look_at LIMIT ?`",
		pkg:  "./node/store", test: "TestASagaIsNotLoggedBehindTheBackOfItsEnd",
		failure: "sagas were logged whose remittance is in hand",
	},
	{
		name: "failover-to-a-replica",
		file: "node/store/promote.go",
		old:  "\tif !found.readOnly {",
		new:  "\tif false {",
		pkg:  "./node/store", test: "TestAServerThatTakesWritesIsNotPromoted",
		failure: "promoted a server that takes writes",
	},
	{
		name: "listing-once",
		file: "node/store/listing.go",
		old:  "if len(accounts) > 1 {",
		new:  "if len(accounts) > 1<<30 {",
		pkg:  "./node/store", test: "TestPagesOfSeveralAccountsMissAndRepeatNothing",
		failure: "pages of 1:",
	},
	{
		name: "listing-position",
		file: "node/store/listing.go",
		old:  "next.sequences[w.account] = w.steps[0].sequence + 1",
		new:  "next.sequences[w.account] = w.steps[0].sequence",
		pkg:  "./node/store", test: "TestPagesOfSeveralAccountsMissAndRepeatNothing",
		failure: "pages of 1:",
	},
}
