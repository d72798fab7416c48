-- Gives what stands under the key: the time, and where there is a record, that on the next line.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local standing = redis.call('GET', KEYS[1])
return string.format('%.0f', now) .. (standing and '\n' .. standing or '')
