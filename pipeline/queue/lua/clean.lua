-- Removes jobs of one state that ended (else started, else were added) at or before a moment. Skips locked ones.
--
-- KEYS queue
-- ARGV suffix older_than_ms limit
-- RETURNS {id, ..}
-- @include types
-- @include time
-- @include remove
-- @include forget
local q = KEYS[1]
local suffix = ARGV[1]
local older_than_ms = tonumber(ARGV[2])
local limit = tonumber(ARGV[3])

local broken = wrong_type(q, EVERYWHERE)
if broken then
  return redis.error_reply(broken)
end
local ids = redis.call(KINDS[suffix] == 'list' and 'LRANGE' or 'ZRANGE', q .. suffix, 0, -1)
local latest = now_ms() - older_than_ms
local removed = {}
for _, id in ipairs(ids) do
  if #removed >= limit then
    break
  end
  local times = redis.call('HMGET', q .. id, 'finishedOn', 'processedOn', 'timestamp')
  local at = tonumber(times[1] or times[2] or times[3] or 0)
  if at <= latest and redis.call('EXISTS', q .. id .. ':lock') == 0 then
    forget(q, id)
    removed[#removed + 1] = id
  end
end
return removed
