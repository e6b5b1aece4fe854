package verify

import "slices"

// invariant is a rule with the query that lists its breaches: one text column that names the place, and one that says
// what is wrong there.
//
// The queries suppose that any row may hold anything, CHECKs notwithstanding. So a condition is written as what must
// hold, followed by IS NOT TRUE, which a NULL does not slip through, and sums of stored amounts are made as decimals,
// which do not overflow. The tables have millions of rows: a query is one or two full scans. It joins by primary keys
// only; what has no such key is put into one list with its counterpart and grouped. Groups by what is not indexed are
// sorted (SQL_BIG_RESULT), for a table of groups is far slower.
type invariant struct {
	name    string
	meaning string
	query   string
}

// invariants are all that must hold of one system's schema at any moment, in a consistent snapshot.
func invariants() []invariant {
	return slices.Concat(ofTheSystem(), ofTheJournal(), ofTransfers(), ofRemittances(), ofPeers(), ofAccounts(), ofLimits(), ofHolds(), ofKeys(), ofAudit())
}

// ofTheSystem are about the system as a whole. Its table has a name that MySQL reserves.
func ofTheSystem() []invariant {
	return []invariant{
		{
			"system_has_its_row", "one row names the system, its epoch and its state",
			"SELECT 'system', CONCAT(COUNT(*), ' rows') FROM `system` HAVING COUNT(*) <> 1 " +
				"UNION ALL SELECT id, CONCAT('epoch ', epoch, ', state ', state) FROM `system` " +
				"WHERE (only = 1 AND id REGEXP '^[a-z][a-z0-9]{1,15}$' AND id NOT IN ('events', 'peer') AND epoch >= 1 " +
				"AND state IN ('ready', 'unreconciled')) IS NOT TRUE",
		},
		{
			"books_balance", "the posted balances of all accounts sum to zero in each currency",
			`SELECT currency, CONCAT('sum ', SUM(posted)) FROM accounts GROUP BY currency HAVING SUM(posted) <> 0`,
		},
		{
			"cash_mirrors_the_outside", "the stripes of cash sum to withdrawals less deposits in each currency",
			`SELECT currency, CONCAT('stripes ', SUM(stripes), ', withdrawals less deposits ', SUM(outside)) FROM
				(SELECT currency, posted AS stripes, 0 AS outside FROM accounts WHERE system_account = 1
				UNION ALL SELECT currency, 0, IF(kind = 'deposit', -CAST(amount AS DECIMAL(20)), amount) FROM transfers
					WHERE kind IN ('deposit', 'withdrawal') AND state = 'posted') AS sides
				GROUP BY currency HAVING SUM(stripes) <> SUM(outside)`,
		},
	}
}

