-- A page of jobs in one state, newest first, with their fields. Entries without a job are left out.
--
-- KEYS queue
-- TOUCHES queue {suffix}
-- FINDS queue *
-- ARGV suffix start stop
-- RETURNS {{id, {field, value, ..}}, ..}
local q = KEYS[1]
local suffix = ARGV[1]
local start = ARGV[2]
local stop = ARGV[3]

local is_list = suffix == 'wait' or suffix == 'active' or suffix == 'paused'
local jobs = {}
for _, id in ipairs(redis.call(is_list and 'LRANGE' or 'ZREVRANGE', q .. suffix, start, stop)) do
  local fields = redis.pcall('HGETALL', q .. id)
  if not fields.err and #fields > 0 then
    jobs[#jobs + 1] = { id, fields }
  end
end
return jobs
