//! Functions of the base library, and the guards of the libraries.

use super::c_text::processor_seconds;
use super::ffi::{Lua, Native};
use super::stack::Kind;
use crate::scripting::answer::{c_string, truncate};
use crate::scripting::engine::push_compiled;
use crate::scripting::run::{
    bad_argument, bad_kind, check_number, check_string, check_table, display, fail, number, opt_number,
};

/// Refuses an assignment to a read-only table.
pub fn readonly(lua: &mut Lua<'_>) -> Native {
    Err(fail(lua, b"Attempt to modify a readonly table"))
}

/// Refuses to read a global name that does not exist.
pub fn missing(lua: &mut Lua<'_>) -> Native {
    let name = display(lua, 2);
    let text = [b"Script attempted to access nonexistent global variable '", &name[..], b"'"].concat();
    Err(fail(lua, &text))
}

/// `loadstring(text, name)`: the function, or nil and a message. Precompiled code is refused.
pub fn loadstring(lua: &mut Lua<'_>) -> Native {
    check_string(lua, 1)?;
    let text = lua.bytes(1).unwrap_or_default().to_vec();
    let mut name = match lua.kind(2) {
        Kind::None | Kind::Nil => text.clone(),
        _ => {
            check_string(lua, 2)?;
            lua.to_bytes(2).unwrap_or_default().to_vec()
        }
    };
    name.truncate(memchr::memchr(0, &name).unwrap_or(name.len()));
    let name = std::ffi::CString::new(name).unwrap_or_default();
    let compiled = push_compiled(lua, &text, &name, |lua, _| lua.push_globals());
    match compiled {
        Ok(()) => Ok(1),
        Err(message) => {
            lua.push_nil();
            lua.push_bytes(&message);
            Ok(2)
        }
    }
}

/// `assert(value, message, …)`: all its arguments, or an error.
///
/// # Errors
/// The first argument is false or nil, or missing.
pub fn assert(lua: &mut Lua<'_>) -> Native {
    if lua.truth(1) {
        return Ok(lua.top() as usize);
    }
    if lua.kind(1) == Kind::None {
        return Err(bad_argument(lua, 1, "value expected"));
    }
    if matches!(lua.kind(2), Kind::None | Kind::Nil) {
        return Err(fail(lua, b"assertion failed!"));
    }
    check_string(lua, 2)?;
    let text = c_string(lua.bytes(2).unwrap_or_default()).to_vec();
    Err(fail(lua, &text))
}

/// `select(n, …)`: the values from the `n`th on. LuaJIT's own function handles the common cases.
///
/// # Errors
/// `n` is not a number, or out of range.
pub fn select(lua: &mut Lua<'_>) -> Native {
    let count = i64::from(lua.top());
    let n = i64::from(truncate(check_number(lua, 1)?) as i32);
    let n = if n < 0 { count + n } else { n.min(count) };
    if n < 1 {
        return Err(bad_argument(lua, 1, "index out of range"));
    }
    Ok((count - n) as usize)
}

/// `unpack(table, from, to)`, if a position is a string or does not fit a C `int`. LuaJIT's own function handles the
/// common cases.
///
/// # Errors
/// The first argument is not a table, a position is not a number, or there are too many values.
pub fn unpack(lua: &mut Lua<'_>) -> Native {
    /// Largest number of values that a native function may leave on the stack.
    const MOST: i64 = 8_000;
    check_table(lua, 1)?;
    let int = |x: f64| i64::from(truncate(x) as i32);
    let from = int(opt_number(lua, 2, 1.0)?);
    let to = match lua.kind(3) {
        Kind::None | Kind::Nil => lua.raw_len(1) as i64,
        _ => int(check_number(lua, 3)?),
    };
    let count = to - from + 1;
    if count <= 0 {
        return Ok(0);
    }
    if count > MOST || !lua.reserve(count as i32) {
        return Err(fail(lua, b"too many results to unpack"));
    }
    (from..=to).for_each(|i| lua.raw_get_index(1, i as i32));
    Ok(count as usize)
}

/// `tonumber(text)` for a string that LuaJIT does not convert. The part before its first NUL byte may be a number.
pub fn tonumber(lua: &mut Lua<'_>) -> Native {
    match number(lua, 1) {
        Some(x) => lua.push_number(x),
        None => lua.push_nil(),
    }
    Ok(1)
}

/// `tostring` of a NaN, with its sign, as C prints it.
pub fn nan_text(lua: &mut Lua<'_>) -> Native {
    lua.set_top(1);
    lua.to_bytes(1);
    Ok(1)
}

/// `error(value, level)`: raises the value. A string is prefixed with the position of the function at `level`; 1 is the
/// caller.
///
/// # Errors
/// Always.
pub fn error(lua: &mut Lua<'_>) -> Native {
    let level = truncate(opt_number(lua, 2, 1.0)?) as i32;
    lua.set_top(1);
    if level > 0 && matches!(lua.kind(1), Kind::String | Kind::Number) {
        let mut text = place(lua, level);
        text.extend_from_slice(lua.to_bytes(1).unwrap_or_default());
        lua.push_bytes(&text);
    }
    Err(lua.raise())
}

