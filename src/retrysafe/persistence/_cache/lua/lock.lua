-- Takes the lock that Powertools workers take before they overwrite a record whose time is over, and leaves it to its time,
-- for those of them that have seen that record already. Ours hinders none of us: a claim of ours compares what it replaces.
--
-- ARGV[1]: what stands in it. ARGV[2]: for how long, in milliseconds.
-- Gives 1 if it is ours, 0 if a Powertools worker holds it.

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
