-- Lets the fleet claim again.
--
-- KEYS queue
-- TOUCHES queue ALL_KEYS meta-paused
-- ARGV
-- RETURNS 'resumed'
-- @include types
-- @include move
local q = KEYS[1]

local broken = wrong_type(q, ALL_KEYS)
if broken then
  return redis.error_reply(broken)
end
move_behind(q .. 'paused', q .. 'wait')
redis.call('DEL', q .. 'meta-paused')
redis.call('HDEL', q .. 'meta', 'paused')
redis.call('PUBLISH', q .. 'resumed', 'resumed')
return 'resumed'
