-- Removes all jobs of a queue, at most `count` a call, and at last the queue's own keys. Keys of a wrong type go as
-- well: this is how a broken queue is mended. Forced, it takes what runs too and asks for no pause.
--
-- KEYS queue
-- TOUCHES queue ALL_KEYS OWN
-- FINDS queue * *:lock *:logs de:*
-- ARGV count force
-- RETURNS 'done' | 'more' | 'active' | 'not paused'
-- @include types
-- @include remove
local q = KEYS[1]
local count = tonumber(ARGV[1])
local force = ARGV[2]

local STATES = { 'active', 'wait', 'paused', 'delayed', 'completed', 'failed' }
local OWN = {
  'priority', 'stalled-check', 'stalled', 'meta-paused', 'meta', 'id', 'repeat',
  'metrics:completed', 'metrics:completed:data', 'metrics:failed', 'metrics:failed:data',
}

local function remove_jobs(suffix, max)
  local key, is_list = q .. suffix, KINDS[suffix] == 'list'
  local ids = redis.call(is_list and 'LRANGE' or 'ZRANGE', key, 0, max - 1)
  for _, id in ipairs(ids) do
    if is_job(q, id) then
      free_debounce(q, id)
    end
    delete_job(q, id)
    redis.call('DEL', q .. id .. ':lock')
  end
  if is_list then
    redis.call('LTRIM', key, #ids, -1)
  elseif #ids > 0 then
    redis.call('ZREM', key, unpack(ids))
  end
  return #ids
end

if force == '' then
  local broken = wrong_type(q, ALL_KEYS)
  if broken then
    return redis.error_reply(broken)
  elseif redis.call('EXISTS', q .. 'meta-paused') == 0 then
    return 'not paused'
  elseif redis.call('EXISTS', q .. 'active') == 1 then
    return 'active'
  end
end
for _, suffix in ipairs(STATES) do
  if wrong_type(q, { suffix }) then
    redis.call('DEL', q .. suffix)
  end
  count = count - remove_jobs(suffix, count)
  if count <= 0 then
    return 'more'
  end
end
for _, suffix in ipairs(OWN) do
  redis.call('DEL', q .. suffix)
end
for _, suffix in ipairs(ALL_KEYS) do
  if wrong_type(q, { suffix }) then
    redis.call('DEL', q .. suffix)
  end
end
return 'done'
