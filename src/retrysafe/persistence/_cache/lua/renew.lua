-- Moves lease and window of a record on, if it is INPROGRESS and still this owner's.
--
-- ARGV[1]: the claim with its new times, see `store` in common.lua. ARGV[2]: the owner. ARGV[3]: the attribute of the status.
-- Gives the time as a number if it is stored; else what stands.

-- now
local standing = redis.call('GET', KEYS[1])

-- common

local fields = fields_of(standing)
if fields.owner ~= ARGV[2] or fields[ARGV[3]] ~= 'INPROGRESS' then
  return told(standing)
end
return store(KEYS[1], ARGV[1], true)
