-- Which of these calls may our user not make? Asks the server and makes none of them.
-- Servers before Redis 7 cannot say, and answer false. One that does not know a command denies it.
--
-- KEYS
-- ARGV calls
-- RETURNS {place_of_a_denied_call, ..} | false
local calls = ARGV[1]

if not redis.acl_check_cmd then
  return false
end
local denied = {}
for place, call in ipairs(cjson.decode(calls)) do
  local known, allowed = pcall(redis.acl_check_cmd, unpack(call))
  if not (known and allowed) then
    denied[#denied + 1] = place
  end
end
return denied
