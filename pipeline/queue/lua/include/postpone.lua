-- @include time
-- Puts a job into `delayed` and tells the timers.
local function postpone(q, id, delay_ms, order)
  local due = now_ms() + delay_ms
  redis.call('ZADD', q .. 'delayed', due_score(due, order), id)
  redis.call('PUBLISH', q .. 'delayed', decimal(due))
end
