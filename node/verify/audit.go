package verify

// ofAudit are about the record of who did what: a chain of blocks that is only added to.
func ofAudit() []invariant {
	return []invariant{
		{
			"audit_is_chained", "an audit block has the hash of its records and of the block before it, from the first one on without a gap",
			`SELECT a.sequence, CONCAT(a.entries, ' records, ', IF(p.sequence IS NULL, 'nothing before', IF(p.hash = a.previous, 'well chained', 'chained to another')))
				FROM audit a LEFT JOIN audit p ON p.sequence = a.sequence - 1
				WHERE (a.previous = IF(a.sequence = 1, UNHEX(LPAD('', 64, '0')), p.hash) AND
				a.hash = UNHEX(SHA2(CONCAT(a.previous, a.sequence, CHAR(10), a.records), 256)) AND
				a.entries = LENGTH(a.records) - LENGTH(REPLACE(a.records, CHAR(10), ''))) IS NOT TRUE`,
		},
		{
			"audit_reaches_its_heads", "the audit chain ends with the newest block that a node has written",
			"SELECT CONCAT('node ', h.node), CONCAT('wrote block ', h.sequence, IF(a.sequence IS NULL, ', which is not there', ', which is another')) " +
				"FROM audit_heads h LEFT JOIN audit a ON a.sequence = h.sequence WHERE (a.hash = h.hash) IS NOT TRUE " +
				"UNION ALL SELECT 'chain', CONCAT('ends with block ', COALESCE((SELECT MAX(sequence) FROM audit), 0), ', written ', COALESCE((SELECT MAX(sequence) FROM audit_heads), 0)) " +
				"FROM `system` WHERE (COALESCE((SELECT MAX(sequence) FROM audit), 0) = COALESCE((SELECT MAX(sequence) FROM audit_heads), 0)) IS NOT TRUE",
		},
	}
}
