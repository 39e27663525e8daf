//! Functions of the string library that could run for long or make large strings.

use super::ffi::{Lua, Native, Raise};
use super::pattern::Matcher;
use super::stack::{Kind, LARGEST_STRING};
use crate::scripting::answer::truncate;
use crate::scripting::run::{bad_argument, check_number, check_string, fail, opt_number, tick};

/// Bytes that have a special meaning in patterns.
const SPECIALS: &[u8] = b"^$*+?.([%-";

/// `string.rep(text, n)`.
pub fn rep(lua: &mut Lua<'_>) -> Native {
    check_string(lua, 1)?;
    let n = truncate(check_number(lua, 2)?);
    let n = usize::try_from(n as i32).unwrap_or(0);
    let len = lua.raw_len(1);
    let total = len.checked_mul(n).filter(|&total| total <= LARGEST_STRING);
    let Some(total) = total else {
        return Err(fail(lua, b"resulting string too large"));
    };
    if total == 0 {
        lua.push_bytes(b"");
        return Ok(1);
    }
    lua.room_for(total.saturating_mul(2))?;
    let text = lua.bytes(1).unwrap_or_default().repeat(n);
    lua.push_bytes(&text);
    Ok(1)
}

/// A position in a string of `len` bytes; a negative one counts from the end.
fn place(pos: i64, len: i64) -> i64 {
    if pos < 0 { (pos + len + 1).max(0) } else { pos }
}

/// `string.len(text)`.
///
/// # Errors
/// The argument is not a string.
pub fn len(lua: &mut Lua<'_>) -> Native {
    check_string(lua, 1)?;
    let len = lua.raw_len(1);
    lua.push_number(len as f64);
    Ok(1)
}

/// `string.sub(text, from, to)`.
///
/// # Errors
/// An argument has the wrong type.
pub fn sub(lua: &mut Lua<'_>) -> Native {
    check_string(lua, 1)?;
    let len = lua.raw_len(1) as i64;
    let from = place(truncate(check_number(lua, 2)?), len).max(1);
    let to = place(truncate(opt_number(lua, 3, -1.0)?), len).min(len);
    if from <= to {
        lua.push_part(1, from as usize - 1, to as usize);
    } else {
        lua.push_bytes(b"");
    }
    Ok(1)
}

/// `string.byte(text, from, to)`: the values of the bytes.
///
/// # Errors
/// An argument has the wrong type, or there are more bytes than the stack can take.
pub fn byte(lua: &mut Lua<'_>) -> Native {
    check_string(lua, 1)?;
    let len = lua.raw_len(1) as i64;
    let from = place(truncate(opt_number(lua, 2, 1.0)?), len);
    let to = place(truncate(opt_number(lua, 3, from as f64)?), len).min(len);
    let from = from.max(1);
    if from > to {
        return Ok(0);
    }
    let count = i32::try_from(to - from + 1).unwrap_or(i32::MAX);
    if !lua.reserve(count) {
        return Err(fail(lua, b"stack overflow (string slice too long)"));
    }
    for i in from..=to {
        let byte = lua.bytes(1).unwrap_or_default()[i as usize - 1];
        lua.push_number(f64::from(byte));
    }
    Ok(count as usize)
}

/// `string.char(…)`: a string of the bytes with these values.
///
/// # Errors
/// An argument is not a number, or not the value of a byte.
pub fn char(lua: &mut Lua<'_>) -> Native {
    let count = lua.top();
    let mut out = Vec::with_capacity(count as usize);
    for n in 1..=count {
        let value = truncate(check_number(lua, n)?) as i32;
        match u8::try_from(value) {
            Ok(byte) => out.push(byte),
            Err(_) => return Err(bad_argument(lua, n, "invalid value")),
        }
    }
    lua.push_bytes(&out);
    Ok(1)
}

/// Pushes the string at position 1, changed by `change`.
fn changed(lua: &mut Lua<'_>, change: fn(&mut [u8])) -> Native {
    check_string(lua, 1)?;
    lua.room_for(lua.raw_len(1))?;
    let text = lua.bytes(1).unwrap_or_default();
    let mut short = [0; 128];
    if let Some(room) = short.get_mut(..text.len()) {
        room.copy_from_slice(text);
        change(room);
        lua.push_bytes(room);
    } else {
        let mut text = text.to_vec();
        change(&mut text);
        lua.push_bytes(&text);
    }
    Ok(1)
}

