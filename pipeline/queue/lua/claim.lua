-- Takes the next waiting job and its lease, in one step.
--
-- KEYS queue
-- TOUCHES queue ALL_KEYS meta-paused
-- FINDS queue * *:lock
-- ARGV token lease_ms limit_max limit_ms data_max
-- RETURNS {'claimed', id, name, opts, timestamp, attempts_made, stalled, data, lease_left_ms, dropped}
-- RETURNS {'empty', dropped} | {'limited', retry_after_ms, dropped} | {'paused'}
-- @include take
local q = KEYS[1]
local token = ARGV[1]
local lease_ms = ARGV[2]
local limit_max = ARGV[3]
local limit_ms = ARGV[4]
local data_max = ARGV[5]

local broken = wrong_type(q, ALL_KEYS)
if broken then
  return redis.error_reply(broken)
end
return take(q, token, lease_ms, limit_max, limit_ms, data_max)