/// Position of the script's function at a level; empty for a native function. A function of the prelude and the native
/// function that it calls count as one level, because a script sees them as one native function.
fn place(lua: &mut Lua<'_>, level: i32) -> Vec<u8> {
    let (mut seen, mut wrapped) = (0, false);
    for raw in 1.. {
        let Some(frame) = lua.frame(raw) else { break };
        let of_prelude = !frame.native && frame.source == b"=[C]";
        seen += i32::from(!(of_prelude && wrapped));
        wrapped = frame.native;
        if seen == level && !of_prelude {
            lua.push_where(raw);
            let place = lua.bytes(-1).unwrap_or_default().to_vec();
            lua.pop(1);
            // Some of LuaJIT's functions are not native, but would be in Lua 5.1.
            let native = frame.native || place.starts_with(b"[builtin:");
            return if native { Vec::new() } else { place };
        }
    }
    Vec::new()
}

/// `tostring` of a light userdata: a null pointer is shown as C shows it.
pub fn null_text(lua: &mut Lua<'_>) -> Native {
    lua.push_bytes(b"userdata: (nil)");
    Ok(1)
}

/// The error of `coroutine.wrap` and `coroutine.create` for an argument that is not a Lua function.
///
/// # Errors
/// Always.
pub fn coroutine_refused(lua: &mut Lua<'_>) -> Native {
    Err(bad_argument(lua, 1, "Lua function expected"))
}

/// Whether the argument is a function from a script.
pub fn is_of_a_script(lua: &mut Lua<'_>) -> Native {
    let is = lua.is_of_a_script(1);
    lua.push_bool(is);
    Ok(1)
}

/// The error of `string.dump` for an argument that is not a function from a script.
///
/// # Errors
/// Always.
pub fn dump_refused(lua: &mut Lua<'_>) -> Native {
    if lua.kind(1) != Kind::Function {
        return Err(bad_kind(lua, 1, "function"));
    }
    Err(fail(lua, b"unable to dump given function"))
}

/// Converts the results of `coroutine.resume` to those of a function made by `coroutine.wrap`, or raises the error. As
/// in Lua 5.1, an error string is prefixed with a position once more.
pub fn resumed(lua: &mut Lua<'_>) -> Native {
    if lua.truth(1) {
        lua.remove(1);
        return Ok(lua.top() as usize);
    }
    lua.set_top(2);
    if matches!(lua.kind(2), Kind::String | Kind::Number) {
        let text = lua.to_bytes(2).unwrap_or_default().to_vec();
        return Err(fail(lua, &text));
    }
    Err(lua.raise())
}

/// The error of `coroutine.yield` outside a coroutine.
///
/// # Errors
/// Always.
pub fn yield_refused(lua: &mut Lua<'_>) -> Native {
    lua.push_bytes(b"attempt to yield across metamethod/C-call boundary");
    Err(lua.raise())
}

/// The error of `xpcall` without a handler.
///
/// # Errors
/// Always.
pub fn xpcall_refused(lua: &mut Lua<'_>) -> Native {
    Err(bad_argument(lua, 2, "value expected"))
}

/// The error of `load` for an argument that is not a function, or a name that is not a string.
pub fn load_refused(lua: &mut Lua<'_>) -> Native {
    if !matches!(lua.kind(2), Kind::None | Kind::Nil) {
        check_string(lua, 2)?;
    }
    Err(bad_kind(lua, 1, "function"))
}

/// `collectgarbage(option)`. The collector cannot be stopped or tuned, since that would outlast the script.
pub fn collectgarbage(lua: &mut Lua<'_>) -> Native {
    let option = match lua.kind(1) {
        Kind::None | Kind::Nil => b"collect".to_vec(),
        _ => {
            check_string(lua, 1)?;
            lua.bytes(1).unwrap_or_default().to_vec()
        }
    };
    match option.as_slice() {
        b"collect" => {
            lua.collect();
            lua.push_number(0.0);
        }
        b"count" => lua.push_number(lua.used() as f64 / 1024.0),
        b"step" => {
            let done = lua.tune_collector(super::ffi::Collector::Step, 0) != 0;
            lua.push_bool(done);
        }
        b"stop" | b"restart" => lua.push_number(0.0),
        b"setpause" => lua.push_number(100.0),
        b"setstepmul" => lua.push_number(200.0),
        _ => {
            return Err(bad_argument(lua, 1, [b"invalid option '", &option[..], b"'"].concat()));
        }
    }
    Ok(1)
}

/// `gcinfo()`: size of the heap in whole kilobytes.
pub fn gcinfo(lua: &mut Lua<'_>) -> Native {
    lua.push_number((lua.used() / 1024) as f64);
    Ok(1)
}

/// `table.setn`, which is obsolete.
pub fn setn(lua: &mut Lua<'_>) -> Native {
    check_table(lua, 1)?;
    Err(fail(lua, b"'setn' is obsolete"))
}

/// `os.clock()`: seconds of processor time.
pub fn clock(lua: &mut Lua<'_>) -> Native {
    lua.push_number(processor_seconds());
    Ok(1)
}

/// `bit.tohex(x, n)`: `n` hexadecimal digits, at most eight; in upper case if `n` is negative.
pub fn tohex(lua: &mut Lua<'_>) -> Native {
    // The low 32 bits, after rounding to an integer: adding 2^52 + 2^51 moves them to the low end of the mantissa.
    let low_bits = |x: f64| (x + 6_755_399_441_055_744.0).to_bits() as u32;
    let bits = low_bits(check_number(lua, 1)?);
    let n = if lua.kind(2) == Kind::None { 8 } else { low_bits(check_number(lua, 2)?).cast_signed() };
    let digits = n.unsigned_abs().min(8) as usize;
    let text = if n < 0 { format!("{bits:08X}") } else { format!("{bits:08x}") };
    lua.push_bytes(&text.as_bytes()[8 - digits..]);
    Ok(1)
}
