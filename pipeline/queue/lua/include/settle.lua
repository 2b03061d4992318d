-- @include types
-- Ends an attempt: the lock is checked in the same script as everything that follows. Returns nil if the caller
-- may go on, else its answer. The token stays in the job, so a settling call that is sent again after its reply
-- was lost answers 'done' without doing it twice.
-- The caller has asked `unfit_to_settle` before, naming the keys it goes on to write.
local function unfit_to_settle(q, id, suffixes)
  return wrong_type(q, { 'active', 'stalled' }) or wrong_type(q, suffixes) or wrong_job(q, id)
end

local function settle(q, id, token)
  local job = q .. id
  local exists = redis.call('EXISTS', job) == 1
  if redis.call('GET', job .. ':lock') ~= token then
    if not exists then
      return 'gone'
    end
    return redis.call('HGET', job, 'poToken') == token and 'done' or 'lost'
  end
  redis.call('DEL', job .. ':lock')
  redis.call('SREM', q .. 'stalled', id)
  local was_active = redis.call('LREM', q .. 'active', -1, id) == 1
  if not exists then
    return 'gone'
  end
  if not was_active then -- somebody moved it by hand; it is theirs
    return 'lost'
  end
  redis.call('HSET', job, 'poToken', token)
  return nil
end
