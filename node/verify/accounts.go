package verify

// ofAccounts are about the rows of accounts, each for itself.
func ofAccounts() []invariant {
	return []invariant{
		{
			"accounts_are_whole", "an account of a customer has an ordinary number, an owner and a known status",
			`SELECT id, CONCAT('owner ', owner, ', ', currency, ', ', status) FROM accounts WHERE system_account IS NULL AND
				(id BETWEEN 1000 AND 999999999999 AND owner <> '' AND node IS NULL AND lane IS NULL AND
				currency REGEXP '^[A-Z]{3}$' AND status IN ('open', 'frozen', 'closed')) IS NOT TRUE`,
		},
		{
			"stripes_have_their_system_account", "a stripe belongs to cash, suspense, receivable or the settlement with a peer, and to the node and lane that its id names",
			`SELECT a.id, CONCAT('system account ', COALESCE(system_account, 'none'), ', node ', COALESCE(node, 'none'), ', lane ', COALESCE(lane, 'none'),
					', ', currency, ', ', status, ', owner ', owner)
				FROM accounts a LEFT JOIN peers p ON p.settlement = a.system_account
				WHERE (a.system_account IS NOT NULL OR a.id >= 10000000000000) AND
				((a.system_account IN (1, 2, 3) OR p.id IS NOT NULL) AND a.id DIV 10000000000 = 1000 + a.system_account AND
				(a.id DIV 100) MOD 100000 = node AND a.id MOD 100 = lane AND currency REGEXP '^[A-Z]{3}$' AND status = 'open' AND owner = '' AND
				overdraft_limit = 0 AND pending_debit = 0) IS NOT TRUE`,
		},
		{
			"stripes_keep_one_currency", "the stripes whose ids name one currency keep one currency, each another",
			`SELECT MIN(id), CONCAT('code ', code, ': ', MIN(currency), ' and ', MAX(currency)) FROM
				(SELECT id, (id DIV 10000000) MOD 1000 AS code, currency FROM accounts WHERE system_account IS NOT NULL) AS stripes
				GROUP BY code HAVING MIN(currency) <> MAX(currency)
			UNION ALL SELECT MIN(id), CONCAT(currency, ': codes ', MIN(code), ' and ', MAX(code)) FROM
				(SELECT id, (id DIV 10000000) MOD 1000 AS code, currency FROM accounts WHERE system_account IS NOT NULL) AS stripes
				GROUP BY currency HAVING MIN(code) <> MAX(code)`,
		},
		{
			"available_is_not_negative", "no account but a stripe has less than nothing available",
			`SELECT id, CONCAT('posted ', posted, ', pending_debit ', pending_debit, ', overdraft_limit ', overdraft_limit) FROM accounts
				WHERE system_account IS NULL AND CAST(posted AS DECIMAL(30)) - pending_debit + overdraft_limit < 0`,
		},
		{
			"balances_are_in_range", "balances, pending amounts and overdraft limits keep their bounds",
			`SELECT id, CONCAT('posted ', posted, ', pending ', pending_debit, ' and ', pending_credit, ', overdraft_limit ', overdraft_limit)
				FROM accounts WHERE (pending_debit >= 0 AND pending_credit >= 0 AND posted >= -9000000000000000000 AND
				CAST(posted AS DECIMAL(30)) + pending_credit <= 9000000000000000000 AND
				overdraft_limit BETWEEN 0 AND 1000000000000000) IS NOT TRUE`,
		},
		{
			"closed_is_empty", "a closed account has no money and no pending amounts",
			`SELECT id, CONCAT('posted ', posted, ', pending ', pending_debit, ' and ', pending_credit) FROM accounts
				WHERE status = 'closed' AND (posted <> 0 OR pending_debit <> 0 OR pending_credit <> 0)`,
		},
		{
			"reservations_sum_to_pending_credit", "an account's promised credits sum to its pending credits",
			`SELECT a.id, CONCAT('pending_credit ', a.pending_credit, ', promised ', COALESCE(r.total, 0)) FROM accounts a
				LEFT JOIN (SELECT payee_id, SUM(amount) AS total FROM transfers WHERE state = 'pending' AND payee_id IS NOT NULL GROUP BY payee_id) AS r
					ON r.payee_id = a.id WHERE a.pending_credit <> COALESCE(r.total, 0)`,
		},
	}
}

