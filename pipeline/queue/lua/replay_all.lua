-- A person retries dead letters in bulk: the oldest first, behind what waits, as bull's retryJobs does. Unlike it this
-- tells whoever sleeps, and leaves alone what somebody still runs.
--
-- KEYS queue
-- TOUCHES queue ALL_KEYS meta-paused
-- FINDS queue * *:lock
-- ARGV count
-- RETURNS how_many
-- @include types
-- @include push
local q = KEYS[1]
local count = ARGV[1]

local broken = wrong_type(q, ALL_KEYS)
if broken then
  return redis.error_reply(broken)
end
local replayed = 0
for _, id in ipairs(redis.call('ZRANGE', q .. 'failed', 0, tonumber(count) - 1)) do
  if is_job(q, id) and redis.call('EXISTS', q .. id .. ':lock') == 0 then
    redis.call('ZREM', q .. 'failed', id)
    redis.call('HDEL', q .. id, 'finishedOn', 'processedOn', 'failedReason')
    push(q, id, 0, false) -- by hand, bull forgets priorities
    replayed = replayed + 1
  end
end
return replayed
