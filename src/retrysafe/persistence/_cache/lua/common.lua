-- What the scripts share; put in where one says `-- common`, after `-- now`.

local find, sub = string.find, string.sub

-- A record outlasts window and lease, as it may be asked for until then.
local GRACE_MS = 1000

-- The text of a whole number. Of many records most times come again, and making it takes a while: so `texts` keeps it,
-- unless that is nil. What a peer wrote as a number may be NaN, which no table takes.
local function whole(number)
  local text = texts and texts[number]
  if not text then
    text = string.format('%.0f', math.floor(number))
    if texts and number == number then
      texts[number] = text
    end
  end
  return text
end

-- The reply that tells what stands: the time, and where there is a record, that on the next line.
local function told(standing)
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

-- Stores a record. A window is kept in whole seconds and counts until that second has passed.
--
-- A record to store is one JSON text whose times are the server's, so it comes as five lines: milliseconds left of the
-- window (empty: it never ends), milliseconds left of the lease (empty: there is none), and the text before the window's
-- end, between it and the lease's end, and behind that.
--
-- What `must` be stored is stored though the memory is full: the outcome of work that is done, the lease of work that
-- runs. A script that has written may finish what it writes, however little memory there is, and a new time to live is a
-- write that takes none.
local function store(key, lines, must)
  local first = find(lines, '\n', 1, true)
  local second = find(lines, '\n', first + 1, true)
  local third = find(lines, '\n', second + 1, true)
  local fourth = find(lines, '\n', third + 1, true)
  local window, last = 'null', nil
  if first > 1 then
    local window_end = math.ceil((now + sub(lines, 1, first - 1)) / 1000)
    window, last = whole(window_end), (window_end + 1) * 1000
  end
  local lease = ''
  if second > first + 1 then
    local lease_end = now + sub(lines, first + 1, second - 1)
    lease = whole(lease_end)
    if last and lease_end > last then
      last = lease_end
    end
  end
  local before, between, after = sub(lines, second + 1, third - 1), sub(lines, third + 1, fourth - 1), sub(lines, fourth + 1)
  local command = {'SET', key, before .. window .. between .. lease .. after}
  if last then
    command[4], command[5] = 'PX', whole(last - now + GRACE_MS)
  end
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    if not (must and find(answer.err, 'OOM', 1, true)) then
      return answer
    end
    redis.call('PEXPIRE', key, command[5] or GRACE_MS)
    redis.call(unpack(command))
  end
  return now
end
