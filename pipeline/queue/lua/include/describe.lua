-- What a holder needs to know of its job. Long data stays behind: it would hold up everyone else's replies.
local function describe(q, id, lease_left_ms, data_max)
  local job = q .. id
  local fields = redis.call('HMGET', job, 'name', 'opts', 'timestamp', 'attemptsMade', 'stalledCounter')
  local long = redis.call('HSTRLEN', job, 'data') > tonumber(data_max)
  local data = not long and (redis.call('HGET', job, 'data') or '{}')
  return { 'claimed', id, fields[1], fields[2], fields[3], fields[4], fields[5], data, tonumber(lease_left_ms) }
end
