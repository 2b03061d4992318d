-- Stops claiming for the whole fleet. Bull's RENAME would destroy what is already in `paused`; this moves.
--
-- KEYS queue
-- TOUCHES queue ALL_KEYS meta-paused
-- ARGV
-- RETURNS 'paused'
-- @include types
-- @include move
local q = KEYS[1]

local broken = wrong_type(q, ALL_KEYS)
if broken then
  return redis.error_reply(broken)
end
move_behind(q .. 'wait', q .. 'paused')
redis.call('SET', q .. 'meta-paused', 1)
redis.call('HSET', q .. 'meta', 'paused', 1)
redis.call('PUBLISH', q .. 'paused', 'paused')
return 'paused'
