-- Schedules the next run of a repeatable job: its moment and its job in one step, unless the schedule was removed.
-- Bull does it in three calls; a crash between them leaves a schedule without a job, which is over.
--
-- KEYS queue
-- TOUCHES queue ALL_KEYS {job_id} {job_id}:lock {job_id}:logs {next_job_id} {next_job_id}:lock {next_job_id}:logs
-- ARGV job_id name schedule next_job_id next_ms opts timestamp delay_ms
-- RETURNS 'created' | 'exists' | 'removed'
-- @include add
-- @include options
local q = KEYS[1]
local job_id = ARGV[1]
local name = ARGV[2]
local schedule = ARGV[3]
local next_job_id = ARGV[4]
local next_ms = ARGV[5]
local opts = ARGV[6]
local timestamp = ARGV[7]
local delay_ms = ARGV[8]

local broken = unfit_to_add(q, next_job_id) or wrong_job(q, job_id)
if broken then
  return redis.error_reply(broken)
end
local data = redis.call('HGET', q .. job_id, 'data')
if not data or not redis.call('ZSCORE', q .. 'repeat', schedule) then
  return 'removed'
end
redis.call('ZADD', q .. 'repeat', next_ms, schedule)
return add(q, next_job_id, name, data, opts, timestamp, delay_ms, priority_of(q, job_id), is_lifo(q, job_id),
  tonumber(next_ms))[1]
