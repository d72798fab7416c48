-- Completes the record if it is still this owner's, and tells those who wait for it.
--
-- ARGV[1]: the outcome, see `store` in common.lua. ARGV[2]: the owner.
-- Gives the time as a number if it is stored; else what stands.

-- now
local standing = redis.call('GET', KEYS[1])

-- common

if fields_of(standing).owner ~= ARGV[2] then
  return told(standing)
end
local answer = store(KEYS[1], ARGV[1], true)
-- Not everybody may publish, and a waiter that is not told looks for itself.
redis.pcall('PUBLISH', 'retrysafe:' .. KEYS[1], 'COMPLETED')
return answer
