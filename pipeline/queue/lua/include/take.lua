-- @include types
-- @include time
-- @include describe
-- Takes the next runnable job and its lease. Bull pops and locks in two calls; a worker that dies in between
-- leaves an active job without a lock, which is then counted as a stall.
local DROPS_MAX = 100

-- Milliseconds until the window opens; nil if it is open. Never moves anyone to `delayed`, as Bull would.
local function limited_for(q, limit_max, limit_ms)
  if limit_max == '' or tonumber(redis.call('GET', q .. 'limiter') or 0) < tonumber(limit_max) then
    return nil
  end
  local left = redis.call('PTTL', q .. 'limiter')
  if left < 0 then -- a counter that never ends would close the queue for ever
    redis.call('PEXPIRE', q .. 'limiter', limit_ms)
    return tonumber(limit_ms)
  end
  return left
end

local function count_start(q, limit_max, limit_ms)
  if limit_max == '' then
    return
  end
  if redis.call('EXISTS', q .. 'limiter') == 0 then
    redis.call('SET', q .. 'limiter', 1, 'PX', limit_ms)
  else
    redis.call('INCR', q .. 'limiter')
  end
end

-- Why an entry cannot be run: no job behind it, or a second entry of a job that runs elsewhere.
local function unrunnable(q, id)
  if not is_job(q, id) then
    return 'ghost'
  end
  if redis.call('EXISTS', q .. id .. ':lock') == 1 and #redis.call('LPOS', q .. 'active', id, 'COUNT', 2) > 1 then
    return 'duplicate'
  end
  return nil
end

local function take(q, token, lease_ms, limit_max, limit_ms, data_max)
  if redis.call('EXISTS', q .. 'meta-paused') == 1 then
    return { 'paused' }
  end
  local wait_ms = limited_for(q, limit_max, limit_ms)
  if wait_ms then
    return { 'limited', wait_ms }
  end
  local dropped = {}
  while #dropped < DROPS_MAX do
    local id = redis.call('RPOPLPUSH', q .. 'wait', q .. 'active')
    if not id then
      return { 'empty', dropped }
    end
    local why = unrunnable(q, id)
    if not why then
      redis.call('SET', q .. id .. ':lock', token, 'PX', lease_ms)
      redis.call('SREM', q .. 'stalled', id)
      redis.call('ZREM', q .. 'priority', id)
      redis.call('HSET', q .. id, 'processedOn', decimal(now_ms()))
      redis.call('PUBLISH', q .. 'active@' .. token, id)
      count_start(q, limit_max, limit_ms)
      local job = describe(q, id, lease_ms, data_max)
      job[#job + 1] = dropped
      return job
    end
    redis.call('LREM', q .. 'active', 1, id)
    redis.call('ZREM', q .. 'priority', id) -- left there it would move the place of jobs added later
    dropped[#dropped + 1] = why .. ' ' .. id
  end
  return { 'limited', 0, dropped }
end
