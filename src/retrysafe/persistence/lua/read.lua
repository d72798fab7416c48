-- Gives what stands under the key, and the time.

return {redis.call('GET', KEYS[1]), now_ms()}