/// `string.lower(text)`. O(length).
///
/// # Errors
/// The argument is not a string.
pub fn lower(lua: &mut Lua<'_>) -> Native {
    changed(lua, <[u8]>::make_ascii_lowercase)
}

/// `string.upper(text)`. O(length).
///
/// # Errors
/// The argument is not a string.
pub fn upper(lua: &mut Lua<'_>) -> Native {
    changed(lua, <[u8]>::make_ascii_uppercase)
}

/// `string.reverse(text)`. O(length).
///
/// # Errors
/// The argument is not a string.
pub fn reverse(lua: &mut Lua<'_>) -> Native {
    changed(lua, <[u8]>::reverse)
}

/// The effective part of a pattern, which ends at a NUL byte as C strings do.
fn c_string(bytes: &[u8]) -> &[u8] {
    &bytes[..memchr::memchr(0, bytes).unwrap_or(bytes.len())]
}

/// The pattern at `at` without its anchor, and whether it had one.
fn pattern(lua: &Lua<'_>, at: i32, anchors: bool) -> (Vec<u8>, bool) {
    let pattern = c_string(lua.bytes(at).unwrap_or_default());
    match pattern {
        [b'^', rest @ ..] if anchors => (rest.to_vec(), true),
        pattern => (pattern.to_vec(), false),
    }
}

/// `string.find(text, pattern, init, plain)`.
pub fn find(lua: &mut Lua<'_>) -> Native {
    search(lua, true)
}

/// `string.match(text, pattern, init)`.
pub fn find_match(lua: &mut Lua<'_>) -> Native {
    search(lua, false)
}

fn search(lua: &mut Lua<'_>, find: bool) -> Native {
    check_string(lua, 1)?;
    check_string(lua, 2)?;
    let len = lua.raw_len(1);
    let init = truncate(opt_number(lua, 3, 1.0)?);
    let init = if init < 0 { init + len as i64 + 1 } else { init } - 1;
    let init = usize::try_from(init).unwrap_or(0).min(len);
    if find {
        let wanted = lua.bytes(2).unwrap_or_default();
        if lua.truth(4) || !c_string(wanted).iter().any(|b| SPECIALS.contains(b)) {
            let found = memchr::memmem::find(&lua.bytes(1).unwrap_or_default()[init..], wanted);
            let width = wanted.len();
            return Ok(match found {
                Some(at) => {
                    lua.push_number((init + at + 1) as f64);
                    lua.push_number((init + at + width) as f64);
                    2
                }
                None => {
                    lua.push_nil();
                    1
                }
            });
        }
    }
    let (pattern, anchored) = pattern(lua, 2, true);
    let found = lua.with_string(1, |subject, lua| {
        let mut matcher = Matcher::new(subject, &pattern);
        for start in init..=subject.len() {
            if let Some(end) = matcher.at(lua, start)? {
                if !find {
                    return matcher.push_captures(lua, start, end, true);
                }
                lua.push_number((start + 1) as f64);
                lua.push_number(end as f64);
                return Ok(2 + matcher.push_captures(lua, start, end, false)?);
            }
            if anchored {
                break;
            }
        }
        lua.push_nil();
        Ok(1)
    });
    found.unwrap_or(Ok(0))
}

/// One step of `string.gmatch`: takes the string, the pattern and the start position, and returns the next start
/// position and the captures, or nil.
pub fn gmatch_step(lua: &mut Lua<'_>) -> Native {
    check_string(lua, 1)?;
    check_string(lua, 2)?;
    let from = truncate(check_number(lua, 3)?);
    let from = usize::try_from(from).unwrap_or(0);
    let (pattern, _) = pattern(lua, 2, false);
    let found = lua.with_string(1, |subject, lua| {
        let mut matcher = Matcher::new(subject, &pattern);
        for start in from..=subject.len() {
            if let Some(end) = matcher.at(lua, start)? {
                lua.push_number((end + usize::from(end == start)) as f64);
                return Ok(1 + matcher.push_captures(lua, start, end, true)?);
            }
        }
        lua.push_nil();
        Ok(1)
    });
    found.unwrap_or(Ok(0))
}

/// The error of `string.gmatch` for an argument that is not a string.
pub fn gmatch_refused(lua: &mut Lua<'_>) -> Native {
    check_string(lua, 1)?;
    check_string(lua, 2)?;
    Ok(0)
}

