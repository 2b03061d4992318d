-- Redis' own clock, so that replicas and Node producers with wrong clocks agree; integers as decimal strings,
-- because Lua would write a score of 16 digits as 7.35e+15.
local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function decimal(number)
  return string.format('%.0f', number)
end

-- A delayed job's score: the due time with 12 low bits that keep jobs of one millisecond in order.
-- Exact in a double until 2039.
local function due_score(due_ms, order)
  return decimal(due_ms * 4096 + order % 4096)
end
