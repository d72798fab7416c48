-- What the scripts share; put in where one says `-- common`. There, KEYS[1] is the idempotency key, `now` is the server's
-- time in milliseconds since the epoch, and `standing` is the record under the key, or false.

-- A record to store is one JSON text whose times are the server's, so it comes as five lines in ARGV[1]: milliseconds left
-- of the window (empty: it never ends), milliseconds left of the lease (empty: there is none), and the text before the
-- window's end, between it and the lease's end, and behind that.
local FIVE_LINES = 5

-- A record outlasts window and lease, as it may be asked for until then.
local GRACE_MS = 1000

local function whole(number)
  return string.format('%.0f', math.floor(number))
end

-- The reply that tells what stands: the time, and where there is a record, that on the next line.
local function told()
  return whole(now) .. (standing and '\n' .. standing or '')
end

-- The fields of a record; none for what is no record, so that it is nobody's.
local function fields_of(record)
  local readable, fields = pcall(cjson.decode, record)
  if readable and type(fields) == 'table' then
    return fields
  end
  return {}
end

local function lines_of(text)
  local lines, start = {}, 1
  for number = 1, FIVE_LINES - 1 do
    local stop = string.find(text, '\n', start, true)
    lines[number] = string.sub(text, start, stop - 1)
    start = stop + 1
  end
  lines[FIVE_LINES] = string.sub(text, start)
  return unpack(lines)
end

-- Stores the record of ARGV[1]. A window is kept in whole seconds and counts until that second has passed.
--
-- What `must` be stored is stored though the memory is full: the outcome of work that is done, the lease of work that
-- runs. A script that has written may finish what it writes, however little memory there is, and a new time to live is a
-- write that takes none.
local function store(must)
  local window_left, lease_left, before, between, after = lines_of(ARGV[1])
  local window, last = 'null', nil
  if window_left ~= '' then
    local second = math.ceil((now + window_left) / 1000)
    window, last = whole(second), (second + 1) * 1000
  end
  local lease = ''
  if lease_left ~= '' then
    local lease_end = now + lease_left
    lease = whole(lease_end)
    if last and lease_end > last then
      last = lease_end
    end
  end
  local command = {'SET', KEYS[1], before .. window .. between .. lease .. after}
  if last then
    command[4], command[5] = 'PX', whole(last - now + GRACE_MS)
  end
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    if not (must and string.find(answer.err, 'OOM', 1, true)) then
      return answer
    end
    redis.call('PEXPIRE', KEYS[1], command[5] or GRACE_MS)
    redis.call(unpack(command))
  end
  return now
end