/// `string.gsub(text, pattern, replacement, n)`.
pub fn gsub(lua: &mut Lua<'_>) -> Native {
    check_string(lua, 1)?;
    check_string(lua, 2)?;
    let kind = lua.kind(3);
    let len = lua.raw_len(1);
    let most = truncate(opt_number(lua, 4, (len + 1) as f64)?) as i32;
    if !matches!(kind, Kind::Number | Kind::String | Kind::Function | Kind::Table) {
        return Err(bad_argument(lua, 3, "string/function/table expected"));
    }
    if kind == Kind::Number {
        lua.to_bytes(3);
    }
    let (pattern, anchored) = pattern(lua, 2, true);
    lua.set_top(3);
    let replaced = lua.with_string(1, |subject, lua| {
        let mut matcher = Matcher::new(subject, &pattern);
        let mut out = Vec::with_capacity(subject.len());
        let (mut at, mut count, mut steps) = (0, 0, 0);
        while count < most {
            tick(lua, &mut steps, out.len())?;
            let found = matcher.at(lua, at)?;
            if let Some(end) = found {
                count += 1;
                replacement(lua, &matcher, kind, subject, at..end, &mut out)?;
            }
            match found {
                Some(end) if end > at => at = end,
                _ if at < subject.len() => {
                    out.push(subject[at]);
                    at += 1;
                }
                _ => break,
            }
            if anchored {
                break;
            }
        }
        out.extend_from_slice(&subject[at..]);
        lua.room_for(out.len())?;
        lua.push_bytes(&out);
        lua.push_number(f64::from(count));
        Ok(2)
    });
    replaced.unwrap_or(Ok(0))
}

/// Appends the replacement of one match.
fn replacement(
    lua: &mut Lua<'_>,
    matcher: &Matcher<'_>,
    kind: Kind,
    subject: &[u8],
    found: std::ops::Range<usize>,
    out: &mut Vec<u8>,
) -> Result<(), Raise> {
    let (start, end) = (found.start, found.end);
    match kind {
        Kind::Function => {
            lua.push_value(3);
            let count = matcher.push_captures(lua, start, end, true)?;
            lua.call(count as i32, Some(1), None)?;
        }
        Kind::Table => {
            matcher.push_capture(lua, 0, start, end)?;
            index(lua, 3)?;
        }
        _ => return from_text(lua, matcher, start, end, out),
    }
    match lua.kind(-1) {
        Kind::Nil => out.extend_from_slice(&subject[start..end]),
        Kind::Boolean if !lua.truth(-1) => out.extend_from_slice(&subject[start..end]),
        Kind::String | Kind::Number => out.extend_from_slice(lua.to_bytes(-1).unwrap_or_default()),
        kind => {
            let text = format!("invalid replacement value (a {})", kind.name());
            return Err(fail(lua, text.as_bytes()));
        }
    }
    lua.pop(1);
    Ok(())
}

/// Replaces the key on top of the stack by its value in the table at `at`, with metamethods.
fn index(lua: &mut Lua<'_>, at: i32) -> Result<(), Raise> {
    if !lua.push_metatable(at) {
        lua.raw_get(at);
        return Ok(());
    }
    lua.pop(1);
    // Only Lua code may call metamethods.
    if lua.load(b"local t, k = ... return t[k]", c"=[C]").is_err() {
        return Err(lua.raise());
    }
    lua.insert(-2);
    lua.push_value(at);
    lua.insert(-2);
    lua.call(2, Some(1), None)?;
    Ok(())
}

/// Appends a replacement string, in which `%1` stands for a capture.
fn from_text(
    lua: &mut Lua<'_>,
    matcher: &Matcher<'_>,
    start: usize,
    end: usize,
    out: &mut Vec<u8>,
) -> Result<(), Raise> {
    let len = lua.raw_len(3);
    let mut i = 0;
    while i < len {
        let text = lua.bytes(3).unwrap_or_default();
        let plain = memchr::memchr(b'%', &text[i..]).unwrap_or(len - i);
        out.extend_from_slice(&text[i..i + plain]);
        i += plain;
        if i == len {
            break;
        }
        let byte = text.get(i + 1).copied().unwrap_or(0);
        i += 2;
        match byte {
            b'0' => out.extend_from_slice(matcher.whole(start, end)),
            b'1'..=b'9' => {
                matcher.push_capture(lua, usize::from(byte - b'1'), start, end)?;
                out.extend_from_slice(lua.to_bytes(-1).unwrap_or_default());
                lua.pop(1);
            }
            byte => out.push(byte),
        }
    }
    Ok(())
}