// ofTheJournal are about entries.
func ofTheJournal() []invariant {
	return []invariant{
		{
			"entries_sum_to_zero", "the entries of a transfer sum to zero in each currency",
			`SELECT SQL_BIG_RESULT transfer_id, CONCAT('sum ', SUM(amount), ' ', currency) FROM entries
				GROUP BY transfer_id, currency HAVING SUM(amount) <> 0`,
		},
		{
			"entries_fit_their_transfer", "an entry is the payer's debit or the payee's credit of a posted transfer",
			`SELECT CONCAT(e.account_id, '/', e.sequence), CONCAT(e.kind, ' of ', e.amount, ' ', e.currency, ', transfer ', e.transfer_id,
					IF(t.id IS NULL, ' missing', CONCAT(' is a ', t.state, ' ', t.kind, ' of ', t.amount, ' ', t.currency)))
				FROM entries e LEFT JOIN transfers t ON t.id = e.transfer_id
				WHERE (t.state = 'posted' AND t.kind = e.kind AND t.currency = e.currency AND t.finished_at = e.created_at AND
					(e.account_id = t.payer_id AND e.amount = -CAST(t.amount AS DECIMAL(20)) AND e.counterparty = t.to_number OR
					e.account_id = t.payee_id AND e.amount = t.amount AND e.counterparty = t.from_number)) IS NOT TRUE`,
		},
		{
			"transfers_have_their_entries", "a posted transfer has two entries, any other has none",
			`SELECT SQL_BIG_RESULT id, CONCAT(SUM(found), ' entries instead of ', SUM(due)) FROM
				(SELECT id, IF(state = 'posted', 2, 0) AS due, 0 AS found FROM transfers
				UNION ALL SELECT transfer_id, 0, 1 FROM entries) AS legs
				GROUP BY id HAVING SUM(found) <> SUM(due)`,
		},
		{
			"entries_have_their_account", "an entry stands on an account, in its currency",
			`SELECT e.account_id, CONCAT(COALESCE(a.currency, 'no account'), ', entries in ', e.least, IF(e.most = e.least, '', CONCAT(' to ', e.most)))
				FROM (SELECT account_id, MIN(currency) AS least, MAX(currency) AS most FROM entries GROUP BY account_id) AS e
				LEFT JOIN accounts a ON a.id = e.account_id
				WHERE (a.currency = e.least AND a.currency = e.most) IS NOT TRUE`,
		},
		{
			"posted_is_the_sum_of_entries", "an account's posted balance is the sum of its entries, stripes included",
			`SELECT a.id, CONCAT('posted ', MAX(a.posted), ', entries ', COALESCE(SUM(e.amount), 0)) FROM accounts a
				LEFT JOIN entries e ON e.account_id = a.id GROUP BY a.id HAVING MAX(a.posted) <> COALESCE(SUM(e.amount), 0)`,
		},
		{
			"sequence_has_no_gap", "an account's entries count from 1 to its version",
			`SELECT a.id, CONCAT('version ', MAX(a.version), ', ', COUNT(e.sequence), ' entries',
					COALESCE(CONCAT(' from ', MIN(e.sequence), ' to ', MAX(e.sequence)), ''))
				FROM accounts a LEFT JOIN entries e ON e.account_id = a.id GROUP BY a.id
				HAVING (COUNT(e.sequence) = MAX(a.version) AND COALESCE(MAX(e.sequence), 0) = MAX(a.version) AND
					COALESCE(MIN(e.sequence), 1) = 1) IS NOT TRUE`,
		},
		{
			"balance_after_is_chained", "an entry's balance_after is that of the entry before it plus its amount",
			`SELECT CONCAT(e.account_id, '/', e.sequence), CONCAT('balance_after ', e.balance_after, ', amount ', e.amount,
					', before it ', COALESCE(p.balance_after, 0))
				FROM entries e LEFT JOIN entries p ON p.account_id = e.account_id AND p.sequence = IF(e.sequence > 1, e.sequence - 1, NULL)
				WHERE e.balance_after <> COALESCE(p.balance_after, 0) + CAST(e.amount AS DECIMAL(20))`,
		},
	}
}

