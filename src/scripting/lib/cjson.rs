//! `cjson`: JSON as lua-cjson 2.1 reads and writes it. The idea and the error messages are Mark Pulford's.

use super::{json_decode, json_encode};
use crate::scripting::answer::{c_string, truncate};
use crate::scripting::lua::ffi::{Lua, Native, Raise};
use crate::scripting::lua::stack::Kind;
use crate::scripting::run::{bad_argument, check_number, check_string};

/// Settings that scripts can change. Every script begins with the defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Largest nesting of values that are encoded.
    pub encode_depth: i32,
    /// Largest nesting of texts that are decoded.
    pub decode_depth: i32,
    /// Significant digits of numbers.
    pub precision: i32,
    /// Encoding of infinities and NaN: 0 is an error, 1 writes their names, 2 writes `null`.
    pub invalid_numbers: i32,
    /// Whether numbers outside JSON, such as hexadecimal and infinite ones, are decoded.
    pub decode_invalid: bool,
    /// Whether an excessively sparse array is encoded as an object; otherwise it is an error.
    pub sparse_convert: bool,
    /// An array is sparse if its length exceeds its number of items by more than this factor; 0 means that none is.
    pub sparse_ratio: i32,
    /// An array of at most this length is never sparse.
    pub sparse_safe: i32,
    /// Stored for scripts that set it; the buffer is always kept.
    pub keep_buffer: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            encode_depth: 1000,
            decode_depth: 1000,
            precision: 14,
            invalid_numbers: 0,
            decode_invalid: true,
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            keep_buffer: true,
        }
    }
}

impl Settings {
    /// Restores the defaults at the end of a script.
    #[inline]
    pub fn reset(&mut self) {
        *self = Settings::default();
    }
}

/// Adds the functions to the table on top of the stack.
pub fn fill(lua: &mut Lua<'_>) {
    macro_rules! fields {
        ($($name:literal: $function:expr),* $(,)?) => {$(
            lua.push_function($function);
            lua.raw_set_field(-2, $name);
        )*};
    }
    fields! {
        "encode": json_encode::encode,
        "decode": json_decode::decode,
        "encode_sparse_array": encode_sparse_array,
        "encode_max_depth": |lua: &mut Lua<'_>| integer_setting(lua, |settings| &mut settings.encode_depth, i32::MAX),
        "decode_max_depth": |lua: &mut Lua<'_>| integer_setting(lua, |settings| &mut settings.decode_depth, i32::MAX),
        "encode_number_precision": |lua: &mut Lua<'_>| integer_setting(lua, |settings| &mut settings.precision, 14),
        "encode_keep_buffer": |lua: &mut Lua<'_>| switch(lua, |settings| &mut settings.keep_buffer),
        "decode_invalid_numbers": |lua: &mut Lua<'_>| switch(lua, |settings| &mut settings.decode_invalid),
        "encode_invalid_numbers": encode_invalid_numbers,
        "new": new,
    }
    lua.push_null();
    lua.raw_set_field(-2, "null");
    lua.push_bytes(b"cjson");
    lua.raw_set_field(-2, "_NAME");
    lua.push_bytes(b"2.1.0");
    lua.raw_set_field(-2, "_VERSION");
}

/// `cjson.new()`: another table of the same functions, with the same settings.
fn new(lua: &mut Lua<'_>) -> Native {
    lua.new_table(0, 16);
    fill(lua);
    Ok(1)
}

fn at_most(lua: &mut Lua<'_>, count: i32) -> Result<(), Raise> {
    if lua.top() > count {
        return Err(bad_argument(lua, count + 1, "found too many arguments"));
    }
    lua.set_top(count);
    Ok(())
}

fn integer(lua: &mut Lua<'_>, at: i32, min: i32, max: i32) -> Result<Option<i32>, Raise> {
    if lua.kind(at) == Kind::Nil {
        return Ok(None);
    }
    let value = truncate(check_number(lua, at)?) as i32;
    if (min..=max).contains(&value) {
        return Ok(Some(value));
    }
    Err(bad_argument(lua, 1, format!("expected integer between {min} and {max}")))
}

fn integer_setting(lua: &mut Lua<'_>, field: fn(&mut Settings) -> &mut i32, max: i32) -> Native {
    at_most(lua, 1)?;
    let value = integer(lua, 1, 1, max)?;
    let setting = field(&mut lua.state().json);
    if let Some(value) = value {
        *setting = value;
    }
    let value = f64::from(*setting);
    lua.push_number(value);
    Ok(1)
}

/// Parses a boolean, or one of `options`, as a number.
fn choice(lua: &mut Lua<'_>, at: i32, options: &[&str]) -> Result<Option<i32>, Raise> {
    match lua.kind(at) {
        Kind::Nil => Ok(None),
        Kind::Boolean => Ok(Some(i32::from(lua.truth(at)))),
        _ => {
            check_string(lua, at)?;
            let name = lua.bytes(at).unwrap_or_default();
            if let Some(found) = options.iter().position(|option| option.as_bytes() == name) {
                return Ok(Some(found as i32));
            }
            let what = [b"invalid option '", c_string(name), b"'"].concat();
            Err(bad_argument(lua, at, what))
        }
    }
}

fn switch(lua: &mut Lua<'_>, field: fn(&mut Settings) -> &mut bool) -> Native {
    at_most(lua, 1)?;
    let value = choice(lua, 1, &["off", "on"])?;
    let setting = field(&mut lua.state().json);
    if let Some(value) = value {
        *setting = value != 0;
    }
    let value = *setting;
    lua.push_bool(value);
    Ok(1)
}

fn encode_invalid_numbers(lua: &mut Lua<'_>) -> Native {
    at_most(lua, 1)?;
    if let Some(value) = choice(lua, 1, &["off", "on", "null"])? {
        lua.state().json.invalid_numbers = value;
    }
    match lua.state().json.invalid_numbers {
        2 => lua.push_bytes(b"null"),
        value => lua.push_bool(value != 0),
    }
    Ok(1)
}

fn encode_sparse_array(lua: &mut Lua<'_>) -> Native {
    at_most(lua, 3)?;
    let convert = choice(lua, 1, &["off", "on"])?;
    let ratio = integer(lua, 2, 0, i32::MAX)?;
    let safe = integer(lua, 3, 0, i32::MAX)?;
    let settings = &mut lua.state().json;
    settings.sparse_convert = convert.map_or(settings.sparse_convert, |value| value != 0);
    settings.sparse_ratio = ratio.unwrap_or(settings.sparse_ratio);
    settings.sparse_safe = safe.unwrap_or(settings.sparse_safe);
    let settings = *settings;
    lua.push_bool(settings.sparse_convert);
    lua.push_number(f64::from(settings.sparse_ratio));
    lua.push_number(f64::from(settings.sparse_safe));
    Ok(3)
}
