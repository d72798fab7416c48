-- Gives what stands under the key: the time, and where there is a record, that on the next line.

-- now
local standing = redis.call('GET', KEYS[1])
return string.format('%.0f', now) .. (standing and '\n' .. standing or '')
