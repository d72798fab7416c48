-- Carries a script out for each of many keys: one command instead of many. Each stands for itself, whatever becomes of the
-- others.
--
-- ARGV: how many arguments each key has, then these.
-- Gives what the script gives for each key; for one that failed, a list with the error's text. Where it is the same number
-- for all of them, that number.

-- shared

local function step(KEYS, ARGV)
-- step
end

local key, own = {}, {}
local count = tonumber(ARGV[1])
local replies, are_same = {}, true
for number = 1, #KEYS do
  key[1] = KEYS[number]
  local before = 1 + (number - 1) * count
  for argument = 1, count do
    own[argument] = ARGV[before + argument]
  end
  local ran, reply = pcall(step, key, own)
  if not ran or type(reply) == 'table' then
    reply = {type(reply) == 'table' and reply.err or tostring(reply)}
  end
  replies[number] = reply
  are_same = are_same and type(reply) == 'number' and reply == replies[1]
end
return are_same and replies[1] or replies
