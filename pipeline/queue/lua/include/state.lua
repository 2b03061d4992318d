-- Where a job is, in the words Bull's getState uses; nil if there is no such job.
local function state_of(q, id)
  for _, set in ipairs({ 'completed', 'failed', 'delayed' }) do
    if redis.call('ZSCORE', q .. set, id) then
      return set
    end
  end
  for suffix, word in pairs({ active = 'active', wait = 'waiting', paused = 'paused' }) do
    if redis.call('LPOS', q .. suffix, id) then
      return word
    end
  end
  return redis.call('EXISTS', q .. id) == 1 and 'stuck' or nil
end
