-- Claims the key if nothing stands under it, or exactly the record that the claim names.
--
-- ARGV[1]: the claim, see `store` in common.lua. ARGV[2..9], where it names a record: the attributes of status, lease and
-- window, and that record's status, owner, attempt, lease and window.
-- Gives the time as a number if it is claimed; else what stands.

-- now
local standing = redis.call('GET', KEYS[1])
if standing and not ARGV[2] then
  return string.format('%.0f\n', now) .. standing
end

-- common

if standing then
  local function text(value)
    if type(value) == 'number' then
      return whole(value)
    end
    return type(value) == 'string' and value or ''
  end
  local fields = fields_of(standing)
  local attempt = text(fields.attempt)
  local is_named = text(fields[ARGV[2]]) == ARGV[5]
    and text(fields.owner) == ARGV[6]
    and (attempt == '' and '1' or attempt) == ARGV[7]
    and text(fields[ARGV[3]]) == ARGV[8]
    and text(fields[ARGV[4]]) == ARGV[9]
  if not is_named then
    return told(standing)
  end
end
return store(KEYS[1], ARGV[1], false)
