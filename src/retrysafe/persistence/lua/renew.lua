-- Moves lease and window of a record on, if it is INPROGRESS and still this owner's.
--
-- ARGV[1]: the claim with its new times, see common.lua. ARGV[2]: the owner. ARGV[3]: the attribute of the status.
-- Gives the time as a number if it is stored; else what stands.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local standing = redis.call('GET', KEYS[1])

-- common

local fields = standing and fields_of(standing) or {}
if fields.owner ~= ARGV[2] or fields[ARGV[3]] ~= 'INPROGRESS' then
  return told()
end
return store(true)
