-- Removes jobs of one state that ended (else started, else were added) at or before a moment, the oldest first.
-- Skips locked ones.
--
-- KEYS queue
-- TOUCHES queue ALL_KEYS limiter:limited
-- FINDS queue * *:lock *:logs de:* limiter:*:limited
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

local function ids_oldest_first()
  if KINDS[suffix] == 'zset' then
    return redis.call('ZRANGE', q .. suffix, 0, -1)
  end
  local ids, oldest_first = redis.call('LRANGE', q .. suffix, 0, -1), {}
  for place = #ids, 1, -1 do
    oldest_first[#oldest_first + 1] = ids[place]
  end
  return oldest_first
end

local function moment_of(id)
  local times = redis.call('HMGET', q .. id, 'finishedOn', 'processedOn', 'timestamp')
  return tonumber(times[1] or times[2] or times[3] or 0) or 0
end

local broken = wrong_type(q, ALL_KEYS)
if broken then
  return redis.error_reply(broken)
end
local ended = suffix == 'completed' or suffix == 'failed'
local latest = now_ms() - older_than_ms
local removed = {}
for _, id in ipairs(ids_oldest_first()) do
  if #removed >= limit then
    break
  end
  if not wrong_job(q, id) and moment_of(id) <= latest and redis.call('EXISTS', q .. id .. ':lock') == 0 then
    if not ended then -- as Bull does: a debounce may outlive its job's end on purpose
      free_debounce(q, id)
    end
    forget(q, id)
    removed[#removed + 1] = id
  end
end
return removed
