package verify

// invariant is a rule with the query that lists its breaches: one text column that names the place, and one that says
// what is wrong there.
type invariant struct {
	name    string
	meaning string
	query   string
}

// invariants are all that must hold of one system's schema at any moment, in a consistent snapshot.
var invariants = []invariant{
	{
		"entries_sum_to_zero", "the entries of a transfer sum to zero in each currency",
		`SELECT transfer_id, CONCAT('sum ', SUM(amount), ' ', currency) FROM entries
			GROUP BY transfer_id, currency HAVING SUM(amount) <> 0`,
	},
	{
		"transfers_have_their_entries", "a posted transfer has one debit and one credit of its amount on its two accounts, any other none",
		`SELECT t.id, CONCAT(t.state, ' with ', COUNT(e.account_id), ' fitting entries') FROM transfers t
			LEFT JOIN entries e ON e.transfer_id = t.id AND e.currency = t.currency AND e.kind = t.kind AND
				(e.account_id = t.payer_id AND e.amount = -t.amount OR e.account_id = t.payee_id AND e.amount = t.amount)
			GROUP BY t.id, t.payer_system, t.state HAVING COUNT(e.account_id) <> IF(t.state = 'posted', 2, 0)`,
	},
	{
		"entries_have_their_transfer", "every entry belongs to a transfer, and a transfer has at most two",
		`SELECT e.transfer_id, CONCAT(COUNT(*), ' entries, transfer ', IF(MAX(t.id) IS NULL, 'missing', 'present'))
			FROM entries e LEFT JOIN transfers t ON t.id = e.transfer_id
			GROUP BY e.transfer_id HAVING COUNT(*) > 2 OR MAX(t.id) IS NULL`,
	},
	{
		"posted_is_the_sum_of_entries", "an account's posted balance is the sum of its entries, stripes included",
		`SELECT a.id, CONCAT('posted ', a.posted, ', entries ', COALESCE(SUM(e.amount), 0)) FROM accounts a
			LEFT JOIN entries e ON e.account_id = a.id AND e.currency = a.currency
			GROUP BY a.id, a.posted HAVING a.posted <> COALESCE(SUM(e.amount), 0)`,
	},
	{
		"sequence_has_no_gap", "an account's entries count from 1 to its version",
		`SELECT a.id, CONCAT('version ', a.version, ', ', COUNT(e.sequence), ' entries, last ', COALESCE(MAX(e.sequence), 0))
			FROM accounts a LEFT JOIN entries e ON e.account_id = a.id
			GROUP BY a.id, a.version HAVING COUNT(e.sequence) <> a.version OR COALESCE(MAX(e.sequence), 0) <> a.version
				OR COALESCE(MIN(e.sequence), 1) <> 1`,
	},
	{
		"balance_after_is_chained", "each entry's balance_after is the balance before it plus its amount",
		`SELECT CONCAT(account_id, '/', sequence), CONCAT('balance_after ', balance_after, ', expected ', running) FROM
			(SELECT account_id, sequence, balance_after, SUM(amount) OVER (PARTITION BY account_id ORDER BY sequence) AS running
				FROM entries) chain WHERE balance_after <> running`,
	},
	{
		"entries_have_their_account", "every entry stands on an account",
		`SELECT DISTINCT e.account_id, 'entries without an account' FROM entries e LEFT JOIN accounts a ON a.id = e.account_id
			WHERE a.id IS NULL`,
	},
	{
		"holds_sum_to_pending_debit", "an account's open holds sum to its pending debits",
		`SELECT a.id, CONCAT('pending_debit ', a.pending_debit, ', open holds ', COALESCE(SUM(h.amount), 0)) FROM accounts a
			LEFT JOIN holds h ON h.account_id = a.id AND h.state = 'pending'
			GROUP BY a.id, a.pending_debit HAVING a.pending_debit <> COALESCE(SUM(h.amount), 0)`,
	},
	{
		"reservations_sum_to_pending_credit", "an account's promised credits sum to its pending credits",
		`SELECT a.id, CONCAT('pending_credit ', a.pending_credit, ', promised ', COALESCE(SUM(t.amount), 0)) FROM accounts a
			LEFT JOIN transfers t ON t.payee_id = a.id AND t.state = 'pending'
			GROUP BY a.id, a.pending_credit HAVING a.pending_credit <> COALESCE(SUM(t.amount), 0)`,
	},
	{
		"holds_end_once", "a posted hold was captured by one transfer of the captured amount, any other by none",
		`SELECT h.id, CONCAT(h.state, ', captured ', h.captured, ', ', COUNT(t.id), ' captures of ', COALESCE(SUM(t.amount), 0))
			FROM holds h LEFT JOIN transfers t ON t.payer_id = h.account_id AND t.hold_id = h.id
			GROUP BY h.id, h.state, h.captured
			HAVING COUNT(t.id) <> IF(h.state = 'posted', 1, 0) OR COALESCE(SUM(t.amount), 0) <> h.captured`,
	},
	{
		"available_is_not_negative", "no account but a stripe has less than nothing available",
		`SELECT id, CONCAT('available ', posted - pending_debit + overdraft_limit) FROM accounts
			WHERE system_account IS NULL AND posted - pending_debit + overdraft_limit < 0`,
	},
	{
		"closed_is_empty", "a closed account has no money and no pending amounts",
		`SELECT id, CONCAT('posted ', posted, ', pending ', pending_debit, '/', pending_credit) FROM accounts
			WHERE status = 'closed' AND (posted <> 0 OR pending_debit <> 0 OR pending_credit <> 0)`,
	},
	{
		"books_balance", "the posted balances of all accounts sum to zero in each currency",
		`SELECT currency, CONCAT('sum ', SUM(posted)) FROM accounts GROUP BY currency HAVING SUM(posted) <> 0`,
	},
	{
		"claims_have_their_answer", "every idempotency key has the answer that was given, stored or as its transfer",
		`SELECT i.claim, CONCAT(i.principal, ' ', i.route, ': no answer') FROM idempotency i
			LEFT JOIN transfers t ON t.id = i.transfer_id WHERE i.status IS NULL AND t.id IS NULL`,
	},
	{
		"claims_have_one_effect", "no transfer is the answer of two idempotency keys",
		`SELECT transfer_id, CONCAT(COUNT(*), ' keys') FROM idempotency WHERE transfer_id IS NOT NULL
			GROUP BY transfer_id HAVING COUNT(*) > 1`,
	},
}
