package verify_test

// uncounted makes a limit count from long ago, so that all that left has to be counted, and nothing is.
const uncounted = "UPDATE daily_limits SET since = since - INTERVAL 1 HOUR, used = 0"

// limitCorruptions are those of daily limits.
var limitCorruptions = []corruption{
	{"limits_have_their_account", "UPDATE accounts SET limited = 0"},
	{"limits_have_their_account", "DELETE FROM daily_limits"},
	{"limits_have_their_account", "UPDATE accounts SET limited = 1 WHERE limited = 0 LIMIT 1"},
	{"limits_have_their_account", "UPDATE daily_limits SET account_id = 999999 LIMIT 1"},
	{"limits_have_their_account", "UPDATE daily_limits SET used = -1"},
	{"limits_have_their_account", "UPDATE daily_limits SET daily_out = -1"},
	{"limits_have_their_account", "UPDATE daily_limits SET since = since + INTERVAL 2 DAY"},
	{"limits_count_what_left", uncounted + " ORDER BY account_id LIMIT 1"}, // paid from
	{"limits_count_what_left", uncounted + " WHERE account_id IN (SELECT account_id FROM holds WHERE state = 'pending')"},
	{"limits_count_what_left", uncounted + " WHERE account_id IN (SELECT payer_id FROM transfers WHERE state = 'pending')"},
}
