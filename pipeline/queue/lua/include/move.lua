-- Moves a whole list; in one step if nothing is there yet, else one by one behind what is.
local function move_behind(from, to)
  if redis.call('EXISTS', from) == 0 then
    return
  end
  if redis.call('EXISTS', to) == 0 then
    redis.call('RENAME', from, to)
    return
  end
  while redis.call('RPOPLPUSH', from, to) do end
end
