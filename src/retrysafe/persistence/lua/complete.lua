-- Completes the record if it is still this owner's, and tells those who wait for it.
--
-- ARGV[6]: the owner.
-- Gives the time if it is stored; else what stands, and the time.

local now = now_ms()
local standing = redis.call('GET', KEYS[1])
if not standing or fields_of(standing).owner ~= ARGV[6] then
  return {standing, now}
end
local answer = store(now, true)
-- Not everybody may publish, and a waiter that is not told looks for itself.
redis.pcall('PUBLISH', 'retrysafe:' .. KEYS[1], 'COMPLETED')
return answer
