"""What scripts share that changes sums, see `redis_words` for the keys: balances, totals."""

from __future__ import annotations

from costtrace.stores.redis_words import GUARD, NAMES, NUMBERS, PENDING, PRELUDE

BALANCES = r"""
local KEPT_SPANS = 16
local function inside(field, at)
  local start, stop = string.match(field, '^(%-?%d+):(%-?%d+)$')
  return not less(at, start) and less(at, stop)
end
local is_read = {}
local function read_balances(owner)
  local name = 'b:' .. owner
  if is_read[name] then return end
  is_read[name] = true
  local cache, found = cache_of(name), redis.call('HGETALL', key(name))
  for i = 1, #found, 2 do cache[found[i]] = found[i + 1] end
end
local function spans_of(owner)
  local fields, name = {}, 'b:' .. owner
  read_balances(owner)
  for field, value in pairs(cache_of(name)) do fields[field] = value and true or nil end
  for field, value in pairs(pending[name] or {}) do fields[field] = value and true or nil end
  return fields
end
local function move(payers, row, spent, reserved)
  for _, owner in ipairs(owners_of(payers, not is_zero(spent) and row)) do
    if not is_zero(spent) then
      local name = 'm:' .. owner
      sum(name, row.minute, spent)
      sum(name, 'd' .. row.day, spent)
      local day = tonumber(row.day)
      local first, last = read(name, 'first'), read(name, 'last')
      if not first or day < tonumber(first) then write(name, 'first', row.day) end
      if not last or day > tonumber(last) then write(name, 'last', row.day) end
    end
    local moved = {spent[1], spent[2], spent[3], reserved[1], reserved[2], reserved[3]}
    for field in pairs(spans_of(owner)) do
      if inside(field, row.at) then sum('b:' .. owner, field, moved) end
    end
  end
end
local function add_total(day, label, counts)
  local name = 't:' .. day
  local known = cached[name]
  if not known or known.v == nil or known[label] == nil then read_ahead(name, 'v', label) end
  if not read(name, 'v') then
    if redis.call('ZSCORE', key('days'), day) then
      is_lost = true
      return
    end
    write(name, 'v', '')
    do_later('ZADD', key('days'), day, day)
  end
  local sums = sum(name, label, counts)
  if not string.find(sums, '[1-9]') then write(name, label, false) end
end
local function sum_fields(name, prefix_, first, stop, sums)
  local at = first
  while at < stop do
    local upto = math.min(at + 1000, stop)
    local fields = {}
    for n = at, upto - 1 do fields[#fields + 1] = prefix_ .. text(n) end
    for i, packed in ipairs(redis.call('HMGET', key(name), unpack(fields))) do
      local known = pending[name] and pending[name][fields[i]]
      if known ~= nil then packed = known end
      if packed then sums = list(plus(table.concat(sums, '|'), list(packed))) end
    end
    at = upto
  end
  return sums
end
local function is_in(owner, payers, known)
  if known[payers] == nil then
    known[payers] = false
    for _, id in ipairs(owners_of(payers)) do
      if id == owner then known[payers] = true end
    end
  end
  return known[payers]
end
local function edge(owner, from, to, sums, known)
  if not less(from, to) then return sums end
  for _, n in ipairs(redis.call('ZRANGEBYSCORE', key('time'), from, '(' .. to)) do
    local packed = read('e', n)
    local row = packed and row_of(packed)
    if row and is_in(owner, row.payers, known) then
      sums = difference(sums, charge_of(row))
    end
  end
  return sums
end
local function summed(owner, span)
  -- whole minutes and days, less the calls of the first and last minute that lie outside
  local name, sums, known = 'm:' .. owner, NONE, {}
  local first, last = read(name, 'first'), read(name, 'last')
  if first then
    local from = math.max(tonumber(span.first_minute), tonumber(first) * 1440)
    local to = math.min(tonumber(span.end_minute), (tonumber(last) + 1) * 1440)
    local first_day, end_day = math.ceil(from / 1440), math.floor(to / 1440)
    if first_day < end_day then
      sums = sum_fields(name, '', from, first_day * 1440, sums)
      sums = sum_fields(name, 'd', first_day, end_day, sums)
      sums = sum_fields(name, '', end_day * 1440, to, sums)
    else
      sums = sum_fields(name, '', from, to, sums)
    end
    sums = edge(owner, span.from_edge, span.start, sums, known)
    sums = edge(owner, span.stop, span.to_edge, sums, known)
  end
  local reserved = NONE
  local holds = redis.call('HVALS', key('hold'))
  for _, packed in ipairs(holds) do
    local row = packed ~= '' and row_of(packed)
    if row and not less(row.at, span.start) and less(row.at, span.stop)
        and is_in(owner, row.payers, known) then
      reserved = list(plus(table.concat(reserved, '|'), charge_of(row)))
    end
  end
  return {sums[1], sums[2], sums[3], reserved[1], reserved[2], reserved[3]}
end
local function running(owner, span)
  if span.rolling then return summed(owner, span) end
  local name, field = 'b:' .. owner, span.start .. ':' .. span.stop
  read_balances(owner)
  local known = read(name, field)
  if known then return list(known) end
  local balance = summed(owner, span)
  local ends = {}
  for other in pairs(spans_of(owner)) do
    local start, stop = string.match(other, '^(%-?%d+):(%-?%d+)$')
    ends[#ends + 1] = {other, start, stop}
  end
  if #ends >= KEPT_SPANS then
    table.sort(ends, function(a, b)
      if a[3] == b[3] then return less(a[2], b[2]) end
      return less(a[3], b[3])
    end)
    for i = 1, #ends - KEPT_SPANS + 1 do write(name, ends[i][1], false) end
  end
  write(name, field, table.concat(balance, '|'))
  return balance
end
"""

BOOK = r"""
local function forget_hold(id, row)
  write('hold', 'c' .. id, false)
  do_later('ZREM', key('lease'), 'c' .. id)
  do_later('SREM', key('p:' .. string.match(row.rest, '^(%x+)|')), 'c' .. id)
end
local function rest_of(row)  -- a hold's rest begins with its process
  return string.match(row.rest, '^%x+|(.*)$')
end
local function book(id, row)
  local n = count('entries')
  write('e', n, packed_row(row))
  write('ids', 'c' .. id, n)
  do_later('ZADD', key('time'), row.at, n)
  add_total(row.day, row.label, counts_of(row))
  return n
end
local function lapse(at_most)
  local due = redis.call('ZRANGEBYSCORE', key('lease'), '-inf', text(now), 'LIMIT', 0, at_most)
  for _, member in ipairs(due) do
    local id = string.sub(member, 2)
    local packed = read('hold', member)
    if packed then
      local row = row_of(packed)
      local charge = charge_of(row)
      forget_hold(id, row)
      row.rest, row.lapsed = rest_of(row), '1'
      local n = book(id, row)
      do_later('ZADD', key('prov'), n, n)
      move(row.payers, row, charge, negative(charge))
    else
      do_later('ZREM', key('lease'), member)
    end
  end
  return #due
end
local function pruned_after(at)
  local pruned = read('meta', 'pruned')
  return pruned and less(at, pruned) and pruned
end
"""

READING = (PRELUDE, GUARD)
ALL = (*READING, NUMBERS, PENDING, NAMES, BALANCES, BOOK)
