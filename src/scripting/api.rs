//! `redis.*`, also available as `server.*`.

use sha1::{Digest, Sha1};

use super::answer::c_string;
use super::host::{LogLevel, Repl};
use super::lua::ffi::{Lua, Native, Raise};
use super::lua::stack::Kind;
use super::run::{push_error, raise_table};
use super::sink::{Given, Sink};
use super::state::{Commands, NAMES, Scratch};
use crate::resp::request::Span;
use crate::resp::{Args, Protocol};
use crate::stdx::num;

/// Largest argument buffer kept for the next call, in bytes.
const SCRATCH_KEPT: usize = 1 << 16;

/// `redis.call(command, …)`: the reply of the command. Errors are raised.
pub fn call(lua: &mut Lua<'_>) -> Native {
    run(lua, true)
}

/// `redis.pcall(command, …)`: the reply of the command. Errors are returned as tables.
pub fn pcall(lua: &mut Lua<'_>) -> Native {
    run(lua, false)
}

/// Raises the error on top of the stack, or returns it.
fn settle(lua: &mut Lua<'_>, raising: bool) -> Native {
    if raising { Err(lua.raise()) } else { Ok(1) }
}

fn run(lua: &mut Lua<'_>, raising: bool) -> Native {
    let mut scratch = std::mem::take(&mut lua.state().scratch);
    let result = match gather(lua, &mut scratch) {
        Err(text) => {
            push_error(lua, text.as_bytes());
            if let Some(debugger) = &mut lua.state().debugger {
                debugger.say_refusal(text.as_bytes());
            }
            Ok(Given::Error)
        }
        Ok(()) => {
            let command = command(lua);
            let args = Args::new(&scratch.bytes, &scratch.spans, &[]);
            let result = perform(lua, command, args);
            if lua.state().debugger.is_some()
                && let Ok(given) = result
            {
                tell(lua, args, given);
            }
            result
        }
    };
    if scratch.bytes.capacity() > SCRATCH_KEPT {
        scratch = Scratch::default();
    }
    lua.state().scratch = scratch;
    match result? {
        Given::Error | Given::Refused => settle(lua, raising),
        _ => Ok(1),
    }
}

/// Lets the host run a command and pushes its reply.
///
/// # Errors
/// The host cannot be called now, or gave no reply or one that is nested too deeply.
#[inline]
pub(super) fn perform(lua: &mut Lua<'_>, command: Option<u32>, args: Args<'_>) -> Result<Given, Raise> {
    let protocol = lua.state().protocol;
    let given = lua.with_host(|host, lua| {
        let mut sink = Sink::new(lua, protocol);
        host.call(command, args, protocol, &mut sink);
        sink.finish()
    });
    given.unwrap_or_else(|| Err(raise_table(lua, b"ERR commands cannot be called here")))
}

/// Reports a command that ran to the debugger.
#[cold]
fn tell(lua: &mut Lua<'_>, args: Args<'_>, given: Given) {
    if let Some(mut debugger) = lua.state().debugger.take() {
        debugger.say_call(lua, args, given);
        lua.state().debugger = Some(debugger);
    }
}

/// The host's number for the command in the first argument.
#[inline]
fn command(lua: &mut Lua<'_>) -> Option<u32> {
    let address = lua.bytes(1)?.as_ptr().addr();
    lua.state().commands.find(address).or_else(|| resolve(lua, address))
}

/// Asks the host for the number and remembers it.
#[cold]
fn resolve(lua: &mut Lua<'_>, address: usize) -> Option<u32> {
    let name = lua.bytes(1)?.to_vec();
    let id = lua.with_host(|host, _| host.resolve(&name)).flatten()?;
    let texts = lua.state().commands.texts.take().unwrap_or_else(|| {
        lua.new_table(NAMES, 0);
        lua.keep()
    });
    let place = Commands::place(address);
    lua.push_kept(&texts);
    lua.push_value(1);
    lua.raw_set_index(-2, place + 1);
    lua.pop(1);
    let commands = &mut lua.state().commands;
    commands.texts = Some(texts);
    commands.known[place] = (address, id);
    Some(id)
}

