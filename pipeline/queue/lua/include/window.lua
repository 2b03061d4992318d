-- @include time
-- Whether the limiter's open window is the one in which this job's claim was counted: a start given back to a later
-- window would let one more than `max` begin there.
local function counted_in_this_window(q, id, window_ms)
  local opened = now_ms() + redis.call('PTTL', q .. 'limiter') - window_ms
  local claimed = tonumber(redis.call('HGET', q .. id, 'processedOn')) or 0
  return claimed >= opened and tonumber(redis.call('GET', q .. 'limiter') or 0) > 0
end
