package locks

import (
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Each script handles all names of a set in one call and answers one character
// per key, '1' or '0', in the order of KEYS. ARGV[1] is the owner's token.
const (
	// takeSource sets each free key for ARGV[2] milliseconds. For each key that
	// was not free the second list names its holder.
	takeSource = `
local bits, holders = {}, {}
for i, key in ipairs(KEYS) do
  if redis.call('SET', key, ARGV[1], 'NX', 'PX', ARGV[2]) then
    bits[i] = '1'
  else
    bits[i] = '0'
    holders[#holders + 1] = redis.call('GET', key)
  end
end
return {table.concat(bits), holders}`

	// giveSource deletes each key that still holds the token. Without the
	// comparison an owner whose time had run out would delete the next one's.
	giveSource = `
local bits = {}
for i, key in ipairs(KEYS) do
  bits[i] = '0'
  if redis.call('GET', key) == ARGV[1] then
    redis.call('DEL', key)
    bits[i] = '1'
  end
end
return table.concat(bits)`

	// extendSource gives each key that still holds the token another ARGV[2]
	// milliseconds. It never makes a key: a lock that is gone may have been
	// somebody else's in between.
	extendSource = `
local bits = {}
for i, key in ipairs(KEYS) do
  bits[i] = '0'
  if redis.call('GET', key) == ARGV[1] then
    redis.call('PEXPIRE', key, ARGV[2])
    bits[i] = '1'
  end
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
