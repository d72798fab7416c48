-- Carries a script out for each of many keys: one command instead of many. Each stands for itself, whatever becomes of the
-- others.
--
-- ARGV: for each key the number of its arguments, then these.
-- Gives what the script gives for each key; for one that failed, a list with the error's text.

local function step(KEYS, ARGV)
-- step
end

local replies, place = {}, 1
for number = 1, #KEYS do
  local own, count = {}, tonumber(ARGV[place])
  for argument = 1, count do
    own[argument] = ARGV[place + argument]
  end
  place = place + count + 1
  local ran, reply = pcall(step, {KEYS[number]}, own)
  if not ran or type(reply) == 'table' then
    reply = {type(reply) == 'table' and reply.err or tostring(reply)}
  end
  replies[number] = reply
end
return replies
