-- Hands a job back unrun: to where it will be claimed next, attempts and stalls unchanged.
--
-- KEYS queue
-- TOUCHES queue active stalled wait paused meta-paused {job_id} {job_id}:lock {job_id}:logs
-- ARGV job_id token
-- RETURNS 'done' | 'lost' | 'gone'
-- @include settle
-- @include push
local q = KEYS[1]
local job_id = ARGV[1]
local token = ARGV[2]

local broken = unfit_to_settle(q, job_id, { 'wait', 'paused' })
if broken then
  return redis.error_reply(broken)
end
local refused = settle(q, job_id, token)
if refused then
  return refused
end
push(q, job_id, 0, true)
return 'done'
