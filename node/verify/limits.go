package verify

// ofLimits are about what accounts may pay out in a day. A limit is counted in the money's own transactions; here it is
// counted again from the journal. What was counted may be more: it is lowered only for what was set aside on the same day,
// and for a minute after a limit was first set for nothing. It may exceed a limit that an operator lowered.
func ofLimits() []invariant {
	return []invariant{
		{
			"limits_have_their_account", "an account is marked as limited exactly when it has a daily limit, in range",
			`SELECT l.account_id, CONCAT('marked ', COALESCE(a.limited, 'nowhere'), ', out ', COALESCE(l.daily_out, 'unlimited'), ', used ', l.used)
				FROM daily_limits l LEFT JOIN accounts a ON a.id = l.account_id
				WHERE (a.limited = 1 AND a.system_account IS NULL AND l.used >= 0 AND l.since <= l.day_began + INTERVAL 1 DAY AND
				(l.daily_out IS NULL OR l.daily_out BETWEEN 0 AND 1000000000000000)) IS NOT TRUE
			UNION ALL SELECT a.id, CONCAT('marked ', a.limited, ', no limit') FROM accounts a LEFT JOIN daily_limits l ON l.account_id = a.id
				WHERE a.limited <> 0 AND l.account_id IS NULL`,
		},
		{
			"limits_count_what_left", "what left a limited account today, and what is set aside to leave, was counted",
			`SELECT account_id, CONCAT('counted ', MAX(used), ', left ', SUM(amount)) FROM
				(SELECT l.account_id, l.used, -CAST(e.amount AS DECIMAL(20)) AS amount FROM daily_limits l
					JOIN entries e ON e.account_id = l.account_id JOIN transfers t ON t.id = e.transfer_id LEFT JOIN holds h ON h.id = t.hold_id
					WHERE e.amount < 0 AND COALESCE(h.created_at, t.created_at) >= GREATEST(l.day_began, l.since + INTERVAL 1 MINUTE)
				UNION ALL SELECT l.account_id, l.used, h.amount FROM daily_limits l JOIN holds h ON h.account_id = l.account_id
					WHERE h.state = 'pending' AND h.created_at >= GREATEST(l.day_began, l.since + INTERVAL 1 MINUTE)
				UNION ALL SELECT l.account_id, l.used, t.amount FROM transfers t JOIN daily_limits l ON l.account_id = t.payer_id
					WHERE t.state = 'pending' AND t.created_at >= GREATEST(l.day_began, l.since + INTERVAL 1 MINUTE)) AS gone
				GROUP BY account_id HAVING SUM(amount) > MAX(used)`,
		},
	}
}
