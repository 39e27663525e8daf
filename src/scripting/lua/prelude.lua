-- Builds the world of scripts and functions. Arguments: native functions by name, the constants of `redis` for scripts and
-- for libraries being loaded. Results: see world.rs.
--
-- A library is shown through a proxy: an empty table whose metatable reads from the real one. What raw functions would do
-- to a proxy, the functions below do to the real table, or refuse.
local N, redis, loading = ...
local P = {}      -- the real table behind each proxy
local shown = {}  -- what getmetatable says about a proxy

local error, type, select, concat = error, type, select, table.concat
local raw = {
  next = next, pairs = pairs, rawset = rawset, rawget = rawget, setmetatable = setmetatable, getmetatable = getmetatable,
  insert = table.insert, foreach = table.foreach, pcall = pcall, setfenv = setfenv,
}
local raw_next, raw_pairs, raw_rawset, raw_rawget = raw.next, raw.pairs, raw.rawset, raw.rawget
local raw_setmetatable, raw_getmetatable = raw.setmetatable, raw.getmetatable
local raw_insert, raw_foreach, raw_pcall, raw_setfenv = raw.insert, raw.foreach, raw.pcall, raw.setfenv
local READONLY = 'Attempt to modify a readonly table'

local function freeze(real)
  local proxy = {}
  P[proxy] = real
  raw_setmetatable(proxy, { __index = real, __newindex = N.readonly, __metatable = false })
  return proxy
end

local function pick(from, names)
  local to = {}
  for name in names:gmatch('%S+') do to[name] = from[name] end
  return to
end

local base = pick(_G, [[gcinfo rawequal type _VERSION]])
base.error = N.error

function base.next(...)
  local t, k = ...
  local real = P[t]
  if real then return raw_next(real, k) end
  return raw_next(...)
end
local own_next = base.next

function base.pairs(...)
  local t = ...
  if P[t] then return own_next, t, nil end
  if type(t) ~= 'table' then return N.ipairs_refused(...) end
  return raw_pairs(t)
end

local raw_ipairs, raw_select, raw_tostring, raw_tonumber, raw_unpack = ipairs, select, tostring, tonumber, unpack
function base.ipairs(...)
  local t = ...
  if type(t) ~= 'table' then return N.ipairs_refused(...) end
  return raw_ipairs(t)
end
base.assert = N.assert

-- Whether C would read a number as the same `int`.
local function is_int(n)
  return type(n) == 'number' and n > -2^31 and n < 2^31
end

function base.select(...)
  local n = ...
  if n == '#' or is_int(n) then return raw_select(...) end
  return N.select(...)
end

function base.unpack(...)
  local t, i, j = ...
  if (i == nil or is_int(i)) and (j == nil or is_int(j)) then return raw_unpack(...) end
  return N.unpack(...)
end

-- A text is read up to the first byte that is 0.
function base.tonumber(...)
  local text, radix = ...
  if radix ~= nil or type(text) ~= 'string' then return raw_tonumber(...) end
  return raw_tonumber(text) or N.tonumber(text)
end

local null = N.cjson.null
function base.tostring(...)
  local value = ...
  if value == null and type(value) == 'userdata' then return N.null_text() end
  if value ~= value and type(value) == 'number' then return N.nan_text(value) end
  return raw_tostring(...)
end

function base.rawset(...)
  if P[(...)] then return error(READONLY, 0) end
  return raw_rawset(...)
end

function base.rawget(...)
  local t, k = ...
  local real = P[t]
  if real then return raw_rawget(real, k) end
  return raw_rawget(...)
end

function base.setmetatable(...)
  if P[(...)] then return error(READONLY, 0) end
  return raw_setmetatable(...)
end

function base.getmetatable(...)
  local t = ...
  if P[t] then return shown[t] end
  return raw_getmetatable(...)
end

-- Errors are tables inside; a script that catches one sees its text.
local function caught(ok, ...)
  if ok then return true, ... end
  local e = ...
  if type(e) == 'table' then
    local text = raw_rawget(P[e] or e, 'err')
    if type(text) == 'string' or type(text) == 'number' then return false, text end
    return false, e, text
  end
  return false, e
end

function base.pcall(...)
  -- What is called for want of a function is, in Redis, the value that stands for success.
  if select('#', ...) < 1 then return false, 'attempt to call a boolean value' end
  return caught(raw_pcall(...))
end

-- The handler runs after the stack was unwound: while an error of the hook is being raised, the hook is off, and a handler
-- that never ends could not be stopped.
local function handled(handler, ok, ...)
  if ok then return true, ... end
  local fine, e = raw_pcall(handler, ...)
  if fine then return false, e end
  return false, 'error in error handling'
end

function base.xpcall(...)
  local f, handler = ...
  if select('#', ...) < 2 then return N.xpcall_refused(...) end
  return handled(handler, raw_pcall(f))
end

local compile = N.loadstring
local function loaders(environment)
  local function loadstring(...)
    local text, name = ...
    local kind, named = type(text), type(name)
    if kind ~= 'string' and kind ~= 'number' then return compile(...) end
    if named ~= 'string' and named ~= 'number' and named ~= 'nil' then return compile(...) end
    local f, message = compile(text, name)
    if f then return raw_setfenv(f, environment) end
    return nil, message
  end
  local function load(...)
    local read, name = ...
    local named = type(name)
    if type(read) ~= 'function' or (named ~= 'string' and named ~= 'number' and named ~= 'nil') then
      return N.load_refused(...)
    end
    local parts, n, calls = {}, 0, 0
    while true do
      local ok, part = raw_pcall(read)
      if not ok then return nil, part end
      calls = calls + 1
      if part == nil or part == '' then
        -- Lua looks at the beginning twice: it reads once more if there was nothing.
        if calls > 1 then break end
      elseif type(part) ~= 'string' and type(part) ~= 'number' then
        return nil, 'reader function must return a string'
      else
        n = n + 1
        parts[n] = part
      end
    end
    return loadstring(concat(parts), name or '=(load)')
  end
  return load, loadstring
