//! Writes the result of a script as a reply.
//!
//! The traversal keeps its own stack, so nesting costs no native stack. The limit on nesting is that of Redis, which
//! counts slots of the Lua stack.

use std::borrow::Cow;

use super::lua::ffi::Lua;
use super::lua::stack::{Kind, LARGEST_FRAME};
use crate::resp::reply::Deferred;
use crate::resp::{Error, Protocol, Reply};

/// A table whose values are being written. It is on the Lua stack, with the key and value of the current pair above it.
enum Walk {
    Items { next: usize, at: Deferred },
    Pairs { count: usize, at: Deferred, part: Pair, map: bool },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pair {
    Key,
    Value,
}

impl Walk {
    /// Number of Lua stack slots that Redis uses for one level of this kind.
    fn cost(&self) -> i32 {
        match self {
            Walk::Items { .. } => 1,
            Walk::Pairs { .. } => 3,
        }
    }
}

/// Kind of the reply, for the statistics of errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// A value.
    Value,
    /// An error table. It is counted as an error unless it is a command's error that has been counted.
    Error { counted: bool },
}

/// Writes the value on top of the stack as a reply and pops it. O(size of the value).
pub fn write(lua: &mut Lua<'_>, reply: &mut Reply<'_>, script: Protocol) -> Written {
    let mut open = Vec::new();
    let mut used = 2;
    let mut written = Written::Value;
    if let Some(walk) = value(lua, reply, script, used, &mut written) {
        used += walk.cost();
        open.push(walk);
    }
    let outcome = written;
    while let Some(walk) = open.last_mut() {
        let inner = match walk {
            Walk::Items { next, .. } => {
                lua.raw_get_index(-1, *next as i32 + 1);
                if lua.kind(-1) == Kind::Nil {
                    lua.pop(2);
                    used -= 1;
                    if let Some(Walk::Items { next, at }) = open.pop() {
                        reply.end_array(at, next);
                    }
                    continue;
                }
                *next += 1;
                value(lua, reply, script, used, &mut written)
            }
            Walk::Pairs { part: part @ Pair::Key, count, map, .. } => {
                // The table is below the key of the last pair.
                if !lua.next(-2) {
                    lua.pop(1);
                    used -= 3;
                    if let Some(Walk::Pairs { count, at, map, .. }) = open.pop() {
                        if map {
                            reply.end_map(at, count)
                        } else {
                            reply.end_set(at, count)
                        };
                    }
                    continue;
                }
                *count += 1;
                if *map {
                    *part = Pair::Value;
                } else {
                    lua.pop(1);
                }
                lua.push_value(if *map { -2 } else { -1 });
                value(lua, reply, script, used, &mut written)
            }
            Walk::Pairs { part, .. } => {
                *part = Pair::Key;
                value(lua, reply, script, used, &mut written)
            }
        };
        if let Some(walk) = inner {
            used += walk.cost();
            open.push(walk);
        }
    }
    outcome
}

/// Writes the value on top of the stack and pops it, or begins the traversal of a table.
fn value(
    lua: &mut Lua<'_>,
    reply: &mut Reply<'_>,
    script: Protocol,
    used: i32,
    written: &mut Written,
) -> Option<Walk> {
    if used + 4 > LARGEST_FRAME {
        reply.error(&Error::text("ERR reached lua stack limit"));
        lua.pop(1);
        return None;
    }
    match lua.kind(-1) {
        Kind::String => reply.bulk(lua.bytes(-1).unwrap_or_default()),
        Kind::Number => reply.int(truncate(lua.number(-1).unwrap_or_default())),
        Kind::Boolean => match (script, lua.truth(-1)) {
            (Protocol::Resp3, yes) => reply.bool(yes),
            (Protocol::Resp2, true) => reply.int(1),
            (Protocol::Resp2, false) => reply.null(),
        },
        Kind::Table => return table(lua, reply, written),
        _ => reply.null(),
    };
    lua.pop(1);
    None
}

/// Begins a table: one of the forms with a named field, or an array.
fn table(lua: &mut Lua<'_>, reply: &mut Reply<'_>, written: &mut Written) -> Option<Walk> {
    lua.raw_get_field(-1, "err");
    if let Some(text) = lua.bytes(-1) {
        reply.error(&Error::quoting(&[c_string(text)]));
        lua.pop(1);
        lua.raw_get_field(-1, "ignore_error_stats_update");
        *written = Written::Error { counted: lua.truth(-1) };
        lua.pop(2);
        return None;
    }
    lua.pop(1);
    lua.raw_get_field(-1, "ok");
    if let Some(text) = lua.bytes(-1) {
        reply.raw(b"+");
        reply.raw(&one_line(text));
        reply.raw(b"\r\n");
        lua.pop(2);
        return None;
    }
    lua.pop(1);
    lua.raw_get_field(-1, "double");
    if let Some(x) = lua.number(-1) {
        reply.double(x);
        lua.pop(2);
        return None;
    }
    lua.pop(1);
    for (name, map) in [("map", true), ("set", false)] {
        lua.raw_get_field(-1, name);
        if lua.kind(-1) == Kind::Table {
            lua.remove(-2);
            lua.push_nil();
            return Some(Walk::Pairs { count: 0, at: reply.defer(), part: Pair::Key, map });
        }
        lua.pop(1);
    }
    lua.raw_get_field(-1, "big_number");
    if let Some(digits) = lua.bytes(-1) {
        let digits = without_breaks(digits);
        if reply.resp3() {
            reply.raw(b"(");
            reply.raw(&digits);
            reply.raw(b"\r\n");
        } else {
            reply.bulk(&digits);
        }
        lua.pop(2);
        return None;
    }
    lua.pop(1);
    lua.raw_get_field(-1, "verbatim_string");
    if lua.kind(-1) == Kind::Table {
        lua.raw_get_field(-1, "format");
        lua.raw_get_field(-2, "string");
        if let (Some(format), Some(text)) = (lua.bytes(-2), lua.bytes(-1)) {
            let mut letters = [b' '; 3];
            let len = format.len().min(3);
            letters[..len].copy_from_slice(&format[..len]);
            reply.verbatim(std::str::from_utf8(&letters).unwrap_or("txt"), text);
            lua.pop(4);
            return None;
        }
        lua.pop(2);
    }
    lua.pop(1);
    Some(Walk::Items { next: 0, at: reply.defer() })
}

/// The part of a text before its first NUL byte, where Redis passes the text on as a C string.
pub fn c_string(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr(0, text).unwrap_or(text.len())]
}

/// The text on one line, with line breaks replaced by spaces.
fn one_line(text: &[u8]) -> Cow<'_, [u8]> {
    without_breaks(c_string(text))
}

fn without_breaks(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', text).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.iter().map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }).collect())
}

/// The integer to which C casts a double; a value out of range becomes the smallest integer.
pub fn truncate(x: f64) -> i64 {
    const EDGE: f64 = (1u64 << 63) as f64;
    if (-EDGE..EDGE).contains(&x) { x as i64 } else { i64::MIN }
}
