-- Writes how far a job is, where Bull's readers look for it.
--
-- KEYS queue
-- TOUCHES queue {job_id}
-- ARGV job_id progress event
-- RETURNS 1 | 0
local q = KEYS[1]
local job_id = ARGV[1]
local progress = ARGV[2]
local event = ARGV[3]

if redis.call('EXISTS', q .. job_id) == 0 then
  return 0
end
redis.call('HSET', q .. job_id, 'progress', progress)
redis.call('PUBLISH', q .. 'progress', event)
return 1
