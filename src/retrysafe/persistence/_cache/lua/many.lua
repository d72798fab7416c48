-- Carries a script out for each of many keys: one command instead of many. Each stands for itself, whatever becomes of the
-- others.
--
-- ARGV: how many arguments each key has, how many lines the first of them has (the others have one), and the lines of all.
-- Gives what the script gives for each key; for one that failed, a list with the error's text. Where it is the same number
-- for all of them, that number.

-- shared

local function step(KEYS, ARGV)
-- step
end

local key, own = {}, {}
local arguments, lines, text = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local replies, are_same, start = {}, true, 1
for number = 1, #KEYS do
  key[1] = KEYS[number]
  for argument = 1, arguments do
    local stop = start
    for _ = 1, argument == 1 and lines or 1 do
      stop = find(text, '\n', stop, true) + 1
    end
    own[argument] = sub(text, start, stop - 2)
    start = stop
  end
  local ran, reply = pcall(step, key, own)
  if not ran or type(reply) == 'table' then
    reply = {type(reply) == 'table' and reply.err or tostring(reply)}
  end
  replies[number] = reply
  are_same = are_same and type(reply) == 'number' and reply == replies[1]
end
return are_same and replies[1] or replies
