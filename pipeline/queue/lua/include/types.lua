-- Redis does not undo what a failing script has written, so every script asks for the types it relies on first.
local KINDS = {
  ['wait'] = 'list', ['paused'] = 'list', ['active'] = 'list',
  ['delayed'] = 'zset', ['priority'] = 'zset', ['completed'] = 'zset', ['failed'] = 'zset',
  ['stalled'] = 'set', ['meta'] = 'hash', ['id'] = 'string', ['limiter'] = 'string',
}

local function wrong_type(q, suffixes)
  for _, suffix in ipairs(suffixes) do
    local found = redis.call('TYPE', q .. suffix).ok
    if found ~= 'none' and found ~= KINDS[suffix] then
      return 'WRONGTYPE ' .. q .. suffix .. ' is a ' .. found .. ' where Bull keeps a ' .. KINDS[suffix]
    end
  end
  return nil
end
