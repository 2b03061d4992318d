-- Removes a job wherever it is, unless somebody runs it.
--
-- KEYS queue
-- TOUCHES queue ALL_KEYS limiter:limited {job_id} {job_id}:lock {job_id}:logs
-- FINDS queue de:* limiter:*:limited
-- ARGV job_id
-- RETURNS 1 | 0
-- @include types
-- @include remove
-- @include forget
local q = KEYS[1]
local job_id = ARGV[1]

local broken = wrong_type(q, ALL_KEYS) or wrong_job(q, job_id)
if broken then
  return redis.error_reply(broken)
end
if redis.call('EXISTS', q .. job_id .. ':lock') == 1 or redis.call('EXISTS', q .. job_id) == 0 then
  return 0
end
free_debounce(q, job_id)
forget(q, job_id)
return 1
