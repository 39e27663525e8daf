//! Runs Lua code: the interrupt hook, the error handler, and the call itself.

use super::host::Verdict;
use super::lua::ffi::{Hook, Lua, Native, Raise};
use super::lua::stack::Kind;
use super::state::Phase;
use crate::stdx::clock;

/// Called every few milliseconds while Lua code runs.
///
/// # Errors
/// The Lua code must end.
pub fn on_hook(lua: &mut Lua<'_>) -> Result<(), Raise> {
    if !lua.state().killed {
        match lua.state().phase {
            Phase::Loading { deadline_us } => {
                if clock::monotonic_us() < deadline_us {
                    return Ok(());
                }
            }
            _ => {
                if lua.with_host(|host, _| host.interrupted()) != Some(Verdict::Kill) {
                    return Ok(());
                }
            }
        }
        lua.state().killed = true;
        lua.set_hook(Hook::Always);
    }
    let text = match lua.state().phase {
        Phase::Loading { .. } => "ERR FUNCTION LOAD timeout",
        Phase::Function => "ERR Script killed by user with FUNCTION KILL.",
        _ => "ERR Script killed by user with SCRIPT KILL.",
    };
    Err(raise_table(lua, text.as_bytes()))
}

/// Raises an error as a table with this text, as scripts see errors.
pub fn raise_table(lua: &mut Lua<'_>, text: &[u8]) -> Raise {
    push_error(lua, text);
    lua.raise()
}

/// Pushes the table `{err=text}`.
pub fn push_error(lua: &mut Lua<'_>, text: &[u8]) {
    lua.new_table(0, 1);
    lua.push_bytes(text);
    lua.raw_set_field(-2, "err");
}

/// Raises an error string prefixed with the position in the script.
pub fn fail(lua: &mut Lua<'_>, text: &[u8]) -> Raise {
    // The position must be in the script itself, not in the prelude.
    let mut message = Vec::new();
    for level in 1.. {
        lua.push_where(level);
        message.clear();
        message.extend_from_slice(lua.bytes(-1).unwrap_or_default());
        lua.pop(1);
        if !message.starts_with(b"[C]:") && !message.starts_with(b"[builtin:") {
            break;
        }
    }
    message.extend_from_slice(text);
    lua.push_bytes(&message);
    lua.raise()
}

/// Raises Lua's error about argument `n` of the running function, counted from 1.
#[cold]
pub fn bad_argument(lua: &mut Lua<'_>, n: i32, what: impl AsRef<[u8]>) -> Raise {
    let (name, method) = match lua.frame(0) {
        Some(frame) if !frame.name.is_empty() => (frame.name, frame.method),
        _ => (b"?".to_vec(), false),
    };
    let (before, after): (String, &[u8]) = match (method, n) {
        (true, 1) => ("calling '".into(), b"' on bad self ("),
        (true, n) => (format!("bad argument #{} to '", n - 1), b"' ("),
        (false, n) => (format!("bad argument #{n} to '"), b"' ("),
    };
    let text = [before.as_bytes(), &name, after, what.as_ref(), b")"].concat();
    fail(lua, &text)
}

/// Raises the error that argument `n` has the wrong type.
#[cold]
pub fn bad_kind(lua: &mut Lua<'_>, n: i32, expected: &str) -> Raise {
    let got = lua.kind(n).name();
    bad_argument(lua, n, format!("{expected} expected, got {got}"))
}

/// Argument `n` as a number.
///
/// # Errors
/// The argument is not a number.
pub fn check_number(lua: &mut Lua<'_>, n: i32) -> Result<f64, Raise> {
    match number(lua, n) {
        Some(x) => Ok(x),
        None => Err(bad_kind(lua, n, "number")),
    }
}

/// The number at `n`. A string is converted up to its first NUL byte.
#[inline]
pub fn number(lua: &mut Lua<'_>, n: i32) -> Option<f64> {
    lua.to_number(n).or_else(|| number_in_c_text(lua, n))
}

#[cold]
fn number_in_c_text(lua: &mut Lua<'_>, n: i32) -> Option<f64> {
    let text = lua.bytes(n)?;
    let end = memchr::memchr(0, text)?;
    let text = text[..end].to_vec();
    lua.push_bytes(&text);
    let number = lua.to_number(-1);
    lua.pop(1);
    number
}

/// Argument `n` as a number, or `default` if it is missing.
///
/// # Errors
/// The argument is neither missing nor a number.
pub fn opt_number(lua: &mut Lua<'_>, n: i32, default: f64) -> Result<f64, Raise> {
    if matches!(lua.kind(n), Kind::Nil | Kind::None) { Ok(default) } else { check_number(lua, n) }
}

