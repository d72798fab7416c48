-- Removes the record if it is INPROGRESS and still this owner's, and tells those who wait for it.
--
-- ARGV[1]: the owner. ARGV[2]: the attribute of the status.
-- Gives 1 if it is removed, else 0.

local standing = redis.call('GET', KEYS[1])
if not standing then
  return 0
end
local fields = fields_of(standing)
if fields.owner ~= ARGV[1] or fields[ARGV[2]] ~= 'INPROGRESS' then
  return 0
end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', 'retrysafe:' .. KEYS[1], 'RELEASED')
return 1
