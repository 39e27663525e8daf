//! `string.format`.

use super::c_text::{Conversion, Operand};
use super::ffi::{Lua, Native, Raise};
use crate::scripting::answer::truncate;
use crate::scripting::run::{bad_argument, bad_kind, check_number, check_string, fail, tick};

/// `string.format(form, …)`. O(length of the result).
pub fn format(lua: &mut Lua<'_>) -> Native {
    check_string(lua, 1)?;
    let form = lua.bytes(1).unwrap_or_default().to_vec();
    let mut out = Vec::with_capacity(form.len() + 32);
    let (mut rest, mut arg, mut steps) = (form.as_slice(), 1, 0);
    while let Some(plain) = memchr::memchr(b'%', rest) {
        tick(lua, &mut steps, out.len())?;
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain + 1..];
        if let Some(after) = rest.strip_prefix(b"%") {
            out.push(b'%');
            rest = after;
            continue;
        }
        let (mut conversion, precise) = head(lua, &mut rest)?;
        let letter = rest.first().copied().unwrap_or(0);
        rest = rest.get(1..).unwrap_or_default();
        arg += 1;
        if arg > lua.top() {
            return Err(bad_argument(lua, arg, "no value"));
        }
        conversion.letter = letter;
        match letter {
            b'c' => {
                let n = truncate(check_number(lua, arg)?) as i32;
                conversion.write(Operand::Signed(i64::from(n as u8)), &mut out);
            }
            b'd' | b'i' => {
                let n = truncate(check_number(lua, arg)?);
                conversion.write(Operand::Signed(n), &mut out);
            }
            b'o' | b'u' | b'x' | b'X' => {
                let x = check_number(lua, arg)?;
                let n = if x < 0.0 { truncate(x) as u64 } else { x as u64 };
                conversion.write(Operand::Unsigned(n), &mut out);
            }
            b'e' | b'E' | b'f' | b'g' | b'G' => {
                let x = check_number(lua, arg)?;
                conversion.write(Operand::Double(x), &mut out);
            }
            b'q' => {
                check_string(lua, arg)?;
                quote(lua.bytes(arg).unwrap_or_default(), &mut out);
            }
            b's' => {
                if lua.to_bytes(arg).is_none() {
                    return Err(bad_kind(lua, arg, "string"));
                }
                let text = lua.bytes(arg).unwrap_or_default();
                if !precise && text.len() >= 100 {
                    out.extend_from_slice(text);
                } else {
                    pad(&conversion, text, &mut out);
                }
            }
            _ => {
                let mut text = b"invalid option '%".to_vec();
                if letter != 0 {
                    text.push(letter);
                }
                text.extend_from_slice(b"' to 'format'");
                return Err(fail(lua, &text));
            }
        }
    }
    out.extend_from_slice(rest);
    lua.room_for(out.len())?;
    lua.push_bytes(&out);
    Ok(1)
}

/// Parses flags, width and precision. Also returns whether there is a precision.
fn head(lua: &mut Lua<'_>, rest: &mut &[u8]) -> Result<(Conversion, bool), Raise> {
    let mut conversion = Conversion::default();
    let mut take = |rest: &mut &[u8], accepts: &[u8], most: usize| {
        let count = rest.iter().take_while(|b| accepts.contains(b)).take(most).count();
        for &byte in &rest[..count] {
            conversion.push(byte);
        }
        *rest = &rest[count..];
        count
    };
    if take(rest, b"-+ #0", usize::MAX) >= 6 {
        return Err(fail(lua, b"invalid format (repeated flags)"));
    }
    const DIGITS: &[u8] = b"0123456789";
    take(rest, DIGITS, 2);
    let precise = take(rest, b".", 1) == 1;
    if precise {
        take(rest, DIGITS, 2);
    }
    if rest.first().is_some_and(u8::is_ascii_digit) {
        return Err(fail(lua, b"invalid format (width or precision too long)"));
    }
    Ok((conversion, precise))
}

/// Appends a string padded to its width, and truncated at its precision and at a NUL byte, as in C.
fn pad(conversion: &Conversion, text: &[u8], out: &mut Vec<u8>) {
    let head = &conversion.head[..conversion.head_len];
    let (field, precision) = match head.iter().position(|&b| b == b'.') {
        Some(dot) => (&head[..dot], Some(number(&head[dot + 1..]))),
        None => (head, None),
    };
    let flags = field.iter().take_while(|b| b"-+ #0".contains(b)).count();
    let left = field[..flags].contains(&b'-');
    let width = number(&field[flags..]);
    let text = &text[..memchr::memchr(0, text).unwrap_or(text.len())];
    let text = &text[..text.len().min(precision.unwrap_or(usize::MAX))];
    let padding = width.saturating_sub(text.len());
    if !left {
        out.resize(out.len() + padding, b' ');
    }
    out.extend_from_slice(text);
    if left {
        out.resize(out.len() + padding, b' ');
    }
}

fn number(digits: &[u8]) -> usize {
    digits.iter().fold(0, |value, b| value * 10 + usize::from(b - b'0'))
}

/// Appends a string as a Lua literal.
fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' | b'\n' => out.extend_from_slice(&[b'\\', byte]),
            b'\r' => out.extend_from_slice(b"\\r"),
            0 => out.extend_from_slice(b"\\000"),
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}
