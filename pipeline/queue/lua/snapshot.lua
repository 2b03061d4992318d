-- One queue as it stands at one instant: its keys, a page of its places, and the jobs in them or named. Reads only.
-- Bounded: `page_max` entries of each place, from `start` on, those that run or end next first; of long values
-- only that they are there. The state is told of jobs that are on no place's page.
--
-- KEYS queue
-- TOUCHES queue ALL_KEYS meta-paused stalled-check repeat
-- FINDS queue * *:lock *:logs
-- ARGV start page_max value_max [job_id]...
-- RETURNS {now_ms, paused, meta_paused, counter, limiter_left_ms, {{suffix, type, size, {id, score, ..}}, ..}, {{id, type, {field, value, ..}, {long_field, ..}, lock_type, lock_left_ms, logs_type, state}, ..}}
-- @include types
-- @include time
-- @include state
local q = KEYS[1]
local start = tonumber(ARGV[1])
local page_max = tonumber(ARGV[2])
local value_max = tonumber(ARGV[3])

local FIRST_JOB = 4
local PLACES = { 'wait', 'paused', 'active', 'delayed', 'completed', 'failed', 'priority' }
local OTHERS = { 'stalled', 'meta', 'id', 'limiter', 'limiter:index', 'meta-paused', 'stalled-check', 'repeat' }
local FIELDS = {
  'name', 'data', 'opts', 'timestamp', 'delay', 'priority', 'processedOn', 'attemptsMade', 'stacktrace',
  'failedReason', 'returnvalue', 'finishedOn', 'progress', 'retriedOn', 'stalledCounter', 'id',
}

local function type_of(key)
  return redis.call('TYPE', key).ok
end

-- Of a list its right end, which runs next, as pairs with an empty score; of a set its lowest scores.
local function page(suffix, kind)
  if kind == 'list' then
    local pairs_ = {}
    for _, id in ipairs(redis.call('LRANGE', q .. suffix, -(start + page_max), -(start + 1))) do
      pairs_[#pairs_ + 1] = id
      pairs_[#pairs_ + 1] = ''
    end
    return redis.call('LLEN', q .. suffix), pairs_
  elseif kind == 'zset' then
    local pairs_ = redis.call('ZRANGE', q .. suffix, start, start + page_max - 1, 'WITHSCORES')
    return redis.call('ZCARD', q .. suffix), pairs_
  end
  return 0, {}
end

local function fields_of(id)
  local short, long = {}, {}
  for _, field in ipairs(FIELDS) do
    if redis.call('HSTRLEN', q .. id, field) > value_max then
      long[#long + 1] = field
    else
      local value = redis.call('HGET', q .. id, field)
      if value then
        short[#short + 1] = field
        short[#short + 1] = value
      end
    end
  end
  return short, long
end

local keys, ids, known, off_page = {}, {}, {}, {}
local function remember(id)
  if known[id] then
    return
  end
  known[id] = true
  ids[#ids + 1] = id
end

local broken = false
for _, suffix in ipairs(PLACES) do
  local kind = type_of(q .. suffix)
  broken = broken or (kind ~= 'none' and kind ~= KINDS[suffix])
  local size, entries = page(suffix, kind)
  keys[#keys + 1] = { suffix, kind, size, entries }
  for i = 1, #entries, 2 do
    remember(entries[i])
  end
end
for _, suffix in ipairs(OTHERS) do
  keys[#keys + 1] = { suffix, type_of(q .. suffix), 0, {} }
end
for i = FIRST_JOB, #ARGV do
  off_page[ARGV[i]] = not known[ARGV[i]]
  remember(ARGV[i])
end

local jobs = {}
for _, id in ipairs(ids) do
  local kind = type_of(q .. id)
  local short, long = {}, {}
  if kind == 'hash' then
    short, long = fields_of(id)
  end
  jobs[#jobs + 1] = {
    id, kind, short, long, type_of(q .. id .. ':lock'), redis.call('PTTL', q .. id .. ':lock'),
    type_of(q .. id .. ':logs'), off_page[id] and not broken and state_of(q, id) or false,
  }
end

local counter = redis.pcall('GET', q .. 'id')
local meta_paused = redis.pcall('HGET', q .. 'meta', 'paused')
return {
  decimal(now_ms()), redis.call('EXISTS', q .. 'meta-paused'), type(meta_paused) == 'string' and 1 or 0,
  type(counter) == 'string' and counter or false, redis.call('PTTL', q .. 'limiter'), keys, jobs,
}
