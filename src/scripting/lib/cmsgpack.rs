//! `cmsgpack`: MessagePack as lua-cmsgpack 0.4 reads and writes it. The idea is Salvatore Sanfilippo's.

use crate::scripting::answer::truncate;
use crate::scripting::lua::ffi::{Lua, Native, Raise};
use crate::scripting::lua::stack::Kind;
use crate::scripting::run::{bad_argument, check_number, check_string, fail, opt_number, tick};

/// Tables nested deeper than this are written as nil.
const MAX_NESTING: i32 = 16;

/// Tables nested deeper than this are refused when reading.
const MOST_NESTED: u32 = 1000;

/// `cmsgpack.pack(value, …)`: the values one after the other. O(size of the values).
pub fn pack(lua: &mut Lua<'_>) -> Native {
    let count = lua.top();
    if count == 0 {
        return Err(bad_argument(lua, 0, "MessagePack pack needs input."));
    }
    if !lua.reserve(1) {
        return Err(fail(lua, b"stack overflow (in function mp_check)"));
    }
    let mut packer = Packer { out: Vec::new(), steps: 0 };
    for at in 1..=count {
        lua.push_value(at);
        packer.value(lua, 0)?;
    }
    lua.room_for(packer.out.len())?;
    lua.push_bytes(&packer.out);
    Ok(1)
}

struct Packer {
    out: Vec<u8>,
    steps: u32,
}

impl Packer {
    /// Writes the value on top of the stack and pops it.
    fn value(&mut self, lua: &mut Lua<'_>, level: i32) -> Result<(), Raise> {
        tick(lua, &mut self.steps, self.out.len())?;
        match lua.kind(-1) {
            Kind::String => self.bytes(lua.bytes(-1).unwrap_or_default()),
            Kind::Boolean => self.out.push(if lua.truth(-1) { 0xc3 } else { 0xc2 }),
            Kind::Number => self.number(lua.number(-1).unwrap_or_default()),
            Kind::Table if level < MAX_NESTING => self.table(lua, level)?,
            _ => self.out.push(0xc0),
        }
        lua.pop(1);
        Ok(())
    }

    /// Writes a marker and the low `bytes` bytes of `n`, most significant first.
    fn marked(&mut self, marker: u8, n: u64, bytes: usize) {
        self.out.push(marker);
        self.out.extend_from_slice(&n.to_be_bytes()[8 - bytes..]);
    }

