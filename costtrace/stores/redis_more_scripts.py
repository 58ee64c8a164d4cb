"""Lua scripts for questions, and for what is done to a ledger now and then; see `redis_words`."""

from __future__ import annotations

from costtrace.stores.redis_sums import ALL, READING
from costtrace.stores.redis_words import Script

UNDELIVERED = r"""
local found = {}
local due = now - tonumber(p.older_us)
for _, digest in ipairs(redis.call('ZRANGEBYSCORE', key('undel'), '-inf', text(due))) do
  found[#found + 1] = redis.call('HGET', key('alert'), digest)
  redis.call('ZADD', key('undel'), text(now), digest)
end
return reply(unpack(found))
"""

DELIVERED = r"""
for _, digest in ipairs(p.digests) do redis.call('ZREM', key('undel'), digest) end
return reply('done')
"""

DEFINE = r"""
if redis.call('HGET', key('budget'), p.field) ~= p.budget then
  redis.call('HSET', key('budget'), p.field, p.budget)
end
return reply('done')
"""

BUDGETS = r"""
local found = {}
for i, value in ipairs(redis.call('HVALS', key('budget'))) do
  if value ~= '' then found[#found + 1] = value end
end
return reply(unpack(found))
"""

DROP = r"""
local function without(ids, gone)
  local kept = {}
  for id in string.gmatch(ids, '%d+') do
    if id ~= gone then kept[#kept + 1] = id end
  end
  return table.concat(kept, ',')
end
local id = read('ownerid', p.owner)
if not id then return reply('done') end
for _, payers in ipairs(redis.call('SMEMBERS', key('op:' .. id))) do
  local digest, ids = string.match(read('payers', payers), '^(%x*)|(.*)$')
  if digest ~= '' and read('payersid', digest) == payers then write('payersid', digest, false) end
  write('payers', payers, '|' .. without(ids, id))
end
write('ownerid', p.owner, false)
write('owner', id, false)
for _, name in ipairs({'m:', 'b:', 'op:'}) do do_later('DEL', key(name .. id)) end
count('changed')
return finish('done')
"""

PRUNE = r"""
local known = read('meta', 'pruned')
if not known or less(known, p.before) then write('meta', 'pruned', p.before) end
local seen = redis.call('ZRANGEBYSCORE', key('time'), '-inf', '(' .. p.before, 'LIMIT',
  tonumber(p.skip), 500)
local gone, skipped = 0, 0
for _, n in ipairs(seen) do
  local row = row_of(read('e', n))
  if row.lapsed == '1' then
    skipped = skipped + 1
  else
    gone = gone + 1
    local counts, charge = counts_of(row), charge_of(row)
    add_total(row.day, row.label, negative(counts))
    add_total(row.day, 'g' .. row.label, counts)
    for _, owner in ipairs(owners_of(row.payers)) do
      sum('m:' .. owner, 'g' .. row.minute, charge)
    end
    write('e', n, false)
    write('ids', 'c' .. cjson.decode(row.rest)[1], false)
    do_later('ZREM', key('time'), n)
    do_later('ZREM', key('prov'), n)
  end
end
if is_lost then return reply('lost') end
count('changed')
return finish(text(gone), text(skipped), text(#seen))
"""

RENAME_LABELS = r"""
-- each label as it was read, and as it is to be; what has changed since is left for another time
local done = 0
for _, change in ipairs(p.labels) do
  local id, old, new, old_digest, new_digest = unpack(change)
  if read('label', id) == old then
    write('label', id, new)
    if read('labelid', old_digest) == id then write('labelid', old_digest, false) end
    if not read('labelid', new_digest) then write('labelid', new_digest, id) end
    done = done + 1
  end
end
count('changed')
return finish(text(done))
"""

