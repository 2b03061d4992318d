-- Writes why an attempt failed. Traces are appended to earlier ones, the last ten are kept.
local TRACES_MAX = 10

local function traces(text)
  local ok, list = pcall(cjson.decode, text or '[]')
  return ok and type(list) == 'table' and list or {}
end

local function write_failure(q, id, reason, stacktrace, attempts_made)
  local all = traces(redis.call('HGET', q .. id, 'stacktrace'))
  for _, trace in ipairs(traces(stacktrace)) do
    all[#all + 1] = trace
  end
  while #all > TRACES_MAX do
    table.remove(all, 1)
  end
  -- cjson writes an empty table as an object, which Bull's reader would refuse
  local text = #all > 0 and cjson.encode(all) or '[]'
  redis.call('HSET', q .. id, 'failedReason', reason, 'stacktrace', text, 'attemptsMade', attempts_made)
end
