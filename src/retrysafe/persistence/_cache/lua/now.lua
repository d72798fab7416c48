-- The server's time in milliseconds since the epoch; put in where a script says `-- now`.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
