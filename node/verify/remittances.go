package verify

// ofRemittances are about transfers between this system and another: the row that says how far each one is, the transfer
// beside it, and the saga that brings it to its end. A tombstone (voided before anything was promised, so it began and
// ended at one moment), a refusal and a conflict move nothing and have no transfer.
func ofRemittances() []invariant {
	return []invariant{
		{
			"remittances_are_whole", "a remittance is between this system and another, has a known state, an end unless it is pending, and a reason if it failed",
			"SELECT r.id, CONCAT(r.state, ' from ', r.payer_system, ' to ', r.payee_system, ', epochs ', r.payer_epoch, ' and ', r.payee_epoch, " +
				"', failure ', r.failure, ', finished ', COALESCE(r.finished_at, 'never'), ', credited ', COALESCE(r.credited_at, 'never')) " +
				"FROM remittances r JOIN `system` s ON s.only = 1 LEFT JOIN remittance_statements w ON w.id = r.id " +
				`WHERE (r.state IN ('pending', 'posted', 'voided', 'refused', 'conflict') AND
					(r.payer_system = s.id) <> (r.payee_system = s.id) AND r.payer_epoch >= 0 AND r.payee_epoch >= 0 AND
					(r.finished_at IS NULL) = (r.state = 'pending') AND COALESCE(r.finished_at >= r.created_at, TRUE) AND
					(r.failure <> '') = (r.state IN ('voided', 'refused', 'conflict')) AND
					(r.state <> 'refused' OR r.payee_system = s.id) AND
					(r.credited_at IS NULL OR r.state = 'posted' AND r.payer_system = s.id AND r.credited_at >= r.finished_at) AND
					(COALESCE(w.statement, r.statement, '') = '' OR r.state = 'posted' AND r.payee_system = s.id)) IS NOT TRUE
				UNION ALL SELECT w.id, 'a statement without a remittance' FROM remittance_statements w LEFT JOIN remittances r ON r.id = w.id
				WHERE r.id IS NULL`,
		},
		{
			"remittances_name_their_peer", "the other system of a remittance is a known peer",
			"SELECT r.id, CONCAT('from ', r.payer_system, ' to ', r.payee_system) FROM remittances r JOIN `system` s ON s.only = 1 " +
				"LEFT JOIN peers p ON p.id = IF(r.payer_system = s.id, r.payee_system, r.payer_system) WHERE p.id IS NULL",
		},
		{
			"remittances_fit_their_transfer", "a remittance and its transfer have one state, one beginning, one end and the numbers of the two systems",
			`SELECT r.id, CONCAT(r.state, ' from ', r.payer_system, ' to ', r.payee_system, COALESCE(CONCAT(', transfer ', t.state,
					' from ', t.from_number, ' to ', t.to_number), ', no transfer'))
				FROM remittances r LEFT JOIN transfers t ON t.id = r.id AND t.payer_system = r.payer_system
				WHERE CASE
					WHEN t.id IS NOT NULL THEN t.state = r.state AND t.created_at = r.created_at AND t.finished_at <=> r.finished_at AND
						t.from_number LIKE CONCAT(r.payer_system, '-%') AND t.to_number LIKE CONCAT(r.payee_system, '-%')
					WHEN r.state = 'voided' THEN r.finished_at = r.created_at AND r.expires_at = r.created_at
					ELSE r.state IN ('refused', 'conflict') END IS NOT TRUE`,
		},
		{
			"remittances_cover_their_transfers", "a transfer from or to another system, or one that is not posted, has its remittance",
			"SELECT t.id, CONCAT(t.payer_system, ': ', t.state, ' from ', t.from_number, ' to ', t.to_number) FROM transfers t " +
				"JOIN `system` s ON s.only = 1 LEFT JOIN remittances r ON r.id = t.id AND r.payer_system = t.payer_system " +
				`WHERE r.id IS NULL AND (t.state = 'posted' AND t.payer_system = s.id AND
					(t.to_number = 'cash' OR t.to_number LIKE CONCAT(s.id, '-%'))) IS NOT TRUE`,
		},
		{
			"sagas_follow_their_remittance", "a pending remittance is named by what says when somebody looks after it, or else has a saga of its side's kind that has not ended; a final one has neither",
			"SELECT r.id, CONCAT(r.state, ' from ', r.payer_system, ', looked after ', COALESCE(r.look_at, 'never'), " +
				"COALESCE(CONCAT(', saga ', g.kind, ' ', g.state), ', no saga')) " +
				"FROM remittances r JOIN `system` s ON s.only = 1 " + `LEFT JOIN sagas g ON g.id = r.id
				WHERE CASE
					WHEN r.state <> 'pending' THEN r.look_at IS NULL AND COALESCE(g.state IN ('done', 'failed'), TRUE)
					WHEN (r.look_at IS NULL) <> (r.room IS NULL) THEN g.id IS NULL AND (r.room IS NULL OR
						EXISTS (SELECT 1 FROM remittance_looks l WHERE FIND_IN_SET(r.id, l.remittances)))
					ELSE g.state IN ('running', 'compensating', 'parked') AND g.kind = IF(r.payer_system = s.id, 'remit', 'await')
					END IS NOT TRUE
			UNION ALL SELECT g.id, CONCAT(g.kind, ' ', g.state, ', no remittance') FROM sagas g LEFT JOIN remittances r ON r.id = g.id
				WHERE r.id IS NULL AND g.kind IN ('remit', 'await') AND (g.state IN ('done', 'failed')) IS NOT TRUE`,
		},
	}
}