RENAME_OWNER = r"""
local old = read('ownerid', p.old[1])
if not old then return reply('done') end
local new = owner_of(p.new)
local both, changed = {}, {}
local any = false
for _, payers in ipairs(redis.call('SMEMBERS', key('op:' .. old))) do
  local digest, ids = string.match(read('payers', payers), '^(%x*)|(.*)$')
  local kept, has_new = {}, false
  for id in string.gmatch(ids, '%d+') do
    if id == new then has_new = true end
    if id ~= old then kept[#kept + 1] = id end
  end
  if has_new then
    both[payers] = true
    any = true
  else
    kept[#kept + 1] = new
  end
  if digest ~= '' and read('payersid', digest) == payers then write('payersid', digest, false) end
  write('payers', payers, '|' .. table.concat(kept, ','))
  changed[#changed + 1] = payers
  changed[#changed + 1] = table.concat(kept, ',')
  do_later('SADD', key('op:' .. new), payers)
end
local from, to = 'm:' .. old, 'm:' .. new
local fields = redis.call('HGETALL', key(from))
for i = 1, #fields, 2 do
  local field, value = fields[i], fields[i + 1]
  if field == 'first' or field == 'last' then
    local known = tonumber(read(to, field) or value)
    local other = tonumber(value)
    write(to, field, text(field == 'first' and math.min(known, other) or math.max(known, other)))
  elseif field ~= 'v' then
    sum(to, field, list(value))
  end
end
if any then  -- what both have paid for is charged once
  local at = 1
  local last = tonumber(read('meta', 'entries') or '0')
  for n = 1, last do
    local packed = read('e', text(n))
    local row = packed and row_of(packed)
    if row and both[row.payers] then
      local charge = negative(charge_of(row))
      sum(to, row.minute, charge)
      sum(to, 'd' .. row.day, charge)
    end
  end
end
for field in pairs(spans_of(new)) do write('b:' .. new, field, false) end
write('ownerid', p.old[1], false)
write('owner', old, false)
for _, name in ipairs({'m:', 'b:', 'op:'}) do do_later('DEL', key(name .. old)) end
count('changed')
if is_lost then return reply('lost') end
return finish('done', unpack(changed))
"""

NAME_PAYERS = r"""
-- the digests by which sets of payers are found, after their members have other names
for _, change in ipairs(p.payers) do
  local id, ids, digest = unpack(change)
  if read('payers', id) == '|' .. ids and not read('payersid', digest) then
    write('payers', id, digest .. '|' .. ids)
    write('payersid', digest, id)
  end
end
return finish('done')
"""

OWNERS = r"""
return {redis.call('HMGET', key('owner'), unpack(p.ids)), text(clock)}
"""

RENAME_ALERTS = r"""
for _, change in ipairs(p.alerts) do
  local old, new, json = unpack(change)
  local packed = read('alert', old)
  if packed then
    local score = redis.call('ZSCORE', key('undel'), old)
    if old ~= new then
      write('alert', old, false)
      do_later('ZREM', key('undel'), old)
    end
    if old == new or not read('alert', new) then
      write('alert', new, string.match(packed, '^(%-?%d+|)') .. json)
      if score then do_later('ZADD', key('undel'), score, new) end
    end
  end
end
return finish('done')
"""

RENAME_BUDGETS = r"""
for _, change in ipairs(p.budgets) do
  local old, new, json = unpack(change)
  write('budget', old, false)
  if not read('budget', new) then write('budget', new, json) end
end
return finish('done')
"""

ALL_OF = r"""
-- one hash as it is: fields and values in turn
return {redis.call('HGETALL', key(p.name)), text(clock)}
"""

ABOUT = r"""
local m = redis.call('HMGET', key('meta'), 'entries', 'changed', 'rev')
return reply(m[1] or '0', m[2] or '0', m[3] or '0')
"""

ENTRIES = r"""
local fields = {}
for n = tonumber(p.first), tonumber(p.last) do fields[#fields + 1] = text(n) end
return {redis.call('HMGET', key('e'), unpack(fields)), text(clock)}
"""

FIND = r"""
local n = redis.call('HGET', key('ids'), 'c' .. p.id)
return {n and {n, redis.call('HGET', key('e'), n)} or {}, text(clock)}
"""

LABELS = r"""
return {redis.call('HMGET', key('label'), unpack(p.ids)), text(clock)}
"""

PROVISIONAL = r"""
local numbers = redis.call('ZRANGEBYSCORE', key('prov'), '(' .. p.after, '+inf', 'LIMIT', 0, 501)
local found = {}
for _, n in ipairs(numbers) do
  if n ~= 'v' then
    found[#found + 1] = n
    found[#found + 1] = redis.call('HGET', key('e'), n)
  end
end
return {found, text(clock)}
"""

