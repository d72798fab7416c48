-- Stands before every other script: the server's clock, a record's fields, and the one way in which a record is stored.
--
-- KEYS[1] is the idempotency key. A record is one JSON text. Its times are the server's, so a script that stores one is
-- given the text in three parts, between which the times belong, and how much of window and lease is left:
-- ARGV[1] what stands before the window's end, ARGV[2] between it and the lease's end, ARGV[3] after that,
-- ARGV[4] milliseconds left of the window ('': it never ends), ARGV[5] milliseconds left of the lease ('': there is none).

local GRACE_MS = 1000

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function whole(number)
  return string.format('%.0f', math.floor(number))
end

-- The fields of a record; none for what is no record, so that it is nobody's.
local function fields_of(record)
  local readable, fields = pcall(cjson.decode, record)
  if readable and type(fields) == 'table' then
    return fields
  end
  return {}
end

-- Stores the record that the arguments tell of. A window is kept in whole seconds and counts until that second has
-- passed; the record outlasts window and lease, as it may be asked for until then.
--
-- What `must` be stored is stored though the memory is full: the outcome of work that is done, the lease of work that
-- runs. A script that has written may finish what it writes, however little memory there is, and a new time to live is a
-- write that takes none.
local function store(now, must)
  local window, last = 'null', nil
  if ARGV[4] ~= '' then
    local second = math.ceil((now + ARGV[4]) / 1000)
    window, last = whole(second), (second + 1) * 1000
  end
  local lease = ''
  if ARGV[5] ~= '' then
    local lease_end = now + ARGV[5]
    lease = whole(lease_end)
    if last and lease_end > last then
      last = lease_end
    end
  end
  local command = {'SET', KEYS[1], ARGV[1] .. window .. ARGV[2] .. lease .. ARGV[3]}
  if last then
    command[4], command[5] = 'PX', whole(last - now + GRACE_MS)
  end
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    if not (must and string.find(answer.err, 'OOM', 1, true)) then
      return answer
    end
    redis.call('PEXPIRE', KEYS[1], GRACE_MS)
    redis.call(unpack(command))
  end
  return now
end
