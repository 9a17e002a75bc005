"""The scripts that run in Redis. Each works on the three hashes of one tenant, which are in one slot.

`counters` has six fields for a counter: `s:` settled, `h:` held, `x:` and `u:` what top-ups add and until when, `e:`
the end of its window, `i:` the id of this counter. `holds` has `h:` with a hold, as JSON of its header and its items,
and `c:` where a transaction is about to close it. `marks` has the transactions that are about to change something.

Amounts are texts: the numbers of Lua are doubles, too short for nano-dollars. A script may run twice, as it is sent
again where a connection was lost: the second run changes nothing.
"""

from __future__ import annotations

from hashlib import sha1
from typing import NamedTuple

MARK_SECONDS = 10
"""A transaction that has not told its end by then has died, and the tenant's counters are summed again."""

_BEGIN = """
local counters, holds, marks = KEYS[1], KEYS[2], KEYS[3]
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')

local function is_outdated()
  if redis.call('EXISTS', counters, holds) > 0
    and (redis.call('HGET', counters, 'run') ~= run or redis.call('HGET', holds, 'run') ~= run) then
    return true
  end
  local latest = tonumber(redis.call('TIME')[1]) - tonumber(ARGV[1])
  for _, at in ipairs(redis.call('HVALS', marks)) do
    if tonumber(at) < latest then return true end
  end
  return false
end

local function sign_run()
  redis.call('HSET', counters, 'run', run)
  redis.call('HSET', holds, 'run', run)
end

if is_outdated() then
  redis.call('DEL', counters, marks)
  sign_run()
end

local function negative(amount)
  if string.sub(amount, 1, 1) == '-' then return string.sub(amount, 2) end
  return amount == '0' and amount or '-' .. amount
end

local function hold_more(name, amount)
  if redis.call('HEXISTS', counters, 's:' .. name) == 1 then redis.call('HINCRBY', counters, 'h:' .. name, amount) end
end

local function drop(name)
  redis.call('HDEL', counters, 's:' .. name, 'h:' .. name, 'x:' .. name, 'u:' .. name, 'e:' .. name, 'i:' .. name)
end

local function close(call_id)
  local value = redis.call('HGET', holds, 'h:' .. call_id)
  if not value then return 0 end
  for _, item in ipairs(cjson.decode(value)[2]) do hold_more(item[1], negative(item[2])) end
  redis.call('HDEL', holds, 'h:' .. call_id, 'c:' .. call_id)
  return 1
end

local function each(hash, kind, work)
  local all = redis.call('HGETALL', hash)
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == kind then work(string.sub(all[i], 3), all[i + 1]) end
  end
end

local function open(name, id, window_end, settled, extra, extra_until)
  redis.call('HSET', counters, 's:' .. name, settled, 'h:' .. name, '0', 'x:' .. name, extra, 'u:' .. name, extra_until,
    'e:' .. name, window_end, 'i:' .. name, id)
  each(holds, 'h:', function(_, value)
    for _, item in ipairs(cjson.decode(value)[2]) do
      if item[1] == name then redis.call('HINCRBY', counters, 'h:' .. name, item[2]) end
    end
  end)
  sign_run()
end
"""


class Script(NamedTuple):
    """A script and the digest by which Redis knows it."""

    text: str
    sha: str


def _script(body: str) -> Script:
    text = _BEGIN + body
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


ADMIT = _script("""
local now, call_id, header, items = tonumber(ARGV[2]), ARGV[3], ARGV[4], cjson.decode(ARGV[5])

local function parts(text)
  local sign = 1
  if string.sub(text, 1, 1) == '-' then sign, text = -1, string.sub(text, 2) end
  return sign * (tonumber(string.sub(text, 1, -10)) or 0), sign * tonumber(string.sub(text, -9))
end

local function fits(used, room)
  local high, low = 0, 0
  for _, text in ipairs(used) do
    local more_high, more_low = parts(text)
    high, low = high + more_high, low + more_low
  end
  for _, text in ipairs(room) do
    local more_high, more_low = parts(text)
    high, low = high - more_high, low - more_low
  end
  local carry = math.floor(low / 1e9)
  high, low = high + carry, low - carry * 1e9
  return high < 0 or (high == 0 and low == 0)
end

local function near(least, ceiling, row, item)
  local unspent = tonumber(item.amount) + tonumber(row[3]) - tonumber(row[1])
  local part = math.max(tonumber(least), math.floor(unspent / item.together))
  return part < tonumber(ceiling) and string.format('%.0f', part) or ceiling
end

close(call_id)  -- of the same call, sent twice
local states, taken = {}, {}
for i, item in ipairs(items) do
  local name = item.name
  local row = redis.call('HMGET', counters, 's:' .. name, 'h:' .. name, 'x:' .. name, 'u:' .. name)
  if not row[1] or (row[4] ~= '' and tonumber(row[4]) <= now) then return {'closed', '[]', '[]'} end
  states[i] = row
  for _, try in ipairs(item.tries) do
    if try[2] == '' or fits({row[1], row[2], try[2]}, {item.amount, row[3]}) then
      taken[i] = {name, try[3] == '' and try[1] or near(try[1], try[3], row, item)}
      break
    end
  end
  if not taken[i] then return {'refused', cjson.encode(states), '[]'} end
end
for _, item in ipairs(taken) do redis.call('HINCRBY', counters, 'h:' .. item[1], item[2]) end
redis.call('HSET', holds, 'h:' .. call_id, cjson.encode({header, taken}))
sign_run()
return {'admitted', cjson.encode(states), cjson.encode(taken)}
""")
"""Hold on every counter of the slot, or on none.

Each item has tries: an amount, the room that it needs, and the most to hold, up to the part (by `together`) of what is
not spent. That part may be rounded, as it only says how much is held.
"""

