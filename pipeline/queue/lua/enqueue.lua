-- Puts a job into waiting or delayed, once per id.
--
-- KEYS queue
-- TOUCHES queue ALL_KEYS meta-paused {job_id} {job_id}:lock {job_id}:logs
-- FINDS queue * de:*
-- ARGV job_id name data opts timestamp delay_ms priority front
-- RETURNS {'created', id, false} | {'exists', id, state}
-- @include add
local q = KEYS[1]
local job_id = ARGV[1]
local name = ARGV[2]
local data = ARGV[3]
local opts = ARGV[4]
local timestamp = ARGV[5]
local delay_ms = ARGV[6]
local priority = ARGV[7]
local front = ARGV[8]

local broken = unfit_to_add(q, job_id)
if broken then
  return redis.error_reply(broken)
end
return add(q, job_id, name, data, opts, timestamp, delay_ms, priority, front ~= '')