// ofHolds are about holds and captures.
func ofHolds() []invariant {
	return []invariant{
		{
			"holds_are_whole", "a hold has a known state, an amount in range, and captured some of it exactly when it is posted",
			`SELECT id, CONCAT(state, ', amount ', amount, ', captured ', captured) FROM holds
				WHERE (state IN ('pending', 'posted', 'voided', 'expired') AND amount BETWEEN 1 AND 1000000000000000 AND
				captured BETWEEN 0 AND amount AND (captured > 0) = (state = 'posted') AND expires_at >= created_at) IS NOT TRUE`,
		},
		{
			"holds_have_their_account", "a hold stands on a customer's account, in its currency",
			`SELECT h.id, CONCAT(h.currency, ' on ', h.account_id, ', ', COALESCE(a.currency, 'no account')) FROM holds h
				LEFT JOIN accounts a ON a.id = h.account_id WHERE (a.currency = h.currency AND a.system_account IS NULL) IS NOT TRUE`,
		},
		{
			"holds_sum_to_pending_debit", "an account's open holds and pending transfers to other systems sum to its pending debits",
			`SELECT a.id, CONCAT('pending_debit ', a.pending_debit, ', open holds and transfers ', COALESCE(h.total, 0)) FROM accounts a
				LEFT JOIN (SELECT account_id, SUM(amount) AS total FROM
						(SELECT account_id, amount FROM holds WHERE state = 'pending'
						UNION ALL SELECT payer_id, amount FROM transfers WHERE state = 'pending' AND payer_id IS NOT NULL) AS held
					GROUP BY account_id) AS h
					ON h.account_id = a.id WHERE a.pending_debit <> COALESCE(h.total, 0)`,
		},
		{
			"holds_end_once", "a posted hold was captured by one transfer of the captured amount, any other by none",
			`SELECT SQL_BIG_RESULT id, CONCAT('captured ', SUM(captured), ' in ', SUM(due), ' captures, transfers ', SUM(moved), ' in ', SUM(found)) FROM
				(SELECT id, captured, IF(state = 'posted', 1, 0) AS due, 0 AS moved, 0 AS found FROM holds
				UNION ALL SELECT hold_id, 0, 0, amount, 1 FROM transfers WHERE hold_id IS NOT NULL AND state = 'posted') AS sides
				GROUP BY id HAVING SUM(captured) <> SUM(moved) OR SUM(due) <> SUM(found)`,
		},
		{
			"captures_fit_their_hold", "a capture pays from the account of its hold, in its currency",
			`SELECT t.id, CONCAT(t.currency, ' from ', COALESCE(t.payer_id, 'nobody'), ', hold ', t.hold_id,
					IF(h.id IS NULL, ' missing', CONCAT(': ', h.currency, ' on ', h.account_id)))
				FROM transfers t LEFT JOIN holds h ON h.id = t.hold_id
				WHERE t.hold_id IS NOT NULL AND (h.account_id = t.payer_id AND h.currency = t.currency) IS NOT TRUE`,
		},
	}
}

// ofKeys are about idempotency keys.
func ofKeys() []invariant {
	return []invariant{
		{
			"claims_stand_for_their_key", "a claim's id is the hash of caller, route and key, so that a key counts once",
			`SELECT claim, CONCAT(principal, ', ', route, ', key ', idem_key) FROM idempotency
				WHERE (UNHEX(claim) = UNHEX(SHA2(CONCAT(principal, CHAR(0), route, CHAR(0), idem_key, CHAR(0)), 256))) IS NOT TRUE`,
		},
		{
			"claims_have_their_answer", "every idempotency key has the answer that was given: its bytes, or the transfer it is rendered from",
			`SELECT claim, CONCAT(principal, ', ', route, ': status ', COALESCE(status, 'none'), ', transfer ', COALESCE(transfer_id, 'none'))
				FROM idempotency WHERE IF(transfer_id IS NOT NULL, renderer >= 1 AND status IS NULL,
					(status BETWEEN 200 AND 299 OR status IN (404, 409, 422)) AND body IS NOT NULL AND content_type IS NOT NULL
				) IS NOT TRUE`,
		},
		{
			"claims_have_one_effect", "a transfer that is the answer of an idempotency key exists, is paid by this system, and is the answer of no other key",
			"SELECT SQL_BIG_RESULT id, CONCAT(SUM(claims), ' keys, ', SUM(moves), ' transfers') FROM " +
				"(SELECT transfer_id AS id, 1 AS claims, 0 AS moves FROM idempotency WHERE transfer_id IS NOT NULL " +
				"UNION ALL SELECT t.id, 0, 1 FROM transfers t JOIN `system` s ON s.only = 1 AND s.id = t.payer_system) AS answers " +
				`GROUP BY id HAVING SUM(claims) > 1 OR SUM(claims) > SUM(moves)`,
		},
	}
}
