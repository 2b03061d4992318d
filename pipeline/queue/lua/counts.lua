-- How many jobs are in each state, at one instant.
--
-- KEYS queue
-- TOUCHES queue wait active completed failed delayed paused
-- ARGV
-- RETURNS {waiting, active, completed, failed, delayed, paused}
local q = KEYS[1]

return {
  redis.call('LLEN', q .. 'wait'), redis.call('LLEN', q .. 'active'), redis.call('ZCARD', q .. 'completed'),
  redis.call('ZCARD', q .. 'failed'), redis.call('ZCARD', q .. 'delayed'), redis.call('LLEN', q .. 'paused'),
}
