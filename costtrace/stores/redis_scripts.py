"""The steps of the protocol as Lua scripts; see `redis_words` for the keys and what they share."""

from __future__ import annotations

from costtrace.stores.redis_sums import ALL, READING
from costtrace.stores.redis_words import PRELUDE, Script

RESERVE = r"""
local member = 'c' .. p.id
local row = row_of(p.row)
local known = read('hold', member)
if known then
  local old = row_of(known)
  local charge, other = charge_of(row), charge_of(old)
  if is_zero(difference(charge, other)) and read('payersid', p.payers) == old.payers then
    old.attempt = row.attempt
    write('hold', member, packed_row(old))
    return finish('held')
  end
  return reply('other')
end
if read('ids', member) then return reply('over') end
local pruned = pruned_after(row.at)
if pruned then return reply('old', pruned) end
local lapsed = lapse(64)
if is_lost then return reply('lost') end
if lapsed > 0 then
  local done = finish('lapsed')
  if done[1] ~= 'lapsed' then return done end
end
local charge = charge_of(row)
for i, limit in ipairs(p.limits) do
  local balance = running(owner_of(limit.owner), limit)
  for unit = 1, 3 do
    local most = limit.most[unit]
    if most ~= '' and less(most, add(add(balance[unit], balance[unit + 3]), charge[unit])) then
      if is_lost then return reply('lost') end
      return finish('refused', text(i - 1), unpack(balance))
    end
  end
end
row.payers = payers_of(p.payers, p.owners)
row.label = label_of(p.label[1], p.label[2])
row.rest = p.process .. '|' .. row.rest
write('hold', member, packed_row(row))
do_later('ZADD', key('lease'), text(now + tonumber(p.lease)), member)
do_later('SADD', key('p:' .. p.process), member)
move(row.payers, row, NONE, charge)
if is_lost then return reply('lost') end
return finish('held')
"""

SETTLE = r"""
local member = 'c' .. p.id
local row = row_of(p.row)
local held = read('hold', member)
local n = not held and read('ids', member)
row.label = ''
if held then
  local old = row_of(held)
  row.at, row.minute, row.day, row.payers = old.at, old.minute, old.day, old.payers
  forget_hold(p.id, old)
  row.label = label_of(p.label[1], p.label[2])
  n = book(p.id, row)
  move(row.payers, row, charge_of(row), negative(charge_of(old)))
elseif n then
  local packed = read('e', n)
  if not packed then return reply('lost') end
  local old = row_of(packed)
  if old.lapsed == '0' and not p.amend then
    return reply(old.pico == row.pico and 'same' or 'other')
  end
  row.at, row.minute, row.day, row.payers = old.at, old.minute, old.day, old.payers
  row.label = label_of(p.label[1], p.label[2])
  write('e', n, packed_row(row))
  count('changed')
  move(row.payers, row, difference(charge_of(row), charge_of(old)), NONE)
  add_total(row.day, old.label, negative(counts_of(old)))
  add_total(row.day, row.label, counts_of(row))
  do_later('ZREM', key('prov'), n)
else
  local pruned = pruned_after(row.at)
  if pruned then return reply('old', pruned) end
  row.payers = payers_of(p.payers, p.owners)
  row.label = label_of(p.label[1], p.label[2])
  n = book(p.id, row)
  move(row.payers, row, charge_of(row), NONE)
end
if p.is_assumed then do_later('ZADD', key('prov'), n, n) end
if is_lost then return reply('lost') end
local done = finish('settled')  -- a sum that is made now must find the call where it belongs
if done[1] ~= 'settled' then return done end
local crossed = {}
for _, watch in ipairs(p.watches) do
  if not read('alert', watch.digest) then
    local spent = running(owner_of(watch.owner), watch)[1]
    if not less(spent, watch.threshold) then
      write('alert', watch.digest, spent .. '|' .. watch.json)
      do_later('ZADD', key('undel'), text(now), watch.digest)
      crossed[#crossed + 1] = watch.digest
      crossed[#crossed + 1] = spent
    end
  end
end
if is_lost then return reply('lost') end
return finish('settled', unpack(crossed))
"""

RELEASE = r"""
local member = 'c' .. p.id
local held = read('hold', member)
if held then
  local row = row_of(held)
  if p.attempt and row.attempt ~= p.attempt then return reply('no') end
  forget_hold(p.id, row)
  move(row.payers, row, NONE, negative(charge_of(row)))
  if is_lost then return reply('lost') end
  return finish('yes')
end
local n = read('ids', member)
local packed = n and read('e', n)
if not packed then return reply('no') end
local row = row_of(packed)
if row.lapsed == '0' or (p.attempt and row.attempt ~= p.attempt) then return reply('no') end
write('e', n, false)
write('ids', member, false)
do_later('ZREM', key('time'), n)
do_later('ZREM', key('prov'), n)
count('changed')
move(row.payers, row, negative(charge_of(row)), NONE)
add_total(row.day, row.label, negative(counts_of(row)))
if is_lost then return reply('lost') end
return finish('yes')
"""

RENEW = r"""
local renewed = 0
for _, member in ipairs(redis.call('SMEMBERS', key('p:' .. p.process))) do
  local lease = redis.call('ZSCORE', key('lease'), member)
  if lease and tonumber(lease) > now then
    redis.call('ZADD', key('lease'), text(now + tonumber(p.lease)), member)
    renewed = renewed + 1
  end
end
return reply(text(renewed))
"""

LAPSE = r"""
local lapsed = lapse(tonumber(p.at_most))
if is_lost then return reply('lost') end
return finish(text(lapsed))
"""

BALANCE = r"""
local owner = read('ownerid', p.owner)
if not owner then return reply('0', '0', '0', '0', '0', '0') end
if not read('m:' .. owner, 'v') then return reply('lost') end
local known = not p.span.rolling and read('b:' .. owner, p.span.start .. ':' .. p.span.stop)
return reply(unpack(known and list(known) or summed(owner, p.span)))
"""

OPEN = r"""
local name = redis.call('GET', KEYS[1])
if name then
  return reply(name, redis.call('HGET', key('meta'), 'schema') or '0')
end
if redis.call('EXISTS', key('meta')) == 1 then return reply('lost', '0') end
redis.call('SET', KEYS[1], ARGV[1])
for _, main in ipairs(MAIN) do
  if main == 'lease' or main == 'time' or main == 'prov' or main == 'days' or main == 'undel' then
    redis.call('ZADD', key(main), '+inf', 'v')
  else
    redis.call('HSET', key(main), 'v', '')
  end
end
redis.call('HSET', key('meta'), 'schema', p.schema)
return reply(ARGV[1], p.schema)
"""

SCRIPTS = {
    "open": Script(PRELUDE, OPEN),
    "reserve": Script(*ALL, RESERVE),
    "settle": Script(*ALL, SETTLE),
    "release": Script(*ALL, RELEASE),
    "renew": Script(*READING, RENEW),
    "lapse": Script(*ALL, LAPSE),
    "balance": Script(*ALL, BALANCE),
}
