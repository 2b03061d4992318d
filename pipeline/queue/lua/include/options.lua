-- What the job's producer asked for. Other hands write jobs too: unreadable options count as none.
local function options_of(q, id)
  local ok, opts = pcall(cjson.decode, redis.call('HGET', q .. id, 'opts') or '{}')
  return ok and type(opts) == 'table' and opts or {}
end

-- Last in, first out: 'a value JavaScript takes for true', also when the job is retried at once or by hand.
local function is_lifo(q, id)
  local lifo = options_of(q, id).lifo
  return lifo ~= nil and lifo ~= false and lifo ~= 0 and lifo ~= '' and lifo ~= cjson.null
end

-- Its priority; 0, which is none, for what is no number.
local function priority_of(q, id)
  local priority = tonumber(redis.call('HGET', q .. id, 'priority') or 0) or 0
  return priority == priority and priority or 0 -- "nan" is a number to tonumber, and to nobody else
end
