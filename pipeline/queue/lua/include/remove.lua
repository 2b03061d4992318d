-- Deletes what belongs to one job alone; the caller takes it out of its list or set.
local function delete_job(q, id)
  redis.call('DEL', q .. id, q .. id .. ':logs')
end

-- A removed job debounces nobody: the next one of its kind would give way to one that is not there. What has
-- passed to a later job meanwhile is that job's; Bull deletes it all the same.
local function free_debounce(q, id)
  local key = redis.call('HGET', q .. id, 'deid')
  if key and redis.pcall('GET', q .. 'de:' .. key) == id then
    redis.call('DEL', q .. 'de:' .. key)
  end
end

-- A debounce key without an end lives until its job has ended.
local function end_debounce(q, id)
  local key = redis.call('HGET', q .. id, 'deid')
  if key and redis.call('PTTL', q .. 'de:' .. key) == -1 then
    redis.call('DEL', q .. 'de:' .. key)
  end
end