/// Checks that argument `n` is a string or a number, and converts a number to a string.
///
/// # Errors
/// The argument is neither a string nor a number.
pub fn check_string(lua: &mut Lua<'_>, n: i32) -> Result<(), Raise> {
    if lua.kind(n) == Kind::None || lua.to_bytes(n).is_none() {
        Err(bad_kind(lua, n, "string"))
    } else {
        Ok(())
    }
}

/// Checks that argument `n` is a table.
///
/// # Errors
/// The argument is not a table.
pub fn check_table(lua: &mut Lua<'_>, n: i32) -> Result<(), Raise> {
    if lua.kind(n) == Kind::Table { Ok(()) } else { Err(bad_kind(lua, n, "table")) }
}

/// The error handler: converts an error to a table with its position in the script.
pub fn handler(lua: &mut Lua<'_>) -> Native {
    lua.set_top(1);
    if lua.kind(1) != Kind::Table {
        let mut text = b"ERR ".to_vec();
        text.extend_from_slice(&display(lua, 1));
        push_error(lua, &text);
        lua.replace(1);
    }
    // Position of the function that raised, or of its caller if that function is native. Functions of the prelude do
    // not count.
    let frames = (1..8).map_while(|level| lua.frame(level));
    let mut frames = frames.filter(|frame| frame.native || frame.source != b"=[C]");
    let frame = match frames.next() {
        Some(frame) if frame.native => frames.next(),
        frame => frame,
    };
    if let Some(frame) = frame {
        // Functions of the prelude, and those that LuaJIT wrote in Lua, count as native.
        let script = !frame.native && frame.line > 0;
        let (source, line) = if script { (&frame.source[..], frame.line) } else { (&b"=[C]"[..], -1) };
        lua.push_bytes(source);
        lua.raw_set_field(1, "source");
        lua.push_number(line as f64);
        lua.raw_set_field(1, "line");
    }
    Ok(1)
}

/// The value as a string, as by Lua's `tostring` without metamethods.
pub fn display(lua: &mut Lua<'_>, at: i32) -> Vec<u8> {
    match lua.kind(at) {
        Kind::String => lua.bytes(at).unwrap_or_default().to_vec(),
        Kind::Number => {
            lua.push_value(at);
            let text = lua.to_bytes(-1).unwrap_or_default().to_vec();
            lua.pop(1);
            text
        }
        Kind::Boolean => {
            if lua.truth(at) {
                b"true".to_vec()
            } else {
                b"false".to_vec()
            }
        }
        Kind::Nil | Kind::None => b"nil".to_vec(),
        Kind::Pointer if lua.is_null(at) => b"userdata: (nil)".to_vec(),
        kind => format!("{}: {:#x}", kind.name(), lua.address(at)).into_bytes(),
    }
}

/// Contents of the error handler's table.
#[derive(Debug, Default)]
pub struct Failure {
    /// Error text with its code.
    pub text: Vec<u8>,
    /// Whether the error came from a command and has been counted.
    pub counted: bool,
    /// Source name, such as `@user_script`, and line of the error.
    pub place: Option<(Vec<u8>, i64)>,
}

/// Reads the error on top of the stack and pops it.
pub fn failure(lua: &mut Lua<'_>) -> Failure {
    if lua.kind(-1) != Kind::Table {
        // The handler itself failed because memory or stack space was short.
        let mut text = b"ERR ".to_vec();
        text.extend_from_slice(&display(lua, -1));
        lua.pop(1);
        return Failure { text, ..Failure::default() };
    }
    lua.raw_get_field(-1, "err");
    let text = match lua.kind(-1) {
        Kind::String | Kind::Number => display(lua, -1),
        _ => b"ERR unknown error".to_vec(),
    };
    lua.raw_get_field(-2, "ignore_error_stats_update");
    let counted = lua.truth(-1);
    lua.raw_get_field(-3, "source");
    lua.raw_get_field(-4, "line");
    let place = match (lua.bytes(-2), lua.number(-1)) {
        (Some(source), Some(line)) => Some((source.to_vec(), line as i64)),
        _ => None,
    };
    lua.pop(5);
    Failure { text, counted, place }
}

/// Counts one step of a native function that may run for long. Now and then, asks the host whether the script may
/// continue, and checks that the `bytes` bytes built so far fit into memory.
///
/// # Errors
/// The script must end, or memory is exhausted.
#[inline]
pub fn tick(lua: &mut Lua<'_>, steps: &mut u32, bytes: usize) -> Result<(), Raise> {
    *steps = steps.wrapping_add(1);
    if *steps & 0x3fff != 0 {
        return Ok(());
    }
    if *steps & 0xffff == 0 {
        on_hook(lua)?;
    }
    lua.room_for(bytes)
}