    fn number(&mut self, x: f64) {
        let whole = truncate(x);
        if !x.is_finite() || whole as f64 != x {
            let single = x as f32;
            if f64::from(single) == x {
                self.marked(0xca, u64::from(single.to_bits()), 4);
            } else {
                self.marked(0xcb, x.to_bits(), 8);
            }
            return;
        }
        let n = whole as u64;
        match whole {
            0..=0x7f => self.out.push(n as u8),
            0x80..=0xff => self.marked(0xcc, n, 1),
            0x100..=0xffff => self.marked(0xcd, n, 2),
            0x1_0000..=0xffff_ffff => self.marked(0xce, n, 4),
            0x1_0000_0000.. => self.marked(0xcf, n, 8),
            -32..=-1 => self.out.push(n as u8),
            -0x80..=-33 => self.marked(0xd0, n, 1),
            -0x8000..=-0x81 => self.marked(0xd1, n, 2),
            -0x8000_0000..=-0x8001 => self.marked(0xd2, n, 4),
            ..=-0x8000_0001 => self.marked(0xd3, n, 8),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let len = bytes.len() as u64;
        match len {
            0..=31 => self.out.push(0xa0 | len as u8),
            32..=0xff => self.marked(0xd9, len, 1),
            0x100..=0xffff => self.marked(0xda, len, 2),
            _ => self.marked(0xdb, len, 4),
        }
        self.out.extend_from_slice(bytes);
    }

    fn table(&mut self, lua: &mut Lua<'_>, level: i32) -> Result<(), Raise> {
        if !lua.reserve(4) {
            return Err(fail(lua, b"stack overflow (in function mp_encode_lua_table_as_map)"));
        }
        let (mut most, mut pairs, mut array) = (0.0, 0u64, true);
        lua.push_nil();
        while lua.next(-2) {
            tick(lua, &mut self.steps, 0)?;
            match lua.number(-2) {
                Some(n) if n > 0.0 && f64::from(truncate(n) as i32) == n => most = f64::max(most, n),
                _ => array = false,
            }
            pairs += 1;
            lua.pop(1);
        }
        if array && most == pairs as f64 {
            let len = lua.raw_len(-1);
            match len as u64 {
                len @ 0..=15 => self.out.push(0x90 | len as u8),
                len @ 16..=0xffff => self.marked(0xdc, len, 2),
                len => self.marked(0xdd, len, 4),
            }
            for i in 1..=len {
                lua.raw_get_index(-1, i as i32);
                self.value(lua, level + 1)?;
            }
            return Ok(());
        }
        match pairs {
            0..=15 => self.out.push(0x80 | pairs as u8),
            16..=0xffff => self.marked(0xde, pairs, 2),
            _ => self.marked(0xdf, pairs, 4),
        }
        lua.push_nil();
        while lua.next(-2) {
            lua.push_value(-2);
            self.value(lua, level + 1)?;
            self.value(lua, level + 1)?;
        }
        Ok(())
    }
}

/// `cmsgpack.unpack(text)`: all values.
pub fn unpack(lua: &mut Lua<'_>) -> Native {
    unpack_some(lua, None, 0.0)
}

/// `cmsgpack.unpack_one(text, offset)`: the offset of the next value, or -1 at the end, and one value.
pub fn unpack_one(lua: &mut Lua<'_>) -> Native {
    let offset = opt_number(lua, 2, 0.0)?;
    unpack_some(lua, Some(1.0), offset)
}

/// `cmsgpack.unpack_limit(text, limit, offset)`: the offset of the next value, or -1 at the end, and at most `limit`
/// values.
pub fn unpack_limit(lua: &mut Lua<'_>) -> Native {
    let limit = check_number(lua, 2)?;
    let offset = opt_number(lua, 3, 0.0)?;
    unpack_some(lua, Some(limit), offset)
}

fn unpack_some(lua: &mut Lua<'_>, limit: Option<f64>, offset: f64) -> Native {
    check_string(lua, 1)?;
    let offset = truncate(offset);
    // Error messages show the low 32 bits.
    let shown = offset as i32;
    let wanted = limit.map(truncate);
    let len = lua.raw_len(1);
    if offset < 0 || wanted.is_some_and(|wanted| wanted < 0) {
        let text = format!("Invalid request to unpack with offset of {shown} and limit of {len}.");
        return Err(fail(lua, text.as_bytes()));
    }
    if offset > len as i64 {
        let text = format!("Start offset {shown} greater than input length {len}.");
        return Err(fail(lua, text.as_bytes()));
    }
    // Without a limit, or with a limit and an offset of 0, all values are returned.
    let all = wanted.is_none() || (wanted == Some(0) && offset == 0);
    let most = if all { i64::MAX } else { wanted.unwrap_or(i64::MAX) };
    lua.set_top(1);
    let unpacked = lua.with_string(1, |source, lua| {
        let mut unpacker = Unpacker { rest: &source[offset as usize..], steps: 0, depth: 0 };
        let mut count = 0;
        while !unpacker.rest.is_empty() && count < most {
            if !lua.reserve(4) {
                return Err(fail(lua, b"stack overflow (in function mp_unpack_full)"));
            }
            unpacker.value(lua).map_err(|bad| bad.raise(lua))?;
            count += 1;
        }
        Ok((count as usize, unpacker.rest.len()))
    });
    let (mut count, left) = unpacked.unwrap_or(Ok((0, 0)))?;
    if !all {
        lua.push_number(if left == 0 { -1.0 } else { (len - left) as f64 });
        lua.insert(2);
        count += 1;
    }
    Ok(count)
}

/// Why bytes cannot be decoded.
enum Bad {
    Missing,
    Format,
    /// An error was raised; its value is on the stack.
    Raised(Raise),
    Text(&'static str),
}

impl Bad {
    fn raise(self, lua: &mut Lua<'_>) -> Raise {
        match self {
            Bad::Missing => fail(lua, b"Missing bytes in input."),
            Bad::Format => fail(lua, b"Bad data format in input."),
            Bad::Text(text) => fail(lua, text.as_bytes()),
            Bad::Raised(raise) => raise,
        }
    }
}

struct Unpacker<'a> {
    rest: &'a [u8],
    steps: u32,
    /// Number of tables around the value being read.
    depth: u32,
}

impl<'a> Unpacker<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Bad> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Bad::Missing)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads an unsigned integer of `n` bytes, most significant first.
    fn unsigned(&mut self, n: usize) -> Result<u64, Bad> {
        Ok(self.take(n)?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn signed(&mut self, n: usize) -> Result<f64, Bad> {
        let shift = 64 - 8 * n as u32;
        Ok(((self.unsigned(n)? << shift) as i64 >> shift) as f64)
    }

    fn text(&mut self, lua: &mut Lua<'_>, len: u64) -> Result<(), Bad> {
        let text = self.take(len as usize)?;
        lua.push_bytes(text);
        Ok(())
    }

    /// Calls `fill` to read the contents of a table. The nesting is limited, because it uses the native stack.
    fn nested(
        &mut self,
        lua: &mut Lua<'_>,
        fill: impl FnOnce(&mut Self, &mut Lua<'_>) -> Result<(), Bad>,
    ) -> Result<(), Bad> {
        if self.depth == MOST_NESTED || !lua.reserve(4) {
            return Err(Bad::Text("stack overflow (in function mp_decode_to_lua_type)"));
        }
        self.depth += 1;
        fill(self, lua)?;
        self.depth -= 1;
        Ok(())
    }

    /// Reads one value and pushes it.
    fn value(&mut self, lua: &mut Lua<'_>) -> Result<(), Bad> {
        tick(lua, &mut self.steps, 0).map_err(Bad::Raised)?;
        let marker = self.take(1)?[0];
        let number = match marker {
            0x00..=0x7f => f64::from(marker),
            0xe0..=0xff => f64::from(marker as i8),
            0xcc => self.unsigned(1)? as f64,
            0xcd => self.unsigned(2)? as f64,
            0xce => self.unsigned(4)? as f64,
            0xcf => self.unsigned(8)? as f64,
            0xd0 => self.signed(1)?,
            0xd1 => self.signed(2)?,
            0xd2 => self.signed(4)?,
            0xd3 => self.signed(8)?,
            0xca => f64::from(f32::from_bits(self.unsigned(4)? as u32)),
            0xcb => f64::from_bits(self.unsigned(8)?),
            _ => return self.other(lua, marker),
        };
        lua.push_number(number);
        Ok(())
    }

    fn other(&mut self, lua: &mut Lua<'_>, marker: u8) -> Result<(), Bad> {
        match marker {
            0xc0 => lua.push_nil(),
            0xc2 | 0xc3 => lua.push_bool(marker == 0xc3),
            0xa0..=0xbf => self.text(lua, u64::from(marker & 31))?,
            0xd9..=0xdb => {
                let len = self.unsigned(1 << (marker - 0xd9))?;
                self.text(lua, len)?;
            }
            0x90..=0x9f => self.nested(lua, |inner, lua| inner.array(lua, u64::from(marker & 15)))?,
            0xdc | 0xdd => {
                let len = self.unsigned(if marker == 0xdc { 2 } else { 4 })?;
                self.nested(lua, |inner, lua| inner.array(lua, len))?;
            }
            0x80..=0x8f => self.nested(lua, |inner, lua| inner.map(lua, u64::from(marker & 15)))?,
            0xde | 0xdf => {
                let len = self.unsigned(if marker == 0xde { 2 } else { 4 })?;
                self.nested(lua, |inner, lua| inner.map(lua, len))?;
            }
            _ => return Err(Bad::Format),
        }
        Ok(())
    }

    fn array(&mut self, lua: &mut Lua<'_>, len: u64) -> Result<(), Bad> {
        // Each value takes at least one byte, so no more than the remaining bytes are reserved.
        lua.new_table((len as usize).min(self.rest.len()), 0);
        for i in 1..=len {
            self.value(lua)?;
            lua.raw_set_index(-2, i as usize);
        }
        Ok(())
    }

    fn map(&mut self, lua: &mut Lua<'_>, len: u64) -> Result<(), Bad> {
        lua.new_table(0, (len as usize).min(self.rest.len()));
        for _ in 0..len {
            self.value(lua)?;
            let bad_key = match lua.kind(-1) {
                Kind::Nil => Some("table index is nil"),
                Kind::Number if lua.number(-1).is_some_and(f64::is_nan) => Some("table index is NaN"),
                _ => None,
            };
            self.value(lua)?;
            if let Some(text) = bad_key {
                lua.push_bytes(text.as_bytes());
                return Err(Bad::Raised(lua.raise()));
            }
            lua.raw_set(-3);
        }
        Ok(())
    }
}
