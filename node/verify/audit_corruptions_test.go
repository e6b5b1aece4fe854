package verify_test

// auditCorruptions are those of the audit chain, which is several blocks long.
var auditCorruptions = []corruption{
	{"audit_is_chained", "UPDATE audit SET records = REPLACE(records, 'client', 'Client') ORDER BY sequence LIMIT 1"},
	{"audit_is_chained", "UPDATE audit SET records = REPLACE(records, 'client', 'Client') ORDER BY sequence DESC LIMIT 1"},
	{"audit_is_chained", `UPDATE audit SET records = CONCAT('{}', CHAR(10), records), entries = entries + 1,
		hash = UNHEX(SHA2(CONCAT(previous, sequence, CHAR(10), records), 256)) WHERE sequence = 2`}, // with the hash that belongs to it
	{"audit_is_chained", "DELETE FROM audit WHERE sequence = 2"},
	{"audit_is_chained", "DELETE FROM audit WHERE sequence = 1"},
	{"audit_is_chained", "UPDATE audit SET sequence = 9 WHERE sequence = 3"},
	{"audit_is_chained", "UPDATE audit SET entries = entries + 1 ORDER BY sequence LIMIT 1"},
	{"audit_is_chained", "UPDATE audit SET previous = REPEAT('x', 32) WHERE sequence = 1"},
	{"audit_is_chained", `INSERT INTO audit SELECT sequence + 1, entries, records, hash, hash FROM audit ORDER BY sequence DESC LIMIT 1`},
	{"audit_reaches_its_heads", "DELETE FROM audit ORDER BY sequence DESC LIMIT 1"},
	{"audit_reaches_its_heads", "DELETE FROM audit"},
	{"audit_reaches_its_heads", "DELETE FROM audit_heads"},
	{"audit_reaches_its_heads", "UPDATE audit_heads SET hash = REPEAT('x', 32)"},
	{"audit_reaches_its_heads", `INSERT INTO audit SELECT sequence + 1, entries, records, hash,
		UNHEX(SHA2(CONCAT(hash, sequence + 1, CHAR(10), records), 256)) FROM audit ORDER BY sequence DESC LIMIT 1`}, // well chained, and by no node
}
