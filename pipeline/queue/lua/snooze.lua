-- Settles an attempt that must run later through no fault of the job: into delayed, nothing counted.
-- The reason becomes a row of the job's log, where Bull's own tools show it. An attempt that began nothing gives
-- the limiter its start back.
--
-- KEYS queue
-- TOUCHES queue active stalled delayed limiter {job_id} {job_id}:lock {job_id}:logs
-- ARGV job_id token delay_ms reason give_back_ms
-- RETURNS 'done' | 'lost' | 'gone'
-- @include settle
-- @include postpone
-- @include window
local q = KEYS[1]
local job_id = ARGV[1]
local token = ARGV[2]
local delay_ms = tonumber(ARGV[3])
local reason = ARGV[4]
local give_back_ms = ARGV[5]

local LOG_ROWS_MAX = 20

local broken = unfit_to_settle(q, job_id, { 'delayed', 'limiter' })
if broken then
  return redis.error_reply(broken)
end
local gives_back = give_back_ms ~= '' and counted_in_this_window(q, job_id, tonumber(give_back_ms))
local refused = settle(q, job_id, token)
if refused then
  return refused
end
if gives_back then
  redis.call('DECR', q .. 'limiter')
end
if reason ~= '' then
  redis.call('RPUSH', q .. job_id .. ':logs', reason)
  redis.call('LTRIM', q .. job_id .. ':logs', -LOG_ROWS_MAX, -1)
end
postpone(q, job_id, delay_ms, order_of(job_id))
return 'done'
