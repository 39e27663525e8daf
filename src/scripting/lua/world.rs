//! The environments that scripts and functions run in, built once by `prelude.lua`.

use super::base;
use super::ffi::{Lua, Native, Reference};
use super::{format, math, strings, tables};
use crate::scripting::lib::{cjson, cmsgpack, random, structs};
use crate::scripting::{api, functions, run};

/// Values of the Lua state that the engine uses repeatedly.
pub struct World {
    /// The error handler, which completes error values.
    pub handler: Reference,
    /// The table KEYS of scripts, which is reused.
    pub keys: Reference,
    /// The table ARGV of scripts, which is reused.
    pub argv: Reference,
    /// Environment of scripts that assign to no global name.
    pub script_globals: Reference,
    /// Environment of all other scripts, a read-only proxy.
    script_environment: Reference,
    /// Environment of libraries, which is a proxy; its metatable; and the tables that it shows while functions run and
    /// while a library is loaded.
    function_environment: Reference,
    function_meta: Reference,
    function_globals: Reference,
    load_globals: Reference,
}

fn field<F>(lua: &mut Lua<'_>, name: &str, function: F)
where
    F: Fn(&mut Lua<'_>) -> Native + Copy + 'static,
{
    lua.push_function(function);
    lua.raw_set_field(-2, name);
}

/// Pushes the table of native functions.
fn push_natives(lua: &mut Lua<'_>) {
    lua.new_table(0, 64);
    field(lua, "readonly", base::readonly);
    field(lua, "missing", base::missing);
    field(lua, "loadstring", base::loadstring);
    field(lua, "load_refused", base::load_refused);
    field(lua, "collectgarbage", base::collectgarbage);
    field(lua, "gcinfo", base::gcinfo);
    field(lua, "setn", base::setn);
    field(lua, "clock", base::clock);
    field(lua, "tohex", base::tohex);
    field(lua, "assert", base::assert);
    field(lua, "error", base::error);
    field(lua, "select", base::select);
    field(lua, "unpack", base::unpack);
    field(lua, "tonumber", base::tonumber);
    field(lua, "nan_text", base::nan_text);
    field(lua, "null_text", base::null_text);
    field(lua, "coroutine_refused", base::coroutine_refused);
    field(lua, "resumed", base::resumed);
    field(lua, "is_of_a_script", base::is_of_a_script);
    field(lua, "dump_refused", base::dump_refused);
    field(lua, "yield_refused", base::yield_refused);
    field(lua, "xpcall_refused", base::xpcall_refused);
    field(lua, "getn", tables::getn);
    field(lua, "insert", tables::insert);
    field(lua, "remove", tables::remove);
    field(lua, "concat", tables::concat);
    field(lua, "foreach_refused", tables::foreach_refused);
    field(lua, "ipairs_refused", tables::ipairs_refused);
    field(lua, "find", strings::find);
    field(lua, "match", strings::find_match);
    field(lua, "gsub", strings::gsub);
    field(lua, "gmatch_step", strings::gmatch_step);
    field(lua, "gmatch_refused", strings::gmatch_refused);
    field(lua, "rep", strings::rep);
    field(lua, "byte", strings::byte);
    field(lua, "char", strings::char);
    field(lua, "len", strings::len);
    field(lua, "lower", strings::lower);
    field(lua, "reverse", strings::reverse);
    field(lua, "sub", strings::sub);
    field(lua, "upper", strings::upper);
    field(lua, "format", format::format);
    field(lua, "random", random::random);
    field(lua, "randomseed", random::randomseed);
    field(lua, "register_function", functions::register_function);
    field(lua, "redis_call", api::call);
    field(lua, "redis_pcall", api::pcall);
    field(lua, "redis_sha1hex", api::sha1hex);
    field(lua, "redis_error_reply", api::error_reply);
    field(lua, "redis_status_reply", api::status_reply);
    field(lua, "redis_log", api::log);
    field(lua, "redis_setresp", api::setresp);
    field(lua, "redis_set_repl", api::set_repl);
    field(lua, "redis_replicate_commands", api::replicate_commands);
    field(lua, "redis_breakpoint", api::breakpoint);
    field(lua, "redis_debug", api::debug);
    field(lua, "redis_acl_check_cmd", api::acl_check_cmd);

    lua.new_table(0, 32);
    field(lua, "abs", math::abs);
    field(lua, "acos", math::acos);
    field(lua, "asin", math::asin);
    field(lua, "atan", math::atan);
    field(lua, "atan2", math::atan2);
    field(lua, "ceil", math::ceil);
    field(lua, "cos", math::cos);
    field(lua, "cosh", math::cosh);
    field(lua, "deg", math::deg);
    field(lua, "exp", math::exp);
    field(lua, "floor", math::floor);
    field(lua, "fmod", math::fmod);
    field(lua, "frexp", math::frexp);
    field(lua, "ldexp", math::ldexp);
    field(lua, "log", math::log);
    field(lua, "log10", math::log10);
    field(lua, "max", math::max);
    field(lua, "min", math::min);
    field(lua, "modf", math::modf);
    field(lua, "pow", math::pow);
    field(lua, "rad", math::rad);
    field(lua, "sin", math::sin);
    field(lua, "sinh", math::sinh);
    field(lua, "sqrt", math::sqrt);
    field(lua, "tan", math::tan);
    field(lua, "tanh", math::tanh);
    lua.raw_set_field(-2, "math");

    lua.new_table(0, 16);
    cjson::fill(lua);
    lua.raw_set_field(-2, "cjson");

    lua.new_table(0, 8);
    field(lua, "pack", cmsgpack::pack);
    field(lua, "unpack", cmsgpack::unpack);
    field(lua, "unpack_one", cmsgpack::unpack_one);
    field(lua, "unpack_limit", cmsgpack::unpack_limit);
    for (name, text) in [
        ("_NAME", "cmsgpack"),
        ("_VERSION", "lua-cmsgpack 0.4.0"),
        ("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
        ("_DESCRIPTION", "MessagePack C implementation for Lua"),
    ] {
        lua.push_bytes(text.as_bytes());
        lua.raw_set_field(-2, name);
    }
    lua.raw_set_field(-2, "cmsgpack");

    lua.new_table(0, 4);
    field(lua, "pack", structs::pack);
    field(lua, "unpack", structs::unpack);
    field(lua, "size", structs::size);
    lua.raw_set_field(-2, "struct");
}

impl World {
    /// Builds the environments in a new Lua state.
    ///
    /// # Panics
    /// If the prelude fails, which is a bug.
    pub fn build(lua: &mut Lua<'_>) -> World {
        lua.load(include_bytes!("prelude.lua"), c"=[C]").unwrap_or_else(|_| broken(lua));
        push_natives(lua);
        for loading in [false, true] {
            lua.new_table(0, 32);
            api::push_constants(lua, -1, loading);
        }
        lua.call(3, Some(6), None).unwrap_or_else(|_| broken(lua));
        let load_globals = lua.keep();
        let function_globals = lua.keep();
        let function_meta = lua.keep();
        let function_environment = lua.keep();
        let script_globals = lua.keep();
        lua.push_value(-1);
        lua.state().environment = Some(lua.keep());
        let script_environment = lua.keep();
        lua.push_handler(run::handler);
        let handler = lua.keep();
        let mut arguments = ["KEYS", "ARGV"].map(|name| {
            lua.push_kept(&script_globals);
            lua.new_table(4, 0);
            lua.push_value(-1);
            let table = lua.keep();
            lua.raw_set_field(-2, name);
            lua.pop(1);
            Some(table)
        });
        let keys = arguments[0].take().expect("it was made above");
        let argv = arguments[1].take().expect("it was made above");
        lua.collect();
        World {
            handler,
            keys,
            argv,
            script_globals,
            script_environment,
            function_environment,
            function_meta,
            function_globals,
            load_globals,
        }
    }

    /// Pushes the environment of a script. `guarded` means that the script may assign to a global name.
    pub fn push_script(&self, lua: &mut Lua<'_>, guarded: bool) {
        lua.push_kept(if guarded { &self.script_environment } else { &self.script_globals });
    }

    /// Pushes the environment of libraries.
    pub fn push_function(&self, lua: &mut Lua<'_>) {
        lua.push_kept(&self.function_environment);
    }

    /// Chooses the table that the environment of libraries shows: the one for loading, or the one for running
    /// functions.
    pub fn set_loading(&self, lua: &mut Lua<'_>, loading: bool) {
        lua.push_kept(&self.function_meta);
        lua.push_kept(if loading { &self.load_globals } else { &self.function_globals });
        lua.raw_set_field(-2, "__index");
        lua.pop(1);
    }
}

/// Reports that the prelude failed.
fn broken(lua: &mut Lua<'_>) -> usize {
    panic!("the prelude is broken: {}", String::from_utf8_lossy(&run::display(lua, -1)));
}
