-- Where a job is, in the words Bull's getState uses and asked in its order; nil if there is no such job.
local LISTS = { { 'active', 'active' }, { 'wait', 'waiting' }, { 'paused', 'paused' } }

local function state_of(q, id)
  for _, set in ipairs({ 'completed', 'failed', 'delayed' }) do
    if redis.call('ZSCORE', q .. set, id) then
      return set
    end
  end
  for _, list in ipairs(LISTS) do
    if redis.call('LPOS', q .. list[1], id) then
      return list[2]
    end
  end
  return redis.call('EXISTS', q .. id) == 1 and 'stuck' or nil
end