// ofPeers are about what this system and its peers owe one another. That an exposure is within its cap is none of them: a
// cap may be lowered below what is open, and binds new promises only.
func ofPeers() []invariant {
	return []invariant{
		{
			"exposures_are_whole", "an exposure is to a known peer, at most in its epoch, and counts nothing below zero",
			`SELECT CONCAT(e.peer, ' ', e.currency), CONCAT('epoch ', e.epoch, ', cap ', COALESCE(e.cap, 'none'), ', reserved ', e.reserved,
					', credited ', e.credited, ', posted ', e.posted, IF(p.id IS NULL, ', no peer', CONCAT(', epoch of the peer ', p.epoch)))
				FROM exposures e LEFT JOIN peers p ON p.id = e.peer
				WHERE (e.currency REGEXP '^[A-Z]{3}$' AND e.epoch BETWEEN 0 AND p.epoch AND COALESCE(e.cap >= 0, TRUE) AND
					e.reserved >= 0 AND e.credited >= 0 AND e.posted >= 0) IS NOT TRUE`,
		},
		{
			"exposures_sum_their_transfers", "an exposure's reserved are the peer's pending transfers to us, its credited the posted ones, its posted ours to the peer",
			`SELECT CONCAT(peer, ' ', currency), CONCAT('reserved ', SUM(reserved), ', promised ', SUM(promised), ', credited ', SUM(credited),
					', received ', SUM(received), ', posted ', SUM(posted), ', paid ', SUM(paid)) FROM
				(SELECT peer, currency, reserved, credited, posted, 0 AS promised, 0 AS received, 0 AS paid FROM exposures ` +
				"UNION ALL SELECT IF(r.payer_system = s.id, r.payee_system, r.payer_system), t.currency, 0, 0, 0, " +
				"IF(t.state = 'pending' AND r.payer_system <> s.id, t.amount, 0), IF(t.state = 'posted' AND r.payer_system <> s.id, t.amount, 0), " +
				"IF(t.state = 'posted' AND r.payer_system = s.id, t.amount, 0) FROM remittances r JOIN `system` s ON s.only = 1 " +
				`JOIN transfers t ON t.id = r.id AND t.payer_system = r.payer_system) AS sides
				GROUP BY peer, currency HAVING SUM(reserved) <> SUM(promised) OR SUM(credited) <> SUM(received) OR SUM(posted) <> SUM(paid)`,
		},
		{
			"settlements_mirror_their_exposure", "the stripes of the settlement with a peer sum to what was posted to it less what was credited from it",
			`SELECT CONCAT('settlement:', peer, ' ', currency), CONCAT('stripes ', SUM(stripes), ', posted less credited ', SUM(open)) FROM
				(SELECT COALESCE(p.id, a.system_account) AS peer, a.currency, a.posted AS stripes, 0 AS open FROM accounts a
					LEFT JOIN peers p ON p.settlement = a.system_account WHERE a.system_account >= 10
				UNION ALL SELECT peer, currency, 0, CAST(posted AS DECIMAL(20)) - credited FROM exposures) AS sides
				GROUP BY peer, currency HAVING SUM(stripes) <> SUM(open)`,
		},
		{
			"suspense_mirrors_stray_transfers", "the stripes of suspense sum to the transfers that no account could take, less those that were returned",
			`SELECT currency, CONCAT('stripes ', SUM(stripes), ', transfers ', SUM(taken)) FROM
				(SELECT currency, posted AS stripes, 0 AS taken FROM accounts WHERE system_account = 2
				UNION ALL SELECT currency, 0, amount FROM transfers WHERE state = 'posted' AND payee_id DIV 10000000000 = 1002
				UNION ALL SELECT currency, 0, -CAST(amount AS DECIMAL(20)) FROM transfers WHERE state = 'posted' AND payer_id DIV 10000000000 = 1002) AS sides
				GROUP BY currency HAVING SUM(stripes) <> SUM(taken)`,
		},
		{
			"returns_undo_stray_transfers", "a return from here pays what one transfer brought that no account could take, back to where it came from",
			"SELECT t.id, CONCAT(t.amount, ' ', t.currency, ' to ', t.to_number, ' for ', t.reference, COALESCE(CONCAT(', which brought ', o.amount, ' ', " +
				"o.currency, ' from ', o.from_number), ', which is missing')) FROM transfers t JOIN `system` s ON s.only = 1 " + `LEFT JOIN transfers o ON o.id = CONVERT(t.reference USING ascii) COLLATE ascii_bin
				WHERE t.kind = 'return' AND t.payer_system = s.id AND t.reference <> '' AND
					(o.state = 'posted' AND o.kind = 'transfer' AND o.payee_id DIV 10000000000 = 1002 AND o.amount = t.amount AND o.currency = t.currency AND
					o.from_number = t.to_number AND o.to_number = t.from_number) IS NOT TRUE`,
		},
		{
			"peers_are_whole", "a peer is another system, with a settlement account of its own and an epoch",
			"SELECT p.id, CONCAT('settlement ', p.settlement, ', epoch ', p.epoch) FROM peers p JOIN `system` s ON s.only = 1 " +
				"WHERE (p.id <> s.id AND p.id REGEXP '^[a-z][a-z0-9]{1,15}$' AND p.settlement BETWEEN 10 AND 999 AND p.epoch >= 0) IS NOT TRUE",
		},
	}
}
