-- What did the call with this token do, whose reply was lost? Reads only.
--
-- KEYS queue
-- TOUCHES queue active wait paused delayed completed failed {job_id}
-- FINDS queue * *:lock
-- ARGV token job_id data_max
-- RETURNS {'claimed', id, name, opts, timestamp, attempts_made, stalled, data, lease_left_ms}
-- RETURNS {'settled', state} | {'nothing', state | false}
-- @include describe
-- @include holder
-- @include state
local q = KEYS[1]
local token = ARGV[1]
local job_id = ARGV[2]
local data_max = ARGV[3]

local id = held_by(q, token)
if id and redis.call('EXISTS', q .. id) == 1 then
  return describe(q, id, redis.call('PTTL', q .. id .. ':lock'), data_max)
end
if job_id == '' then
  return { 'nothing', false }
end
local state = state_of(q, job_id) or false
if state and redis.call('HGET', q .. job_id, 'poToken') == token then
  return { 'settled', state }
end
return { 'nothing', state }
