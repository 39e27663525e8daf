//! `cjson.encode`.

use super::cjson::Settings;
use crate::scripting::lua::c_text::{Conversion, Operand};
use crate::scripting::lua::ffi::{Lua, Native, Raise};
use crate::scripting::lua::stack::Kind;
use crate::scripting::run::{bad_argument, fail, tick};

/// `cjson.encode(value)`. O(size of the value). A table may contain itself; memory and time are limited.
pub(super) fn encode(lua: &mut Lua<'_>) -> Native {
    if lua.top() != 1 {
        return Err(bad_argument(lua, 1, "expected 1 argument"));
    }
    let mut text = std::mem::take(&mut lua.state().text);
    text.clear();
    let settings = lua.state().json;
    let mut encoder = Encoder { text: &mut text, settings, steps: 0 };
    let result = encoder.value(lua, 0).and_then(|()| lua.room_for(text.len()));
    if result.is_ok() {
        lua.push_bytes(&text);
    }
    if text.capacity() > KEPT {
        text = Vec::new();
    }
    lua.state().text = text;
    result.map(|()| 1)
}

/// Largest buffer kept for the next call, in bytes.
const KEPT: usize = 1 << 16;

struct Encoder<'a> {
    text: &'a mut Vec<u8>,
    settings: Settings,
    steps: u32,
}

impl Encoder<'_> {
    /// Writes the value on top of the stack and leaves it there.
    fn value(&mut self, lua: &mut Lua<'_>, depth: i32) -> Result<(), Raise> {
        tick(lua, &mut self.steps, self.text.len())?;
        match lua.kind(-1) {
            Kind::String => self.string(lua.bytes(-1).unwrap_or_default()),
            Kind::Number => self.number(lua, -1)?,
            Kind::Boolean => self.text.extend_from_slice(if lua.truth(-1) { b"true" } else { b"false" }),
            Kind::Nil => self.text.extend_from_slice(b"null"),
            Kind::Pointer if lua.is_null(-1) => self.text.extend_from_slice(b"null"),
            Kind::Table => return self.table(lua, depth + 1),
            kind => return Err(refuse(lua, kind, "type not supported")),
        }
        Ok(())
    }

    fn table(&mut self, lua: &mut Lua<'_>, depth: i32) -> Result<(), Raise> {
        if depth > self.settings.encode_depth || !lua.reserve(3) {
            return Err(fail(lua, format!("Cannot serialise, excessive nesting ({depth})").as_bytes()));
        }
        match self.array_length(lua)? {
            Some(len) if len > 0 => {
                self.text.push(b'[');
                for i in 1..=len {
                    if i > 1 {
                        self.text.push(b',');
                    }
                    lua.raw_get_index(-1, i);
                    self.value(lua, depth)?;
                    lua.pop(1);
                }
                self.text.push(b']');
            }
            _ => {
                self.text.push(b'{');
                let mut first = true;
                lua.push_nil();
                while lua.next(-2) {
                    if !std::mem::take(&mut first) {
                        self.text.push(b',');
                    }
                    match lua.kind(-2) {
                        Kind::String => self.string(lua.bytes(-2).unwrap_or_default()),
                        Kind::Number => {
                            self.text.push(b'"');
                            self.number(lua, -2)?;
                            self.text.push(b'"');
                        }
                        kind => return Err(refuse(lua, kind, "table key must be a number or string")),
                    }
                    self.text.push(b':');
                    self.value(lua, depth)?;
                    lua.pop(1);
                }
                self.text.push(b'}');
            }
        }
        Ok(())
    }

    /// The length of the table on top of the stack as an array; `None` if it is an object.
    fn array_length(&mut self, lua: &mut Lua<'_>) -> Result<Option<i32>, Raise> {
        let (mut most, mut items) = (0i64, 0i64);
        lua.push_nil();
        while lua.next(-2) {
            tick(lua, &mut self.steps, 0)?;
            let index = lua.number(-2).filter(|n| n.floor() == *n && *n >= 1.0);
            let Some(index) = index else {
                lua.pop(2);
                return Ok(None);
            };
            most = most.max(index as i64);
            items += 1;
            lua.pop(1);
        }
        let Settings { sparse_convert, sparse_ratio, sparse_safe, .. } = self.settings;
        let ratio = i64::from(sparse_ratio);
        if ratio > 0 && most > items.saturating_mul(ratio) && most > i64::from(sparse_safe) {
            if sparse_convert {
                return Ok(None);
            }
            return Err(refuse(lua, Kind::Table, "excessively sparse array"));
        }
        Ok(Some(i32::try_from(most).unwrap_or(i32::MAX)))
    }

    fn number(&mut self, lua: &mut Lua<'_>, at: i32) -> Result<(), Raise> {
        let x = lua.number(at).unwrap_or_default();
        if !x.is_finite() {
            match self.settings.invalid_numbers {
                0 => return Err(refuse(lua, Kind::Number, "must not be NaN or Inf")),
                1 if x.is_nan() => self.text.extend_from_slice(b"nan"),
                1 => self.text.extend_from_slice(if x > 0.0 { b"inf" } else { b"-inf" }),
                _ => self.text.extend_from_slice(b"null"),
            }
            return Ok(());
        }
        let digits = self.settings.precision;
        // Integers with fewer digits than the precision have neither point nor exponent.
        if x.fract() == 0.0 && x.abs() < 1e14 && digits == 14 && !(x == 0.0 && x.is_sign_negative()) {
            self.text.extend_from_slice(itoa::Buffer::new().format(x as i64).as_bytes());
        } else {
            Conversion::general(digits as u8).write(Operand::Double(x), self.text);
        }
        Ok(())
    }

    fn string(&mut self, bytes: &[u8]) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let text = &mut *self.text;
        text.reserve(bytes.len() + 2);
        text.push(b'"');
        let mut plain = 0;
        for (i, &byte) in bytes.iter().enumerate() {
            if !ESCAPED[usize::from(byte)] {
                continue;
            }
            text.extend_from_slice(&bytes[plain..i]);
            plain = i + 1;
            match byte {
                b'"' | b'\\' | b'/' => text.extend_from_slice(&[b'\\', byte]),
                8 => text.extend_from_slice(b"\\b"),
                b'\t' => text.extend_from_slice(b"\\t"),
                b'\n' => text.extend_from_slice(b"\\n"),
                12 => text.extend_from_slice(b"\\f"),
                b'\r' => text.extend_from_slice(b"\\r"),
                _ => {
                    text.extend_from_slice(b"\\u00");
                    text.push(HEX[usize::from(byte >> 4)]);
                    text.push(HEX[usize::from(byte & 15)]);
                }
            }
        }
        text.extend_from_slice(&bytes[plain..]);
        text.push(b'"');
    }
}

/// Bytes that must be escaped.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 32 {
        table[i] = true;
        i += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'/' as usize] = true;
    table[127] = true;
    table
};

#[cold]
fn refuse(lua: &mut Lua<'_>, kind: Kind, why: &str) -> Raise {
    fail(lua, format!("Cannot serialise {}: {why}", kind.name()).as_bytes())
}
