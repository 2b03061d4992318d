-- @include time
-- Bull's low bits of a score for a job that comes back: its number, 0 for a custom id.
local function order_of(id)
  return #id <= 15 and tonumber(string.match(id, '^%d+$')) or 0
end

-- Puts a job into `delayed` and tells the timers.
local function postpone_until(q, id, due, order)
  redis.call('ZADD', q .. 'delayed', due_score(due, order), id)
  redis.call('PUBLISH', q .. 'delayed', decimal(due))
end

local function postpone(q, id, delay_ms, order)
  postpone_until(q, id, now_ms() + delay_ms, order)
end
