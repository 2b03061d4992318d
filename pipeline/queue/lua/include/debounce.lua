-- Bull's debounce: for a time, or until its job has ended, one job stands for all of its kind.
local function debounce_of(opts)
  if not string.find(opts, '"debounce"', 1, true) then
    return nil
  end
  local asked = cjson.decode(opts).debounce
  return type(asked) == 'table' and asked.id ~= nil and asked or nil
end

-- Takes the place for this job; returns the id of the one that has it already.
local function stands_for(q, id, debounce)
  local key, ttl = q .. 'de:' .. debounce.id, tonumber(debounce.ttl)
  if ttl and redis.call('SET', key, id, 'PX', ttl, 'NX') or not ttl and redis.call('SET', key, id, 'NX') then
    return nil
  end
  local other = redis.pcall('GET', key)
  if type(other) ~= 'string' then -- nobody can say whose place it is
    return nil
  end
  redis.call('PUBLISH', q .. 'debounced@po', other)
  return other
end
