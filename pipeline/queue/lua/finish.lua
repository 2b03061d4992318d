-- Completes a job, enqueues its successor and claims the next job of the queue: one hop, one call.
-- Sent again after a lost reply it does nothing and answers as before, including what it had claimed.
-- A successor's queue that is broken does not keep the job from finishing: it is named instead.
--
-- KEYS queue [successor_queue]
-- ARGV job_id token returnvalue event keep_age_ms keep_count next_job_id next_name next_data next_opts next_timestamp next_delay_ms next_priority next_front claim_token claim_lease_ms limit_max limit_ms data_max
-- RETURNS {'done' | 'lost' | 'gone', 'created' | 'exists' | false, claim | false, broken | false}
-- @include settle
-- @include keep
-- @include add
-- @include take
-- @include holder
local q = KEYS[1]
local successor_q = KEYS[2]
local job_id = ARGV[1]
local token = ARGV[2]
local returnvalue = ARGV[3]
local event = ARGV[4]
local keep_age_ms = ARGV[5]
local keep_count = ARGV[6]
local next_job_id = ARGV[7]
local next_name = ARGV[8]
local next_data = ARGV[9]
local next_opts = ARGV[10]
local next_timestamp = ARGV[11]
local next_delay_ms = ARGV[12]
local next_priority = ARGV[13]
local next_front = ARGV[14]
local claim_token = ARGV[15]
local claim_lease_ms = ARGV[16]
local limit_max = ARGV[17]
local limit_ms = ARGV[18]
local data_max = ARGV[19]

local broken = unfit_to_settle(q, job_id, { 'completed' })
if broken then
  return redis.error_reply(broken)
end
local successor_broken = successor_q and unfit_to_add(successor_q, next_job_id)

local refused = settle(q, job_id, token)
if refused then
  local claimed = refused == 'done' and claim_token ~= '' and held_by(q, claim_token)
  if claimed then
    local left = redis.call('PTTL', q .. claimed .. ':lock')
    return { refused, false, describe(q, claimed, left, data_max), false }
  end
  return { refused, false, false, false }
end

redis.call('HSET', q .. job_id, 'returnvalue', returnvalue)
keep(q, 'completed', job_id, keep_age_ms, keep_count)
redis.call('PUBLISH', q .. 'completed', event)

local handed_on = false
if successor_q and not successor_broken then
  handed_on = add(successor_q, next_job_id, next_name, next_data, next_opts, next_timestamp, next_delay_ms,
    next_priority, next_front ~= '')[1]
end

local claim = false
if claim_token ~= '' and not wrong_type(q, ALL_KEYS) then
  claim = take(q, claim_token, claim_lease_ms, limit_max, limit_ms, data_max)
  if claim[1] == 'empty' then -- Bull says so after work, not at every empty look
    redis.call('PUBLISH', q .. 'drained', '')
  end
end
return { 'done', handed_on, claim, successor_broken or false }
