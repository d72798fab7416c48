-- Tries out what the other scripts run, on a key of its own.
--
-- ARGV: the commands.
-- Gives the names of those that the user may not run. That one may not touch this very key says nothing.

local arguments = {
  GET = {KEYS[1]},
  SET = {KEYS[1], '', 'PX', 1000},
  PEXPIRE = {KEYS[1], 1000},
  DEL = {KEYS[1]},
  TIME = {},
  PUBLISH = {'retrysafe:' .. KEYS[1], ''},
}

local function is_refused(answer)
  if type(answer) ~= 'table' or not answer.err then
    return false
  end
  local said = string.lower(answer.err)
  return string.find(said, "can't run this command", 1, true) or string.find(said, 'permissions to run', 1, true)
    or string.find(said, 'unknown', 1, true) or string.find(said, 'channel', 1, true)
end

local refused = {}
for _, name in ipairs(ARGV) do
  if is_refused(redis.pcall(name, unpack(arguments[name]))) then
    refused[#refused + 1] = name
  end
end
return refused
