-- Removes the record if it is INPROGRESS and still this owner's, and tells those who wait for it.
--
-- ARGV[1]: the owner. ARGV[2]: the attribute of the status.
-- Gives 1 if it is removed, else 0.

local standing = redis.call('GET', KEYS[1])
local readable, fields = pcall(cjson.decode, standing or '')
if not readable or type(fields) ~= 'table' or fields.owner ~= ARGV[1] or fields[ARGV[2]] ~= 'INPROGRESS' then
  return 0
end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', 'retrysafe:' .. KEYS[1], 'RELEASED')
return 1
