-- Redis does not undo what a failing script has written, so every script asks for the types it relies on first.
-- A queue with any wrong key is quarantined: nothing is claimed from it or put into it. What runs may still be
-- settled, if the keys that takes are sound.
local ALL_KEYS = {
  'wait', 'paused', 'active', 'delayed', 'priority', 'completed', 'failed', 'stalled', 'meta', 'id', 'limiter',
  'limiter:index', 'repeat',
}
local KINDS = {
  ['wait'] = 'list', ['paused'] = 'list', ['active'] = 'list',
  ['delayed'] = 'zset', ['priority'] = 'zset', ['completed'] = 'zset', ['failed'] = 'zset',
  ['stalled'] = 'set', ['meta'] = 'hash', ['id'] = 'string', ['limiter'] = 'string', ['limiter:index'] = 'hash',
  ['repeat'] = 'zset',
}
local JOB_KEYS = { '', ':lock', ':logs' }
local JOB_KINDS = { [''] = 'hash', [':lock'] = 'string', [':logs'] = 'list' }

local function wrong_kind(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then
    return 'WRONGTYPE ' .. key .. ' is a ' .. found .. ' where Bull keeps a ' .. kind
  end
  return nil
end

local function wrong_counter(q, suffix)
  local text = (suffix == 'id' or suffix == 'limiter') and redis.call('GET', q .. suffix) or '0'
  return #text > 18 or not string.match(text, '^-?%d+$')
end

local function wrong_type(q, suffixes)
  for _, suffix in ipairs(suffixes) do
    local wrong = wrong_kind(q .. suffix, KINDS[suffix])
    if wrong then
      return wrong
    end
    if wrong_counter(q, suffix) then
      return 'WRONGTYPE ' .. q .. suffix .. ' is a text where Bull keeps a number'
    end
  end
  return nil
end

-- The same for what belongs to one job.
local function wrong_job(q, id)
  for _, suffix in ipairs(JOB_KEYS) do
    local wrong = wrong_kind(q .. id .. suffix, JOB_KINDS[suffix])
    if wrong then
      return wrong
    end
  end
  return nil
end

local function is_job(q, id)
  return redis.call('TYPE', q .. id).ok == 'hash'
end
