-- Gives what stands under the key: the time, and on the next line the record, empty where there is none.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return string.format('%.0f\n', now) .. (redis.call('GET', KEYS[1]) or '')
