-- Looks after all queues at once: promotes what is due, returns stalled jobs to waiting, reports what there is.
-- It never fails a job: over its stall limit a job still goes back, and whoever claims it decides.
--
-- The guard lets one replica per period look for stalled jobs. A due time is a promise, so promoting is not
-- guarded; nothing is promoted twice. Each queue is on its own: a broken one is reported, the others go on.
--
-- KEYS guard epoch queue...
-- TOUCHES queue ALL_KEYS meta-paused stalled-check
-- FINDS queue * *:lock
-- ARGV guard_ms stalled_interval_ms queue_count
-- RETURNS {ran, epoch_present, now_ms, {waiting, active, delayed, next_due_ms, returned, promoted, paused, broken}, ..}
-- @include types
-- @include time
-- @include push
-- @include options
local guard = KEYS[1]
local epoch = KEYS[2]
local guard_ms = ARGV[1]
local stalled_interval_ms = ARGV[2]
local queue_count = tonumber(ARGV[3])

local PROMOTED_MAX = 100
local MARKED_PER_CALL = 1000
local now = now_ms()

local function promote_due(q)
  local bound = '(' .. due_score(now + 1, 0)
  local due = redis.call('ZRANGEBYSCORE', q .. 'delayed', '-inf', bound, 'LIMIT', 0, PROMOTED_MAX)
  for _, id in ipairs(due) do
    redis.call('ZREM', q .. 'delayed', id)
    if redis.call('EXISTS', q .. id .. ':lock') == 0 then -- else somebody runs it, and ends it
      redis.call('LREM', q .. 'active', 0, id)
    end
    if is_job(q, id) then
      push(q, id, priority_of(q, id), false)
      redis.call('HSET', q .. id, 'delay', 0)
    end
  end
  return #due
end

-- Bull's two phases: an id marked at one check that is still active and without a lock at the next has stalled.
local function return_stalled(q)
  local returned = {}
  if redis.call('SET', q .. 'stalled-check', decimal(now), 'NX', 'PX', stalled_interval_ms) == false then
    if redis.call('PTTL', q .. 'stalled-check') == -1 then -- a guard that never ends would end all checks
      redis.call('PEXPIRE', q .. 'stalled-check', stalled_interval_ms)
    end
    return returned
  end
  local marked = redis.call('SMEMBERS', q .. 'stalled')
  redis.call('DEL', q .. 'stalled')
  for _, id in ipairs(marked) do
    if redis.call('EXISTS', q .. id .. ':lock') == 0
      and redis.call('LREM', q .. 'active', 1, id) == 1
      and is_job(q, id) then
      redis.call('HSET', q .. id, 'stalledCounter', (tonumber(redis.call('HGET', q .. id, 'stalledCounter')) or 0) + 1)
      redis.call('RPUSH', target_of(q), id)
      redis.call('PUBLISH', q .. 'stalled@', id)
      returned[#returned + 1] = id
    end
  end
  local active = redis.call('LRANGE', q .. 'active', 0, -1)
  for first = 1, #active, MARKED_PER_CALL do
    redis.call('SADD', q .. 'stalled', unpack(active, first, math.min(first + MARKED_PER_CALL - 1, #active)))
  end
  return returned
end

local function next_due(q)
  local first = redis.call('ZRANGE', q .. 'delayed', 0, 0, 'WITHSCORES')
  return first[2] and math.floor(tonumber(first[2]) / 4096) or -1
end

local function sweep(q, ran)
  local broken = wrong_type(q, ALL_KEYS)
  if broken then
    error(broken, 0)
  end
  local promoted = promote_due(q)
  local returned = ran and return_stalled(q) or {}
  return {
    redis.call('LLEN', q .. 'wait'), redis.call('LLEN', q .. 'active'), redis.call('ZCARD', q .. 'delayed'),
    next_due(q), returned, promoted, redis.call('EXISTS', q .. 'meta-paused'), false,
  }
end

-- Out of memory the guard is refused; promoting and counting still work, so the answer must not be an error.
local taken = redis.pcall('SET', guard, decimal(now), 'NX', 'PX', guard_ms)
local ran = type(taken) == 'table' and taken.ok ~= nil

local reply = { ran and 1 or 0, redis.call('EXISTS', epoch), decimal(now) }
for i = 3, 2 + queue_count do
  local ok, result = pcall(sweep, KEYS[i], ran)
  if not ok then
    result = { 0, 0, 0, -1, {}, 0, 0, type(result) == 'table' and result.err or tostring(result) }
  end
  reply[#reply + 1] = result
end
return reply
