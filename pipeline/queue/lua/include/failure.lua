-- @include options
-- Writes why an attempt failed. Traces are appended to earlier ones; as many of the last are kept as the job's
-- producer asked for, and never more than ten.
local TRACES_MAX = 10

local function traces(text)
  local ok, list = pcall(cjson.decode, text or '[]')
  return ok and type(list) == 'table' and list or {}
end

local function traces_max(q, id)
  local limit = tonumber(options_of(q, id).stackTraceLimit)
  return limit and limit > 0 and math.min(limit, TRACES_MAX) or TRACES_MAX
end

local function write_failure(q, id, reason, stacktrace, attempts_made)
  local all = traces(redis.call('HGET', q .. id, 'stacktrace'))
  for _, trace in ipairs(traces(stacktrace)) do
    all[#all + 1] = trace
  end
  local max = traces_max(q, id)
  while #all > max do
    table.remove(all, 1)
  end
  -- cjson writes an empty table as an object, which Bull's reader would refuse
  local text = #all > 0 and cjson.encode(all) or '[]'
  redis.call('HSET', q .. id, 'failedReason', reason, 'stacktrace', text, 'attemptsMade', attempts_made)
end
