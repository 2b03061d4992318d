-- Deletes what belongs to one job alone; the caller takes it out of its list or set.
local function delete_job(q, id)
  redis.call('DEL', q .. id, q .. id .. ':logs')
end

-- A debounce key without an end lives as long as its job.
local function end_debounce(q, id)
  local key = redis.call('HGET', q .. id, 'deid')
  if key and redis.call('PTTL', q .. 'de:' .. key) == -1 then
    redis.call('DEL', q .. 'de:' .. key)
  end
end
