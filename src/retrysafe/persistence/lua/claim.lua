-- Claims the key if nothing stands under it, or exactly the record that the claim names.
--
-- ARGV[6..13], where it names one: the attributes of status, lease and window, and that record's status, owner, attempt,
-- lease and window.
-- Gives the time if it is claimed; else what stands, and the time.

local function text(value)
  if type(value) == 'number' then
    return whole(value)
  end
  return type(value) == 'string' and value or ''
end

local function is_named(record)
  if not ARGV[6] then
    return false
  end
  local fields = fields_of(record)
  local attempt = text(fields.attempt)
  return text(fields[ARGV[6]]) == ARGV[9]
    and text(fields.owner) == ARGV[10]
    and (attempt == '' and '1' or attempt) == ARGV[11]
    and text(fields[ARGV[7]]) == ARGV[12]
    and text(fields[ARGV[8]]) == ARGV[13]
end

local now = now_ms()
local standing = redis.call('GET', KEYS[1])
if standing and not is_named(standing) then
  return {standing, now}
end
return store(now, false)
