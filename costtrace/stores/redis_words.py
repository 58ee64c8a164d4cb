"""The steps of the protocol as Lua scripts: Redis runs each of them alone, from end to end.

A namespace `n` has these keys, all under the hash tag `{n}`, so that a cluster keeps them together:

    gen            the name of this memory; a server that lost its memory has none, or another
    meta           counters, how far was pruned, how often anything was changed
    label payers owner            by number; labelid payersid ownerid: their numbers, by digest
    hold           calls that were reserved, by call id; lease: when each lapses
    p:<process>    the holds of a process
    e              the ledger, by running number; ids: the number of each call; time: when each was
    prov           the numbers of entries whose fate is unknown
    t:<day>        sums by label, `g` before those whose entries were pruned; days: which there are
    m:<owner>      what an owner was charged by minute, and by day (`d`); `g` likewise
    b:<owner>      running balances by span; only a memory of sums, may be deleted
    op:<owner>     the sets of payers that an owner is in
    alert          thresholds that were crossed; undel: those that nobody delivered
    budget         terms as they were last used

No key ever expires. Each main key holds a mark, so that it exists while the memory is whole.

Lua counts in floating point, which is exact up to 2**53 only: 9007 dollars in picodollars. Amounts
are therefore decimal texts. Where both are small enough they are added as numbers; others are added
and compared in two halves of twelve digits, whole numbers below 2**53 each. So nothing is ever
rounded. No amount may pass 63 bits.

A script writes nothing until all is known and checked: Redis does not undo a script that fails.
"""

from __future__ import annotations

from hashlib import sha1

PRELUDE = r"""
local prefix = string.sub(KEYS[1], 1, -4)
local p = cjson.decode(ARGV[2])
local time = redis.call('TIME')
local clock = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function text(number) return string.format('%.0f', number) end
local function key(name) return prefix .. name end
local MAIN = {'meta', 'label', 'labelid', 'payers', 'payersid', 'owner', 'ownerid', 'hold', 'lease',
  'e', 'ids', 'time', 'prov', 'days', 'alert', 'undel', 'budget'}
local function whole()
  return redis.call('EXISTS', prefix .. 'meta', prefix .. 'label', prefix .. 'labelid',
    prefix .. 'payers', prefix .. 'payersid', prefix .. 'owner', prefix .. 'ownerid',
    prefix .. 'hold', prefix .. 'lease', prefix .. 'e', prefix .. 'ids', prefix .. 'time',
    prefix .. 'prov', prefix .. 'days', prefix .. 'alert', prefix .. 'undel',
    prefix .. 'budget') == #MAIN
end
local function reply(...)
  local words = {...}
  words[#words + 1] = text(clock)
  return words
end
"""

GUARD = r"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return reply('reset') end
if not whole() then return reply('lost') end
if p.not_after and clock > tonumber(p.not_after) then return reply('late') end
local now = p.now and tonumber(p.now) or clock
"""

NUMBERS = r"""
-- exact integers as decimal texts: as numbers where those are exact, or in halves of twelve digits
local HALF, EXACT = 1000000000000, 4503599627370496  -- the sum of two below 2**52 is exact
local function halves(s)
  local is_negative = string.byte(s) == 45
  local digits = is_negative and string.sub(s, 2) or s
  local high, low = 0, 0
  if #digits > 12 then
    high, low = tonumber(string.sub(digits, 1, -13)), tonumber(string.sub(digits, -12))
  else
    low = tonumber(digits)
  end
  if is_negative then return -high, -low end
  return high, low
end
local function even(high, low)
  local carry = math.floor(low / HALF)
  return high + carry, low - carry * HALF
end
local function joined(high, low)
  high, low = even(high, low)
  local sign = ''
  if high < 0 then
    sign = '-'
    high, low = even(-high, -low)
  end
  if high == 0 then
    return (low == 0 and '' or sign) .. string.format('%.0f', low)
  end
  return sign .. string.format('%.0f', high) .. string.format('%012.0f', low)
