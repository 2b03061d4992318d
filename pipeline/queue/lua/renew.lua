-- Extends all leases of a process. PEXPIRE, because SET is refused when Redis is out of memory.
-- Returns the tokens whose lock is not theirs. A key that cannot be read says nothing about the lease, and a job
-- that was settled with the token has not lost it: its holder is about to hear so.
--
-- KEYS queue...
-- TOUCHES queue stalled {job_id} {job_id}:lock
-- ARGV lease_ms [job_id token]...
-- RETURNS {lost_token, ..}
local lease_ms = ARGV[1]

local lost = {}
for i = 1, (#ARGV - 1) / 2 do
  local q = KEYS[i]
  local job_id = ARGV[2 * i]
  local token = ARGV[2 * i + 1]
  local holder = redis.pcall('GET', q .. job_id .. ':lock')
  if holder == token then
    redis.call('PEXPIRE', q .. job_id .. ':lock', lease_ms)
    redis.pcall('SREM', q .. 'stalled', job_id)
  elseif type(holder) ~= 'table' and redis.pcall('HGET', q .. job_id, 'poToken') ~= token then
    lost[#lost + 1] = token
  end
end
return lost