end

base.collectgarbage = N.collectgarbage
base.gcinfo = N.gcinfo

local raw_dump, is_of_a_script = string.dump, N.is_of_a_script
local string = {}
function string.dump(...)
  if not is_of_a_script((...)) then return N.dump_refused(...) end
  return raw_dump(...)
end
for name in ('byte char find format gsub len lower match rep reverse sub upper'):gmatch('%S+') do string[name] = N[name] end
local step = N.gmatch_step
function string.gmatch(...)
  local s, p = ...
  local ks, kp = type(s), type(p)
  if (ks ~= 'string' and ks ~= 'number') or (kp ~= 'string' and kp ~= 'number') then return N.gmatch_refused(...) end
  local from = 0
  local function advance(ended, ...)
    from = ended
    if ended then return ... end
    return nil
  end
  return function()
    if not from then return nil end
    return advance(step(s, p, from))
  end
end
string.gfind = string.gmatch

local raw_concat, raw_foreachi = table.concat, table.foreachi
local table = pick(table, [[maxn sort]])
table.setn, table.getn, table.remove = N.setn, N.getn, N.remove
function table.concat(...)
  local t, sep, i = ...
  if type(t) == 'table' and i == nil and (sep == nil or type(sep) == 'string') then return raw_concat(t, sep) end
  return N.concat(...)
end
function table.foreachi(...)
  local t, f = ...
  if type(t) ~= 'table' or type(f) ~= 'function' then return N.foreach_refused(...) end
  return raw_foreachi(t, f)
end
function table.insert(...)
  if P[(...)] then return error(READONLY, 0) end
  if raw_select('#', ...) == 3 then return N.insert(...) end
  return raw_insert(...)
end
function table.foreach(...)
  local t, f = ...
  local real = P[t]
  if type(t) ~= 'table' or type(f) ~= 'function' then return N.foreach_refused(...) end
  return raw_foreach(real or t, f)
end

local huge, pi = math.huge, math.pi
local math = N.math
math.huge, math.pi = huge, pi
math.mod, math.random, math.randomseed = math.fmod, N.random, N.randomseed

local bit = pick(bit, [[arshift band bnot bor bswap bxor lshift rol ror rshift tobit]])
bit.tohex = N.tohex

local coroutine = pick(coroutine, [[create resume running status yield]])
local raw_yield, raw_running = coroutine.yield, coroutine.running
function coroutine.yield(...)
  if not raw_running() then return N.yield_refused() end
  return raw_yield(...)
end
local raw_create, raw_resume = coroutine.create, coroutine.resume
function coroutine.create(...)
  if not is_of_a_script((...)) then return N.coroutine_refused(...) end
  return raw_create(...)
end
function coroutine.wrap(...)
  if not is_of_a_script((...)) then return N.coroutine_refused(...) end
  local thread = raw_create((...))
  return function(...) return N.resumed(raw_resume(thread, ...)) end
end

local libraries = {
  string = freeze(string),
  table = freeze(table),
  math = freeze(math),
  coroutine = freeze(coroutine),
  bit = freeze(bit),
  os = freeze({ clock = N.clock }),
  cjson = freeze(N.cjson),
  cmsgpack = freeze(N.cmsgpack),
  struct = freeze(N.struct),
}
for name in ([[call pcall sha1hex error_reply status_reply log setresp set_repl replicate_commands breakpoint debug
  acl_check_cmd]]):gmatch('%S+') do redis[name] = N['redis_' .. name] end
libraries.redis = freeze(redis)
libraries.server = libraries.redis

-- Methods of strings find the library itself; whoever asks for the metatable gets a copy that cannot be changed.
local strings = raw_getmetatable('')
strings.__index = string
strings.__metatable = freeze({ __index = libraries.string })

local function world(proxy)
  local globals = {}
  for name, value in raw_pairs(base) do globals[name] = value end
  for name, value in raw_pairs(libraries) do globals[name] = value end
  globals.load, globals.loadstring = loaders(proxy)
  globals._G = proxy
  raw_setmetatable(globals, { __index = N.missing, __newindex = N.readonly, __metatable = false })
  return globals
end

local function environment()
  local proxy = {}
  local meta = { __newindex = N.readonly, __metatable = false }
  raw_setmetatable(proxy, meta)
  local globals = world(proxy)
  meta.__index = globals
  P[proxy] = globals
  shown[proxy] = freeze({ __index = proxy })
  return proxy, meta, globals
end

local script_environment, _, script_globals = environment()
local function_environment, function_meta, function_globals = environment()

-- While a library is loaded, it sees nothing but what registers functions.
loading.register_function, loading.log = N.register_function, N.redis_log
raw_setmetatable(loading, { __index = N.missing })
local api = freeze(loading)
local load_globals = { redis = api, server = api }
raw_setmetatable(load_globals, { __index = N.missing })

return script_environment, script_globals, function_environment, function_meta, function_globals, load_globals