/// Copies the arguments of the running function into `scratch`.
fn gather(lua: &mut Lua<'_>, scratch: &mut Scratch) -> Result<(), &'static str> {
    scratch.bytes.clear();
    scratch.spans.clear();
    let count = lua.top();
    if count == 0 {
        return Err("ERR Please specify at least one argument for this redis lib call");
    }
    for at in 1..=count {
        let start = scratch.bytes.len();
        if let Some(bytes) = lua.bytes(at) {
            scratch.bytes.extend_from_slice(bytes);
        } else if let Some(x) = lua.number(at) {
            write_number(x, &mut scratch.bytes);
        } else {
            return Err("ERR Lua redis lib command arguments must be strings or integers");
        }
        let end = scratch.bytes.len();
        if end >= u32::MAX as usize {
            return Err("ERR the arguments are longer than 4 GB");
        }
        scratch.spans.push(Span::within(start, end - start));
    }
    Ok(())
}

/// Writes a number as an argument: an integer in plain digits, other numbers in the shortest form that reads back the
/// same.
fn write_number(x: f64, out: &mut Vec<u8>) {
    let whole = x as i64;
    if whole as f64 == x && x.abs() <= (1u64 << 62) as f64 {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else if x.is_nan() {
        out.extend_from_slice(b"-nan");
    } else {
        let mut text = num::FloatBuf::new();
        out.extend_from_slice(num::fmt_f64(x, &mut text));
    }
}

/// `redis.acl_check_cmd(command, …)`: whether the user may run the command.
pub fn acl_check_cmd(lua: &mut Lua<'_>) -> Native {
    let mut scratch = std::mem::take(&mut lua.state().scratch);
    let allowed = gather(lua, &mut scratch).and_then(|()| {
        let args = Args::new(&scratch.bytes, &scratch.spans, &[]);
        let answer = lua.with_host(|host, _| host.acl_check(args)).flatten();
        answer.ok_or("ERR Invalid command passed to redis.acl_check_cmd()")
    });
    lua.state().scratch = scratch;
    match allowed {
        Ok(yes) => {
            lua.push_bool(yes);
            Ok(1)
        }
        Err(text) => Err(raise_table(lua, text.as_bytes())),
    }
}

/// `redis.sha1hex(text)`.
pub fn sha1hex(lua: &mut Lua<'_>) -> Native {
    if lua.top() != 1 {
        return Err(raise_table(lua, b"ERR wrong number of arguments"));
    }
    let digest = sha1_hex(lua.to_bytes(1).unwrap_or_default());
    lua.push_bytes(&digest);
    Ok(1)
}

/// The SHA-1 of `bytes` in lower-case hexadecimal. O(n).
pub fn sha1_hex(bytes: &[u8]) -> [u8; 40] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 40];
    for (pair, byte) in text.chunks_exact_mut(2).zip(Sha1::digest(bytes)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// `redis.status_reply(text)`: `{ok=text}`.
pub fn status_reply(lua: &mut Lua<'_>) -> Native {
    if lua.top() != 1 || lua.kind(1) != Kind::String {
        push_error(lua, b"ERR wrong number or type of arguments");
        return Ok(1);
    }
    lua.new_table(0, 1);
    lua.push_value(1);
    lua.raw_set_field(-2, "ok");
    Ok(1)
}

/// `redis.error_reply(text)`: `{err=text}`, with the code `ERR` if the text has none.
pub fn error_reply(lua: &mut Lua<'_>) -> Native {
    if lua.top() != 1 || lua.kind(1) != Kind::String {
        push_error(lua, b"ERR wrong number or type of arguments");
        return Ok(1);
    }
    let text = c_string(lua.bytes(1).unwrap_or_default());
    let end = text.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |i| i + 1);
    // The first word is the code. A leading minus belongs to the protocol.
    let text = &text[..end];
    let plain = text.strip_prefix(b"-").unwrap_or(text);
    let error = if plain.contains(&b' ') { plain.to_vec() } else { [b"ERR ", plain].concat() };
    push_error(lua, &error);
    Ok(1)
}

/// `redis.log(level, text, …)`.
pub fn log(lua: &mut Lua<'_>) -> Native {
    let count = lua.top();
    if count < 2 {
        return Err(raise_table(lua, b"ERR redis.log() requires two arguments or more."));
    }
    let Some(level) = lua.to_number(1) else {
        return Err(raise_table(lua, b"ERR First argument must be a number (log level)."));
    };
    let level = match level as i64 {
        0 => LogLevel::Debug,
        1 => LogLevel::Verbose,
        2 => LogLevel::Notice,
        3 => LogLevel::Warning,
        _ => return Err(raise_table(lua, b"ERR Invalid log level.")),
    };
    let mut line = Vec::new();
    for at in 2..=count {
        if let Some(text) = lua.to_bytes(at) {
            if at > 2 {
                line.push(b' ');
            }
            line.extend_from_slice(text);
        }
    }
    lua.with_host(|host, _| host.log(level, &line));
    Ok(0)
}

/// `redis.setresp(2 | 3)`: sets the protocol in which replies are converted from now on.
pub fn setresp(lua: &mut Lua<'_>) -> Native {
    if lua.top() != 1 {
        return Err(raise_table(lua, b"ERR redis.setresp() requires one argument."));
    }
    let protocol = match lua.to_number(1).map(|n| n as i64) {
        Some(2) => Protocol::Resp2,
        Some(3) => Protocol::Resp3,
        _ => return Err(raise_table(lua, b"ERR RESP version must be 2 or 3.")),
    };
    lua.state().protocol = protocol;
    Ok(0)
}

/// `redis.set_repl(flags)`: 1 for the append-only file, 2 for the replicas.
pub fn set_repl(lua: &mut Lua<'_>) -> Native {
    if lua.top() != 1 {
        return Err(raise_table(lua, b"ERR redis.set_repl() requires one argument."));
    }
    let flags = lua.to_number(1).unwrap_or(0.0) as i64;
    if flags & !3 != 0 {
        let text = b"ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
        return Err(raise_table(lua, text));
    }
    lua.with_host(|host, _| host.set_repl(Repl { log: flags & 1 != 0, replicas: flags & 2 != 0 }));
    Ok(0)
}

/// `redis.replicate_commands()`: true, since the commands that a script runs are always replicated instead of the
/// script.
pub fn replicate_commands(lua: &mut Lua<'_>) -> Native {
    lua.push_bool(true);
    Ok(1)
}

/// `redis.breakpoint()`: whether a debugger will stop at the next line.
pub fn breakpoint(lua: &mut Lua<'_>) -> Native {
    let debugger = &mut lua.state().debugger;
    if let Some(debugger) = debugger {
        debugger.stop_soon();
    }
    let stops = debugger.is_some();
    lua.push_bool(stops);
    Ok(1)
}

/// `redis.debug(…)`: outputs values in the debugger.
pub fn debug(lua: &mut Lua<'_>) -> Native {
    if let Some(mut debugger) = lua.state().debugger.take() {
        debugger.say_debug(lua);
        lua.state().debugger = Some(debugger);
    }
    Ok(0)
}

/// Adds the fields that are not functions: log levels, destinations of writes, versions.
pub fn push_constants(lua: &mut Lua<'_>, at: i32, loading: bool) {
    let at = lua.absolute(at);
    let number = |lua: &mut Lua<'_>, name: &str, n: f64| {
        lua.push_number(n);
        lua.raw_set_field(at, name);
    };
    let version = lua.state().version;
    let parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version_num = parts.fold(0, |sum, part| sum << 8 | part);
    for (name, n) in [("LOG_DEBUG", 0), ("LOG_VERBOSE", 1), ("LOG_NOTICE", 2), ("LOG_WARNING", 3)] {
        number(lua, name, f64::from(n));
    }
    for name in ["REDIS_VERSION_NUM", "VALKEY_VERSION_NUM", "SERVER_VERSION_NUM"] {
        number(lua, name, f64::from(version_num));
    }
    if !loading {
        for (name, n) in
            [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)]
        {
            number(lua, name, f64::from(n));
        }
    }
    for (name, text) in [
        ("REDIS_VERSION", version),
        ("VALKEY_VERSION", version),
        ("SERVER_VERSION", version),
        ("SERVER_NAME", "spinel"),
    ] {
        lua.push_bytes(text.as_bytes());
        lua.raw_set_field(at, name);
    }
}
