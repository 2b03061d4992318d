-- Settles a job as a dead letter: in failed, waiting for a person.
--
-- KEYS queue
-- TOUCHES queue active stalled failed {job_id} {job_id}:lock {job_id}:logs
-- FINDS queue * *:logs de:*
-- ARGV job_id token reason stacktrace attempts_made event keep_age_ms keep_count
-- RETURNS 'done' | 'lost' | 'gone'
-- @include settle
-- @include failure
-- @include keep
local q = KEYS[1]
local job_id = ARGV[1]
local token = ARGV[2]
local reason = ARGV[3]
local stacktrace = ARGV[4]
local attempts_made = ARGV[5]
local event = ARGV[6]
local keep_age_ms = ARGV[7]
local keep_count = ARGV[8]

local broken = unfit_to_settle(q, job_id, { 'failed' })
if broken then
  return redis.error_reply(broken)
end
local refused = settle(q, job_id, token)
if refused then
  return refused
end
write_failure(q, job_id, reason, stacktrace, attempts_made)
keep(q, 'failed', job_id, keep_age_ms, keep_count)
redis.call('PUBLISH', q .. 'failed', event)
return 'done'
