-- Which active job the token holds; nil if none. A lost reply is answered by this, never by claiming again.
local function held_by(q, token)
  for _, id in ipairs(redis.call('LRANGE', q .. 'active', 0, -1)) do
    if redis.pcall('GET', q .. id .. ':lock') == token then
      return id
    end
  end
  return nil
end
