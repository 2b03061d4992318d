-- Where a job is.
--
-- KEYS queue
-- TOUCHES queue active wait paused delayed completed failed {job_id}
-- ARGV job_id
-- RETURNS 'waiting' | 'active' | 'completed' | 'failed' | 'delayed' | 'paused' | 'stuck' | false
-- @include state
local q = KEYS[1]
local job_id = ARGV[1]

return state_of(q, job_id) or false