OPEN = _script("""
local name = ARGV[2]
if redis.call('HEXISTS', counters, 's:' .. name) == 0 then
  open(name, ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7])
end
""")
"""Insert a counter if it is absent; what it holds is the sum of the open holds."""

RESET = _script("""
local name = ARGV[2]
local row = redis.call('HMGET', counters, 'e:' .. name, 'x:' .. name, 'u:' .. name)
if row[1] then open(name, ARGV[3], row[1], ARGV[4], row[2], row[3]) end
""")
"""Set what a counter has settled, and let it hold the sum of the open holds."""

COUNTER = _script("""
local name = ARGV[2]
return redis.call('HMGET', counters, 's:' .. name, 'h:' .. name, 'x:' .. name, 'u:' .. name)
""")

HOLDS = _script("""
local found = {}
for i = 2, #ARGV do
  local row = redis.call('HMGET', holds, 'h:' .. ARGV[i], 'c:' .. ARGV[i])
  found[i - 1] = {row[1] or '', row[2] or ''}
end
return found
""")
"""Read holds by the ids of their calls, and whether a transaction is about to close them."""

CLOSE = _script("return close(ARGV[2])")
"""Close a hold: take what it holds from the counters."""

REPLACE = _script("""
local field = 'h:' .. ARGV[2]
local value = redis.call('HGET', holds, field)
if value == ARGV[4] then return 1 end
if value ~= ARGV[3] then return 0 end
for _, item in ipairs(cjson.decode(value)[2]) do hold_more(item[1], negative(item[2])) end
for _, item in ipairs(cjson.decode(ARGV[4])[2]) do hold_more(item[1], item[2]) end
redis.call('HSET', holds, field, ARGV[4])
return 1
""")
"""Put another hold in the place of one that is still as it was read."""

RENAME = _script("""
if redis.call('HDEL', holds, 'h:' .. ARGV[2], 'c:' .. ARGV[2]) > 0 then
  redis.call('HSET', holds, 'h:' .. ARGV[3], ARGV[4])
end
return redis.call('HEXISTS', holds, 'h:' .. ARGV[3])
""")
"""Give a hold another call's id; what it holds stays."""

SNAPSHOT = _script("return {redis.call('HGETALL', counters), redis.call('HGETALL', holds)}")
"""Read all counters and holds of a tenant at one moment."""

PENDING = _script("return redis.call('HLEN', marks)")
"""Count the transactions that are about to change something."""

FORGET = _script("""
local gone = 0
each(counters, 'e:', function(name, window_end)
  if tonumber(window_end) <= tonumber(ARGV[2]) then
    drop(name)
    gone = gone + 1
  end
end)
return gone
""")
"""Drop the counters whose window has ended by a time."""

MARK = _script("""
redis.call('HSET', marks, ARGV[2], redis.call('TIME')[1])
for _, call_id in ipairs(cjson.decode(ARGV[4])) do
  if redis.call('HEXISTS', holds, 'h:' .. call_id) == 1 then redis.call('HSET', holds, 'c:' .. call_id, '1') end
end
local ids = {}
for i, name in ipairs(cjson.decode(ARGV[3])) do ids[i] = redis.call('HGET', counters, 'i:' .. name) or '' end
return ids
""")
"""Announce a transaction; return the ids of the counters that it will change."""

UNMARK = _script("""
redis.call('HDEL', marks, ARGV[2])
for i = 3, #ARGV do redis.call('HDEL', holds, 'c:' .. ARGV[i]) end
""")
"""Take the announcement of a transaction back."""

APPLY = _script("""
local work = cjson.decode(ARGV[3])
local is_first = redis.call('HDEL', marks, ARGV[2]) == 1

local function strip(limits)
  each(holds, 'h:', function(call_id, value)
    local hold, kept = cjson.decode(value), {}
    for _, item in ipairs(hold[2]) do
      if limits and not limits[string.match(item[1], '^%d+')] then kept[#kept + 1] = item end
    end
    redis.call('HSET', holds, 'h:' .. call_id, cjson.encode({hold[1], kept}))
  end)
end

for _, charge in ipairs(work.charges) do
  if is_first and redis.call('HGET', counters, 'i:' .. charge[1]) == charge[2] then
    redis.call('HINCRBY', counters, 's:' .. charge[1], charge[3])
  end
end
for _, credit in ipairs(work.credits) do
  if redis.call('HGET', counters, 'i:' .. credit[1]) == credit[2] then
    redis.call('HSET', counters, 'x:' .. credit[1], credit[3], 'u:' .. credit[1], credit[4])
  end
end
for _, call_id in ipairs(work.closed) do close(call_id) end
if #work.dropped > 0 then
  local limits = {}
  for _, limit in ipairs(work.dropped) do limits[limit] = true end
  each(counters, 'e:', function(name) if limits[string.match(name, '^%d+')] then drop(name) end end)
  strip(limits)
end
if work.stripped then
  redis.call('DEL', counters)
  strip()
  sign_run()
end
for _, hold in ipairs(work.moved_in) do
  if redis.call('HSETNX', holds, 'h:' .. hold[1], hold[2]) == 1 then
    for _, item in ipairs(cjson.decode(hold[2])[2]) do hold_more(item[1], item[2]) end
    sign_run()
  end
end
if work.emptied then redis.call('DEL', counters, holds) end
""")
"""Make the changes of a transaction that has committed: to the counters that it saw, and to holds."""