// ofTransfers are about transfers and the accounts that they name. Ids of stripes begin with 1000 + the serial of their
// system account, ten digits from the right: those of cash with 1001, of suspense with 1002, of receivable with 1003, of the
// settlement with a peer with 1000 + peers.settlement. A transfer between two systems has one account here until it is posted: the other one is
// then the settlement with the other system.
func ofTransfers() []invariant {
	return []invariant{
		{
			"transfer_ids_are_unique", "one row, and so one payer system, has a transfer's id",
			`SELECT id, CONCAT(COUNT(*), ' rows, of ', MIN(payer_system), ' and ', MAX(payer_system)) FROM transfers
				GROUP BY id HAVING COUNT(*) > 1`,
		},
		{
			"transfers_are_whole", "a transfer has a known kind and state, and the id of its kind, an amount in range, an end unless it is pending, and two accounts once it is posted: before, and when it is voided, this system's one, and a return from here none",
			"SELECT t.id, CONCAT(t.state, ' ', t.kind, ' of ', t.amount, ' from ', COALESCE(t.payer_id, 'nobody'), ' to ', " +
				"COALESCE(t.payee_id, 'nobody'), ', finished ', COALESCE(t.finished_at, 'never'), ', hold ', COALESCE(t.hold_id, 'none')) " +
				"FROM transfers t JOIN `system` s ON s.only = 1 " +
				`WHERE (t.kind IN ('deposit', 'withdrawal', 'transfer', 'capture', 'return') AND t.amount BETWEEN 1 AND 1000000000000000 AND
					IF(t.state = 'posted', t.payer_id <> t.payee_id, t.state IN ('pending', 'voided') AND t.kind IN ('transfer', 'return') AND
						(t.payer_id IS NOT NULL) = (t.payer_system = s.id AND t.kind = 'transfer') AND (t.payee_id IS NULL) = (t.payer_system = s.id)) AND
					(t.finished_at IS NULL) = (t.state = 'pending') AND COALESCE(t.finished_at >= t.created_at, TRUE) AND
					(t.hold_id IS NOT NULL) = (t.kind = 'capture') AND (SUBSTRING(t.id, 15, 1) = '8') = (t.kind = 'return')) IS NOT TRUE`,
		},
		{
			"transfers_name_their_accounts", "the numbers that a transfer shows are those of its accounts, cash for the stripes of cash and the other system's for those of its settlement; suspense takes another system's money only and pays returns only, and receivable pays to another system only",
			"SELECT t.id, CONCAT(t.payer_system, ': ', t.kind, ' from ', t.from_number, ' (', COALESCE(t.payer_id, 'nobody'), ') to ', " +
				"t.to_number, ' (', COALESCE(t.payee_id, 'nobody'), ')') FROM transfers t JOIN `system` s ON s.only = 1 " +
				`LEFT JOIN peers p ON p.id = IF(t.payer_system = s.id, SUBSTRING_INDEX(t.to_number, '-', 1), t.payer_system) WHERE (
					(t.from_number = 'cash') = (t.kind = 'deposit') AND (t.to_number = 'cash') = (t.kind = 'withdrawal') AND CASE
						WHEN t.payer_system <> s.id THEN t.from_number LIKE CONCAT(p.id, '-______________') AND
							COALESCE(t.payer_id DIV 10000000000 = 1000 + p.settlement, TRUE)
						WHEN t.kind = 'deposit' THEN t.payer_id DIV 10000000000 = 1001
						WHEN t.kind = 'return' THEN p.id IS NOT NULL AND COALESCE(t.payer_id DIV 10000000000 = 1002, t.state <> 'posted') AND
							t.from_number LIKE CONCAT(s.id, '-______________')
						WHEN t.payer_id DIV 10000000000 = 1003 THEN p.id IS NOT NULL AND t.state = 'posted' AND t.from_number LIKE CONCAT(s.id, '-______________')
						ELSE t.payer_id < 1000000000000 AND t.from_number LIKE CONCAT(s.id, '-', LPAD(t.payer_id, 12, '0'), '__') END
					AND CASE
						WHEN t.payer_system <> s.id THEN t.to_number LIKE CONCAT(s.id, '-______________') AND
							(t.payee_id DIV 10000000000 = 1002 AND t.state = 'posted' OR
							t.payee_id < 1000000000000 AND t.to_number LIKE CONCAT(s.id, '-', LPAD(t.payee_id, 12, '0'), '__'))
						WHEN t.kind = 'withdrawal' THEN t.payee_id DIV 10000000000 = 1001
						WHEN p.id IS NULL THEN t.payee_id < 1000000000000 AND t.to_number LIKE CONCAT(s.id, '-', LPAD(t.payee_id, 12, '0'), '__')
						ELSE t.kind IN ('transfer', 'return') AND t.to_number LIKE CONCAT(p.id, '-______________') AND
							COALESCE(t.payee_id DIV 10000000000 = 1000 + p.settlement, TRUE) END
				) IS NOT TRUE`,
		},
		{
			"transfers_keep_one_currency", "the accounts of a transfer exist and keep its currency",
			`SELECT t.id, CONCAT(t.currency, ' from ', COALESCE(a.currency, 'no account'), ' to ', COALESCE(b.currency, 'no account'))
				FROM transfers t LEFT JOIN accounts a ON a.id = t.payer_id LEFT JOIN accounts b ON b.id = t.payee_id
				WHERE (t.payer_id IS NULL OR a.currency = t.currency) IS NOT TRUE OR
					(t.payee_id IS NULL OR b.currency = t.currency) IS NOT TRUE`,
		},
	}
}