end
local function add(a, b)
  local x, y = tonumber(a), tonumber(b)
  if x < EXACT and x > -EXACT and y < EXACT and y > -EXACT then
    return string.format('%.0f', x + y)
  end
  local ah, al = halves(a)
  local bh, bl = halves(b)
  return joined(ah + bh, al + bl)
end
local function minus(a)
  if a == '0' then return a end
  return string.byte(a) == 45 and string.sub(a, 2) or '-' .. a
end
local function less(a, b)  -- a < b
  local x, y = tonumber(a), tonumber(b)
  if x ~= y then return x < y end  -- rounding may make two numbers equal, but never swaps them
  if x < EXACT and x > -EXACT then return false end
  local ah, al = halves(a)
  local bh, bl = halves(b)
  local high = even(ah - bh, al - bl)
  return high < 0
end
local function fits(a)
  return #a < 19 or (not less('9223372036854775807', a) and not less(a, '-9223372036854775808'))
end
local function list(packed)
  local found = {}
  for number in string.gmatch(packed, '[^|]+') do found[#found + 1] = number end
  return found
end
local function is_small(a, b, c)
  return a < EXACT and a > -EXACT and b < EXACT and b > -EXACT and c < EXACT and c > -EXACT
end
local THREE = '^(%-?%d+)|(%-?%d+)|(%-?%d+)$'
local SIX = '^(%-?%d+)|(%-?%d+)|(%-?%d+)|(%-?%d+)|(%-?%d+)|(%-?%d+)$'
local function plus_small(packed, more)  -- nothing where a sum may be inexact
  local p1, p2, p3, p4, p5, p6 = more[1] + 0, more[2] + 0, more[3] + 0
  if not is_small(p1, p2, p3) then return nil end
  if #more == 3 then
    local a, b, c = string.match(packed, THREE)
    if not a then return nil end
    a, b, c = a + p1, b + p2, c + p3
    return is_small(a, b, c) and string.format('%.0f|%.0f|%.0f', a, b, c)
  end
  p4, p5, p6 = more[4] + 0, more[5] + 0, more[6] + 0
  local a, b, c, d, e, f = string.match(packed, SIX)
  if not a or not is_small(p4, p5, p6) then return nil end
  a, b, c, d, e, f = a + p1, b + p2, c + p3, d + p4, e + p5, f + p6
  return is_small(a, b, c) and is_small(d, e, f)
    and string.format('%.0f|%.0f|%.0f|%.0f|%.0f|%.0f', a, b, c, d, e, f)
end
local function plus(packed, more)  -- and whether all of the sums are small
  if not packed then return table.concat(more, '|'), false end
  local quickly = plus_small(packed, more)
  if quickly then return quickly, true end
  local sums = list(packed)
  for i, number in ipairs(more) do sums[i] = add(sums[i], number) end
  return table.concat(sums, '|'), false
end
local NONE = {'0', '0', '0'}
local function negative(numbers)
  local found = {}
  for i, number in ipairs(numbers) do found[i] = minus(number) end
  return found
end
local function difference(numbers, old)
  local found = {}
  for i, number in ipairs(numbers) do found[i] = add(number, minus(old[i])) end
  return found
end
local function is_zero(numbers)
  for _, number in ipairs(numbers) do
    if number ~= '0' then return false end
  end
  return true
end
"""

PENDING = r"""
-- what is known of the hashes, and what is to be written when all of it is known
local cached, pending, later, too_large = {}, {}, {}, false
local function cache_of(name)
  if not cached[name] then cached[name] = {} end
  return cached[name]
end
local function read(name, field)
  local known = pending[name] and pending[name][field]
  if known ~= nil then return known end
  local cache = cache_of(name)
  known = cache[field]
  if known == nil then
    known = redis.call('HGET', key(name), field)
    cache[field] = known
  end
  return known
end
local function read_ahead(name, ...)
  local cache = cache_of(name)
  for i, value in ipairs(redis.call('HMGET', key(name), ...)) do
    cache[select(i, ...)] = value
  end
end
local function write(name, field, value)
  if not pending[name] then pending[name] = {} end
  pending[name][field] = value
end
local function sum(name, field, more)
  local packed, are_small = plus(read(name, field), more)
  if not are_small then
    for _, number in ipairs(list(packed)) do
      if not fits(number) then too_large = true end
    end
  end
  write(name, field, packed)
  return packed
end
local function do_later(...) later[#later + 1] = {...} end
local function count(name)
  if not cached.meta then read_ahead('meta', 'entries', 'rev', 'changed', 'pruned') end
  local number = tonumber(read('meta', name) or '0') + 1
  write('meta', name, text(number))
  return text(number)
end
local function put(name)
  local kept, gone, cache = {}, {}, cache_of(name)
  for field, value in pairs(pending[name]) do
    cache[field] = value
    if value then
      kept[#kept + 1] = field
      kept[#kept + 1] = value
    else
      gone[#gone + 1] = field
    end
  end
  for at = 1, #kept, 1000 do
    redis.call('HSET', key(name), unpack(kept, at, math.min(at + 999, #kept)))
  end
  for at = 1, #gone, 1000 do
    redis.call('HDEL', key(name), unpack(gone, at, math.min(at + 999, #gone)))
  end
end
local function finish(...)
  if too_large then return reply('overflow') end
  if next(pending) or #later > 0 then
    -- first a write that a full or read-only server refuses: then it refuses all, and nothing is
    -- half done
    count('rev')
    put('meta')
  end
  for name in pairs(pending) do
    if name ~= 'meta' then put(name) end
  end
  for _, command in ipairs(later) do redis.call(unpack(command)) end
  pending, later = {}, {}
  return reply(...)
end
"""

NAMES = r"""
local is_lost = false
local function owner_of(pair)  -- digest, name as JSON
  local id = read('ownerid', pair[1])
  if not id then
    id = count('owners')
    write('ownerid', pair[1], id)
    write('owner', id, pair[1] .. '|' .. pair[2])
    write('m:' .. id, 'v', '1')
  elseif not read('m:' .. id, 'v') then
    is_lost = true
  end
  return id
end
local function owners_of(payers, row)
  local known = read('payers', payers)
  if not known then is_lost = true return {} end
  local found = {}
  for id in string.gmatch(string.match(known, '|(.*)$'), '%d+') do
    if row and not (cached['m:' .. id] and cached['m:' .. id].last ~= nil) then
      read_ahead('m:' .. id, 'v', 'first', 'last', row.minute, 'd' .. row.day)
    end
    if not read('m:' .. id, 'v') then is_lost = true end
    found[#found + 1] = id
  end
  return found
end
local function payers_of(digest, owners)
  local id = read('payersid', digest)
  if id then return id end
  id = count('payerss')
  local ids = {}
  for i, pair in ipairs(owners) do
    ids[i] = owner_of(pair)
    do_later('SADD', key('op:' .. ids[i]), id)
  end
  write('payersid', digest, id)
  write('payers', id, digest .. '|' .. table.concat(ids, ','))
  return id
end
local function label_of(digest, label)
  local id = read('labelid', digest)
  if not id then
    id = count('labels')
    write('labelid', digest, id)
    write('label', id, label)
  end
  return id
end
local ROW = '^(%d+)|(%d+)|(%d+)|(%d*)|(%d*)|(%-?%d*)|(%d+)|(%d+)|([01])|([01])|(%x*)|(.*)$'
local function row_of(packed)
  local row = {}
  row.at, row.minute, row.day, row.label, row.payers, row.pico, row.sent, row.generated,
    row.calls, row.lapsed, row.attempt, row.rest = string.match(packed, ROW)
  return row
end
local function packed_row(row)
  return table.concat({row.at, row.minute, row.day, row.label, row.payers, row.pico, row.sent,
    row.generated, row.calls, row.lapsed, row.attempt, row.rest}, '|')
end
local function charge_of(row)
  return {row.pico == '' and '0' or row.pico, add(row.sent, row.generated), row.calls}
end
local function counts_of(row)
  local unpriced = row.pico == '' and row.calls or '0'
  return {'1', row.calls, row.sent, row.generated, row.pico == '' and '0' or row.pico, unpriced}
end
"""


class Script:
    """A script, and the name that Redis knows it by once it has seen it."""

    def __init__(self, *parts: str) -> None:
        self.text = "".join(parts)
        self.sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()
