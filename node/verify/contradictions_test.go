package verify_test

// contradiction is a statement against one of two healthy systems, or both, and the rule between them that it breaks. It happens
// before the snapshot of that number is opened: 0 is the first of alpha, 2 the second.
type contradiction struct {
	breaks, system string
	before         int
	statement      string
}

// contradictions has at least one for every rule. Names in braces are those of world.fill.
var contradictions = []contradiction{
	{"credits_rest_on_a_decision", "alpha", 0, "UPDATE remittances SET state = 'voided' WHERE id = {done}"},
	{"credits_rest_on_a_decision", "alpha", 0, "UPDATE remittances SET state = 'pending' WHERE id = {done}"},
	{"credits_rest_on_a_decision", "alpha", 0, "DELETE FROM remittances WHERE id = {done}"},
	{"credits_rest_on_a_decision", "beta", 0, "UPDATE remittances SET state = 'pending' WHERE id = {back}"},
	{"credits_rest_on_a_decision", "beta", 0, "DELETE FROM remittances WHERE id = {back}"},
	{"credits_rest_on_a_decision", "beta", 0, "UPDATE remittances SET state = 'posted' WHERE id = {aborted}"},
	{"credits_rest_on_a_decision", "beta", 0, "UPDATE remittances SET state = 'posted' WHERE id = {promised}"},
	{"credits_rest_on_a_decision", "beta", 0, "UPDATE remittances SET state = 'posted' WHERE id = {refused}"},
	{"credits_rest_on_a_decision", "alpha", 0, "UPDATE remittances SET state = 'conflict' WHERE id = {done}"},
	{"decisions_rest_on_a_promise", "alpha", 0, "UPDATE remittances SET state = 'posted' WHERE id = {lonely}"},
	{"decisions_rest_on_a_promise", "alpha", 0, "UPDATE remittances SET state = 'posted' WHERE id = {closed}"},
	{"decisions_rest_on_a_promise", "alpha", 0, "UPDATE remittances SET state = 'posted' WHERE id = {refused}"},
	{"decisions_rest_on_a_promise", "alpha", 2, "UPDATE remittances SET state = 'posted' WHERE id = {aborted}"},
	{"decisions_rest_on_a_promise", "beta", 0, "UPDATE remittances SET state = 'voided' WHERE id = {done}"},
	{"decisions_rest_on_a_promise", "beta", 0, "UPDATE remittances SET state = 'refused' WHERE id = {flying}"},
	{"decisions_rest_on_a_promise", "beta", 0, "DELETE FROM remittances WHERE id = {flying}"},
	{"decisions_rest_on_a_promise", "alpha", 0, "DELETE FROM remittances WHERE id = {homing}"},
	{"promises_have_their_payer", "alpha", 0, "DELETE FROM remittances WHERE id = {promised}"},
	{"promises_have_their_payer", "beta", 0, "DELETE FROM remittances WHERE id = {homing}"},
	{"both_sides_move_the_same", "alpha", 0, "UPDATE transfers SET amount = amount + 1 WHERE id = {done}"},
	{"both_sides_move_the_same", "beta", 0, "UPDATE transfers SET amount = amount + 1 WHERE id = {done}"},
	{"both_sides_move_the_same", "beta", 0, "UPDATE transfers SET currency = 'USD' WHERE id = {done}"},
	{"both_sides_move_the_same", "beta", 0, "UPDATE transfers SET to_number = CONCAT(to_number, '0') WHERE id = {promised}"},
	{"both_sides_move_the_same", "alpha", 0, "UPDATE transfers SET from_number = CONCAT(from_number, '0') WHERE id = {back}"},
	{"both_sides_move_the_same", "alpha", 0, "UPDATE transfers SET description = 'other' WHERE id = {aborted}"},
	{"both_sides_move_the_same", "alpha", 0, "UPDATE transfers SET kind = 'deposit' WHERE id = {done}"},
	{"decisions_are_final", "alpha", 2, "UPDATE remittances SET state = 'voided' WHERE id = {done}"},
	{"decisions_are_final", "alpha", 2, "UPDATE remittances SET state = 'pending' WHERE id = {aborted}"},
	{"decisions_are_final", "alpha", 2, "UPDATE remittances SET state = 'pending' WHERE id = {back}"},
	{"decisions_are_final", "alpha", 2, "UPDATE transfers SET amount = amount + 1 WHERE id = {done}"},
	{"decisions_are_final", "alpha", 2, "DELETE FROM remittances WHERE id = {done}"},
	{"decisions_are_final", "alpha", 2, "DELETE FROM remittances WHERE id = {lonely}"},
	{"exposures_are_mirrored", "alpha", 0, "UPDATE exposures SET posted = posted + 1"},
	{"exposures_are_mirrored", "alpha", 0, "UPDATE exposures SET credited = credited + 1"},
	{"exposures_are_mirrored", "beta", 0, "UPDATE exposures SET posted = posted + 1"},
	{"exposures_are_mirrored", "beta", 0, "UPDATE exposures SET credited = 9223372036854775807"},
	{"exposures_are_mirrored", "beta", 0, "DELETE FROM exposures"},
	{"exposures_are_mirrored", "both", 0, "DELETE FROM exposures"},
	{"exposures_are_mirrored", "beta", 0, "INSERT INTO exposures VALUES ('alpha', 'USD', 1, NULL, 0, 1, 0, 0)"},
	{"exposures_are_mirrored", "alpha", 0, "UPDATE exposures SET currency = 'USD'"},
	{"exposures_are_mirrored", "alpha", 0, "UPDATE remittances SET state = 'voided' WHERE id = {flying}"},
	{"money_is_constant", "alpha", 0, "UPDATE accounts SET posted = posted + 1 WHERE system_account IS NULL"},
	{"money_is_constant", "beta", 0, "UPDATE accounts SET posted = 9223372036854775807 WHERE system_account IS NULL"},
	{"money_is_constant", "alpha", 0, "UPDATE accounts SET posted = posted + 1 WHERE system_account = 2 LIMIT 1"},
	{"money_is_constant", "beta", 0, "UPDATE transfers SET kind = 'withdrawal' WHERE kind = 'deposit'"},
	{"money_is_constant", "alpha", 0, "DELETE FROM transfers WHERE kind = 'deposit'"},
	{"money_is_constant", "alpha", 0, "UPDATE transfers SET amount = amount + 1 WHERE id = {flying}"},
	{"money_is_constant", "beta", 0, "UPDATE transfers SET amount = amount + 1 WHERE id = {homing}"},
	{"money_is_constant", "beta", 0, "UPDATE remittances SET state = 'posted' WHERE id = {flying}"},
	{"transfers_settle", "alpha", 0, "UPDATE remittances SET finished_at = finished_at - INTERVAL 61 SECOND WHERE id = {flying}"},
	{"transfers_settle", "alpha", 0, "UPDATE remittances SET created_at = created_at - INTERVAL 61 SECOND WHERE id = {lonely}"},
	{"transfers_settle", "alpha", 0, "UPDATE remittances SET finished_at = finished_at - INTERVAL 61 SECOND WHERE id = {aborting}"},
	{"transfers_settle", "beta", 0, "UPDATE remittances SET finished_at = finished_at - INTERVAL 61 SECOND WHERE id = {homing}"},
	{"transfers_settle", "alpha", 0, "UPDATE remittances SET state = 'conflict', finished_at = finished_at - INTERVAL 61 SECOND WHERE id = {done}"},
}
