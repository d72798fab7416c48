-- Moves lease and window of a record on, if it is INPROGRESS and still this owner's.
--
-- ARGV[6]: the owner. ARGV[7]: the attribute of the status.
-- Gives the time if it is stored; else what stands, and the time.

local now = now_ms()
local standing = redis.call('GET', KEYS[1])
if not standing then
  return {standing, now}
end
local fields = fields_of(standing)
if fields.owner ~= ARGV[6] or fields[ARGV[7]] ~= 'INPROGRESS' then
  return {standing, now}
end
return store(now, true)
