-- Takes a job out of every list and set Bull may have put it in, and deletes what belongs to it alone.
local EVERYWHERE = { 'wait', 'paused', 'active', 'delayed', 'completed', 'failed', 'priority' }

local function forget(q, id)
  for _, suffix in ipairs(EVERYWHERE) do
    if KINDS[suffix] == 'list' then
      redis.call('LREM', q .. suffix, 0, id)
    else
      redis.call('ZREM', q .. suffix, id)
    end
  end
  local limited = redis.call('HGET', q .. 'limiter:index', id)
  if limited then
    redis.pcall('SREM', limited, id)
    redis.call('HDEL', q .. 'limiter:index', id)
  end
  delete_job(q, id)
end
