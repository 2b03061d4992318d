-- Settles a failed attempt that will be followed by another: into delayed, or straight back to waiting.
--
-- KEYS queue
-- TOUCHES queue active stalled wait paused delayed priority meta-paused {job_id} {job_id}:lock {job_id}:logs
-- ARGV job_id token reason stacktrace attempts_made delay_ms
-- RETURNS 'done' | 'lost' | 'gone'
-- @include settle
-- @include failure
-- @include push
-- @include options
-- @include postpone
local q = KEYS[1]
local job_id = ARGV[1]
local token = ARGV[2]
local reason = ARGV[3]
local stacktrace = ARGV[4]
local attempts_made = ARGV[5]
local delay_ms = tonumber(ARGV[6])

local broken = unfit_to_settle(q, job_id, { 'wait', 'paused', 'delayed', 'priority' })
if broken then
  return redis.error_reply(broken)
end
local refused = settle(q, job_id, token)
if refused then
  return refused
end
write_failure(q, job_id, reason, stacktrace, attempts_made)
if delay_ms > 0 then
  postpone(q, job_id, delay_ms, order_of(job_id))
else
  push(q, job_id, priority_of(q, job_id), is_lifo(q, job_id))
end
return 'done'
