-- A person retries a dead letter: back to waiting, what it says about its end removed. Unlike Bull's
-- reprocessJob it looks before it writes, so a completed job keeps its timestamps.
--
-- KEYS queue
-- TOUCHES queue ALL_KEYS meta-paused {job_id} {job_id}:lock {job_id}:logs
-- ARGV job_id
-- RETURNS 1 | 0
-- @include types
-- @include time
-- @include push
-- @include options
local q = KEYS[1]
local job_id = ARGV[1]

local broken = wrong_type(q, ALL_KEYS) or wrong_job(q, job_id)
if broken then
  return redis.error_reply(broken)
end
local job = q .. job_id
if redis.call('EXISTS', job) == 0 or redis.call('EXISTS', job .. ':lock') == 1
  or redis.call('ZREM', q .. 'failed', job_id) == 0 then
  return 0
end
redis.call('HDEL', job, 'finishedOn', 'processedOn', 'failedReason')
redis.call('HSET', job, 'retriedOn', decimal(now_ms()))
push(q, job_id, 0, is_lifo(q, job_id)) -- by hand, bull forgets priorities
return 1
