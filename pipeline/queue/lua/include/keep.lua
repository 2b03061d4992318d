-- @include time
-- @include remove
-- Files a finished job under `set` (completed or failed) and lets go of old ones: a bounded number per call,
-- so that a change of retention never stops Redis.
local REMOVALS_MAX = 100

local function remove_oldest(q, set, ids)
  for _, id in ipairs(ids) do
    delete_job(q, id)
    redis.call('ZREM', q .. set, id)
  end
  return #ids
end

local function keep(q, set, id, age_ms, count)
  end_debounce(q, id)
  if count == '0' then
    delete_job(q, id)
    return
  end
  local now = now_ms()
  redis.call('HSET', q .. id, 'finishedOn', decimal(now))
  redis.call('ZADD', q .. set, decimal(now), id)
  local removed = 0
  if age_ms ~= '' then
    local until_ms = decimal(now - tonumber(age_ms))
    removed = remove_oldest(q, set, redis.call('ZRANGEBYSCORE', q .. set, '-inf', until_ms, 'LIMIT', 0, REMOVALS_MAX))
  end
  if count ~= '' then
    local excess = math.min(redis.call('ZCARD', q .. set) - tonumber(count), REMOVALS_MAX - removed)
    if excess > 0 then
      remove_oldest(q, set, redis.call('ZRANGE', q .. set, 0, excess - 1))
    end
  end
end
