-- A foreign push into `wait` of a paused queue is destroyed by the RENAME of the resume, hence the target.
local function target_of(q)
  if redis.call('EXISTS', q .. 'meta-paused') == 1 then
    return q .. 'paused'
  end
  return q .. 'wait'
end

-- Puts a job where it will be claimed and says so. The right end runs next: prioritised jobs gather there in
-- ascending order, `front` goes before them all, everything else queues up on the left. A priority below 0, which bull
-- does not count, goes before them all too.
local function push(q, id, priority, front)
  local target = target_of(q)
  if priority ~= 0 then
    redis.call('ZADD', q .. 'priority', priority, id)
    local not_after = redis.call('ZCOUNT', q .. 'priority', 0, priority)
    local pivot = redis.call('LINDEX', target, redis.call('LLEN', target) - (not_after - 1))
    if pivot then
      redis.call('LINSERT', target, 'BEFORE', pivot, id)
    else
      redis.call('RPUSH', target, id)
    end
  elseif front then
    redis.call('RPUSH', target, id)
  else
    redis.call('LPUSH', target, id)
  end
  redis.call('PUBLISH', q .. 'waiting@po', id)
end
