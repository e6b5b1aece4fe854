package locks

import (
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// wantedFor is how long a name that was given back is kept for the one who
// wanted it: enough for the pause between two of its tries.
const wantedFor = 50 * time.Millisecond

// Each script handles all names of a set in one call and answers one character
// per key, '1' or '0', in the order of KEYS. ARGV[1] is the set's token. What
// one command can do for many keys is one command: most of a script's time is
// the step from Lua into a command. unpack carries some 8,000 values, which
// namesMax keeps clear of.
//
// A key holds the token of a set. The time is the set's: one key of its own,
// ARGV[2] and the token, ends by itself, and with it all that the set holds. A
// time on each name would cost more than everything else together.
//
// Behind a bar stands the locker that wants the name next, if somebody was
// refused: "token|locker". Given back, it is kept for that locker a moment:
// "|locker". Without it a locker that tries at the wrong moments would never see
// a busy name free. It is told, too, on a channel of its own.
const (
	// takeSource sets each free key, and the set's time to ARGV[3] milliseconds.
	// For each key that was not free the second list names its holder, and the
	// key remembers that the locker ARGV[4] wants it, unless another was first.
	takeSource = `
local bits, holders, free, ours, ended = {}, {}, {}, '|' .. ARGV[4], {}
for i, holder in ipairs(redis.call('MGET', unpack(KEYS))) do
  local token = holder and string.match(holder, '^[^|]*')
  if token and token ~= '' and ended[token] == nil then
    ended[token] = redis.call('EXISTS', ARGV[2] .. token) == 0
  end
  if not holder or holder == ours or ended[token] then
    free[#free + 1] = KEYS[i]
    free[#free + 1] = ARGV[1]
    bits[i] = '1'
  else
    if holder == token then
      redis.call('SET', KEYS[i], holder .. ours)
    end
    holders[#holders + 1] = token ~= '' and token or holder
    bits[i] = '0'
  end
end
if #free > 0 then
  redis.call('MSET', unpack(free))
  redis.call('PSETEX', ARGV[2] .. ARGV[1], ARGV[3], '')
end
return {table.concat(bits), holders}`

	// giveSource deletes each key that still holds the token, or keeps it for
	// ARGV[3] milliseconds for the locker that wants it, and tells that one: the
	// token and the keys, on the channel ARGV[4] and the locker. Without the comparison
	// an owner whose time had run out would delete the next one's. The set's time
	// runs on, for a part of the set may be given back; when it is over, nothing
	// was ours any more. A key that another set holds, whose time still runs, is
	// answered with '2'.
	giveSource = `
local bits, mine, lives, kept, held = {}, {}, {}, {}, redis.call('EXISTS', ARGV[2] .. ARGV[1]) == 1 and '1' or '0'
for i, holder in ipairs(redis.call('MGET', unpack(KEYS))) do
  bits[i] = '0'
  if holder == ARGV[1] then
    mine[#mine + 1] = KEYS[i]
    bits[i] = held
  elseif holder and string.sub(holder, 1, #ARGV[1] + 1) == ARGV[1] .. '|' then
    local wanting = string.sub(holder, #ARGV[1] + 2)
    redis.call('PSETEX', KEYS[i], ARGV[3], '|' .. wanting)
    kept[wanting] = (kept[wanting] or ARGV[1]) .. '\n' .. KEYS[i]
    bits[i] = held
  elseif holder then
    local token = string.match(holder, '^[^|]*')
    if token ~= '' and lives[token] == nil then
      lives[token] = redis.call('EXISTS', ARGV[2] .. token) == 1
    end
    bits[i] = lives[token] and '2' or '0'
  end
end
if #mine > 0 then
  redis.call('DEL', unpack(mine))
end
for wanting, message in pairs(kept) do
  redis.call('PUBLISH', ARGV[4] .. wanting, message)
end
return table.concat(bits)`

	// extendSource gives the set another ARGV[3] milliseconds, and says which
	// keys hold the token. It never makes a key: a lock that is gone may have
	// been somebody else's in between.
	extendSource = `
local bits, held = {}, redis.call('PEXPIRE', ARGV[2] .. ARGV[1], ARGV[3]) == 1
for i, holder in ipairs(redis.call('MGET', unpack(KEYS))) do
  local ours = holder == ARGV[1] or holder and string.sub(holder, 1, #ARGV[1] + 1) == ARGV[1] .. '|'
  bits[i] = held and ours and '1' or '0'
end
return table.concat(bits)`
)

// scripts holds the three with their hashes, so that a call sends the hash and
// the source only to a server that does not know it yet.
type scripts struct {
	take, give, extend *redis.Script
}

func newScripts() scripts {
	return scripts{
		take:   redis.NewScript(takeSource),
		give:   redis.NewScript(giveSource),
		extend: redis.NewScript(extendSource),
	}
}

// taken is a server's answer to the take script: one bit per key, and for each
// key that was refused, in the same order, the token that holds it.
type taken struct {
	bits    string
	holders []string
}

func parseTaken(reply any, keys int) (taken, error) {
	parts, ok := reply.([]any)
	if !ok || len(parts) != 2 {
		return taken{}, fmt.Errorf("answer to take has the form %T", reply)
	}
	bits, err := parseBits(parts[0], keys)
	if err != nil {
		return taken{}, err
	}
	list, ok := parts[1].([]any)
	if !ok {
		return taken{}, fmt.Errorf("holders in the answer to take have the form %T", parts[1])
	}
	holders := make([]string, len(list))
	for i, holder := range list {
		holders[i], _ = holder.(string)
	}
	return taken{bits: bits, holders: holders}, nil
}

func parseBits(reply any, keys int) (string, error) {
	bits, ok := reply.(string)
	if !ok || len(bits) != keys {
		return "", fmt.Errorf("answer for %d keys is %T %v", keys, reply, reply)
	}
	return bits, nil
}
