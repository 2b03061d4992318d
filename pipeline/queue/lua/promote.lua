-- Lets a delayed job run now.
--
-- KEYS queue
-- TOUCHES queue ALL_KEYS meta-paused {job_id} {job_id}:lock {job_id}:logs
-- ARGV job_id
-- RETURNS 1 | 0
-- @include types
-- @include push
-- @include options
local q = KEYS[1]
local job_id = ARGV[1]

local broken = wrong_type(q, ALL_KEYS) or wrong_job(q, job_id)
if broken then
  return redis.error_reply(broken)
end
if redis.call('ZREM', q .. 'delayed', job_id) == 0 or redis.call('EXISTS', q .. job_id) == 0 then
  return 0
end
push(q, job_id, priority_of(q, job_id), false)
redis.call('HSET', q .. job_id, 'delay', 0)
return 1
