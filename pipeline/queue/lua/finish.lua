-- Completes a job, enqueues its successor, claims the next job of the queue and of its successor's: one hop, one call.
-- Sent again after a lost reply it does nothing and answers as before, including what it had claimed.
-- A successor's queue that is broken does not keep the job from finishing: it is named instead.
--
-- KEYS queue [successor_queue]
-- TOUCHES queue ALL_KEYS meta-paused {job_id} {job_id}:lock {job_id}:logs
-- TOUCHES successor_queue ALL_KEYS meta-paused {next_job_id} {next_job_id}:lock {next_job_id}:logs
-- FINDS queue * *:lock *:logs de:*
-- FINDS successor_queue * *:lock de:*
-- ARGV job_id token returnvalue event keep_age_ms keep_count next_job_id next_name next_data next_opts next_timestamp next_delay_ms next_priority next_front claim_token claim_lease_ms limit_max limit_ms through_claim_token through_claim_lease_ms through_limit_max through_limit_ms data_max
-- RETURNS {'done' | 'lost' | 'gone', 'created' | 'exists' | false, claim | false, claim_through | false, broken | false}
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
local through_claim_token = ARGV[19]
local through_claim_lease_ms = ARGV[20]
local through_limit_max = ARGV[21]
local through_limit_ms = ARGV[22]
local data_max = ARGV[23]

-- What this call claimed when it was sent the first time.
local function claimed_before(in_q, by_token)
  local id = in_q and by_token ~= '' and held_by(in_q, by_token)
  return id and describe(in_q, id, redis.call('PTTL', in_q .. id .. ':lock'), data_max)
end

local broken = unfit_to_settle(q, job_id, { 'completed' })
if broken then
  return redis.error_reply(broken)
end
local has_successor = next_data ~= '' -- KEYS[2] is some other key of ours if it has none
local successor_broken = has_successor and unfit_to_add(successor_q, next_job_id)

local refused = settle(q, job_id, token)
if refused then -- whatever has become of the job since: what was claimed with it is held, and nobody else knows
  local claim, through = claimed_before(q, claim_token), claimed_before(successor_q, through_claim_token)
  return { refused, false, claim or false, through or false, false }
end

redis.call('HSET', q .. job_id, 'returnvalue', returnvalue)
keep(q, 'completed', job_id, keep_age_ms, keep_count)
redis.call('PUBLISH', q .. 'completed', event)

local handed_on, claim_through = false, false
if has_successor and not successor_broken then
  handed_on = add(successor_q, next_job_id, next_name, next_data, next_opts, next_timestamp, next_delay_ms,
    next_priority, next_front ~= '')[1]
  if through_claim_token ~= '' then
    claim_through = take(successor_q, through_claim_token, through_claim_lease_ms, through_limit_max,
      through_limit_ms, data_max)
  end
end

local claim = false
if claim_token ~= '' and not wrong_type(q, ALL_KEYS) then
  claim = take(q, claim_token, claim_lease_ms, limit_max, limit_ms, data_max)
  if claim[1] == 'empty' then -- Bull says so after work, not at every empty look
    redis.call('PUBLISH', q .. 'drained', '')
  end
end
return { 'done', handed_on, claim, claim_through, successor_broken or false }
