-- @include types
-- @include push
-- @include postpone
-- @include state
-- @include debounce
-- Bull's addJob, idempotent by id. Returns 'created' or 'exists', the id, and the state it was found in.
-- A delayed job is due that long from now by Redis' clock, or, if it is a run of a schedule, at its moment; such a one
-- is not debounced: the run before it stands for nobody but itself.
-- The caller has asked `unfit_to_add` before its first write.
local function unfit_to_add(q, id)
  return wrong_type(q, ALL_KEYS) or (id ~= '' and wrong_job(q, id)) or nil
end

local function add(q, id, name, data, opts, timestamp, delay_ms, priority, front, due_ms)
  local number = redis.call('INCR', q .. 'id')
  if id ~= '' and redis.call('EXISTS', q .. id) == 1 then
    redis.call('PUBLISH', q .. 'duplicated@po', id)
    return { 'exists', id, state_of(q, id) or 'stuck' }
  end
  -- Unlike Bull: a numeric custom id of someone else is stepped over, not overwritten.
  while id == '' do
    if redis.call('EXISTS', q .. number) == 0 then
      id = decimal(number)
    else
      number = redis.call('INCR', q .. 'id')
    end
  end
  local debounce = not due_ms and debounce_of(opts)
  local other = debounce and stands_for(q, id, debounce)
  if other then
    return { 'exists', other, state_of(q, other) or 'stuck' }
  end
  redis.call('HSET', q .. id, 'name', name, 'data', data, 'opts', opts,
    'timestamp', timestamp, 'delay', delay_ms, 'priority', priority)
  if debounce then
    redis.call('HSET', q .. id, 'deid', debounce.id)
  end
  if tonumber(delay_ms) > 0 then
    postpone_until(q, id, due_ms or now_ms() + tonumber(delay_ms), number)
  else
    push(q, id, tonumber(priority), front)
  end
  return { 'created', id, false }
end