TOTALS = r"""
-- the sums of days, with the state of the ledger that they belong to
local m = redis.call('HMGET', key('meta'), 'entries', 'changed', 'rev')
local found = {m[1] or '0', m[2] or '0', m[3] or '0'}
local days = redis.call('ZRANGEBYSCORE', key('days'), p.first, '(' .. p.stop, 'LIMIT', 0, 400)
for _, day in ipairs(days) do
  if day ~= 'v' then
    found[#found + 1] = day
    found[#found + 1] = redis.call('HGETALL', key('t:' .. day))
  end
end
return {found, text(clock)}
"""

BETWEEN = r"""
local numbers = redis.call('ZRANGEBYSCORE', key('time'), p.start, '(' .. p.stop, 'LIMIT',
  tonumber(p.skip), 500)
local found = {}
for _, n in ipairs(numbers) do
  found[#found + 1] = n
  found[#found + 1] = redis.call('HGET', key('e'), n)
end
local m = redis.call('HMGET', key('meta'), 'changed')
return {found, m[1] or '0', text(clock)}
"""

STANDING = r"""
-- the holds, and when each lapses
return {redis.call('HGETALL', key('hold')), redis.call('ZRANGE', key('lease'), 0, -1, 'WITHSCORES'),
  text(now), text(clock)}
"""

LATCHED = r"""
-- the alerts that have fired, and which of them nobody delivered
return {redis.call('HGETALL', key('alert')), redis.call('ZRANGE', key('undel'), 0, -1), text(clock)}
"""

LATCH = r"""
for _, alert in ipairs(p.alerts) do
  local digest, packed, is_delivered = unpack(alert)
  if not read('alert', digest) then
    write('alert', digest, packed)
    if not is_delivered then do_later('ZADD', key('undel'), text(now), digest) end
  elseif is_delivered then
    do_later('ZREM', key('undel'), digest)
  end
end
return finish('done')
"""

TAKE_GONE = r"""
-- sums of entries that another ledger has pruned, if its note here is still the one expected
if (read('meta', p.note) or '') ~= p.before then return reply('no') end
for _, total in ipairs(p.totals) do
  local day, digest, label, counts = unpack(total)
  add_total(day, 'g' .. label_of(digest, label), counts)
end
for _, gone in ipairs(p.charges) do
  local pair, minute, day, charge = unpack(gone)
  local owner = owner_of(pair)
  local name = 'm:' .. owner
  sum(name, minute, charge)
  sum(name, 'd' .. day, charge)
  sum(name, 'g' .. minute, charge)
  local first, last = read(name, 'first'), read(name, 'last')
  if not first or tonumber(day) < tonumber(first) then write(name, 'first', day) end
  if not last or tonumber(day) > tonumber(last) then write(name, 'last', day) end
  for field in pairs(spans_of(owner)) do write('b:' .. owner, field, false) end
end
if is_lost then return reply('lost') end
local pruned = read('meta', 'pruned')
if p.pruned and (not pruned or less(pruned, p.pruned)) then write('meta', 'pruned', p.pruned) end
write('meta', p.note, p.now_is)
count('changed')
return finish('yes')
"""

MORE_SCRIPTS = {
    "undelivered": Script(*READING, UNDELIVERED),
    "delivered": Script(*READING, DELIVERED),
    "define": Script(*READING, DEFINE),
    "budgets": Script(*READING, BUDGETS),
    "drop": Script(*ALL, DROP),
    "prune": Script(*ALL, PRUNE),
    "rename_labels": Script(*ALL, RENAME_LABELS),
    "rename_owner": Script(*ALL, RENAME_OWNER),
    "name_payers": Script(*ALL, NAME_PAYERS),
    "owners": Script(*READING, OWNERS),
    "rename_alerts": Script(*ALL, RENAME_ALERTS),
    "rename_budgets": Script(*ALL, RENAME_BUDGETS),
    "all_of": Script(*READING, ALL_OF),
    "about": Script(*READING, ABOUT),
    "entries": Script(*READING, ENTRIES),
    "find": Script(*READING, FIND),
    "labels": Script(*READING, LABELS),
    "provisional": Script(*READING, PROVISIONAL),
    "totals": Script(*READING, TOTALS),
    "between": Script(*READING, BETWEEN),
    "standing": Script(*READING, STANDING),
    "latched": Script(*READING, LATCHED),
    "latch": Script(*ALL, LATCH),
    "take_gone": Script(*ALL, TAKE_GONE),
}
