-- Settles a failed attempt that will be followed by another: into delayed, or straight back to waiting.
--
-- KEYS queue
-- ARGV job_id token reason stacktrace attempts_made delay_ms
-- RETURNS 'done' | 'lost' | 'gone'
-- @include settle
-- @include failure
-- @include push
-- @include postpone
local q = KEYS[1]
local job_id = ARGV[1]
local token = ARGV[2]
local reason = ARGV[3]
local stacktrace = ARGV[4]
local attempts_made = ARGV[5]
local delay_ms = tonumber(ARGV[6])

local broken = wrong_type(q, SETTLE_WRITES) or wrong_type(q, { 'wait', 'paused', 'delayed', 'priority' })
if broken then
  return redis.error_reply(broken)
end
local refused = settle(q, job_id, token)
if refused then
  return refused
end
write_failure(q, job_id, reason, stacktrace, attempts_made)
if delay_ms > 0 then
  postpone(q, job_id, delay_ms, tonumber(job_id) or 0)
else
  push(q, job_id, tonumber(redis.call('HGET', q .. job_id, 'priority') or 0), false)
end
return 'done'
