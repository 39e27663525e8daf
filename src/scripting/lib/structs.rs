//! `struct`: packs values as C lays them out in memory. The idea is Roberto Ierusalimschy's.

use crate::scripting::answer::truncate;
use crate::scripting::lua::ffi::{Lua, Native, Raise};
use crate::scripting::run::{bad_argument, check_number, check_string, fail, opt_number};

/// Largest size of an integer in bytes.
const MAX_INT: usize = 32;
/// Alignment of `!` without a number: that of a double, in bytes.
const MAX_ALIGN: usize = 8;

/// Position in a format string.
struct Format {
    text: Vec<u8>,
    pos: usize,
    big: bool,
    align: usize,
}

impl Format {
    fn new(lua: &mut Lua<'_>) -> Result<Format, Raise> {
        check_string(lua, 1)?;
        let mut text = lua.bytes(1).unwrap_or_default().to_vec();
        text.truncate(memchr::memchr(0, &text).unwrap_or(text.len()));
        Ok(Format { text, pos: 0, big: false, align: 1 })
    }

    fn next(&mut self) -> Option<u8> {
        let option = self.text.get(self.pos).copied();
        self.pos += usize::from(option.is_some());
        option
    }

    /// The number at this position, or `default`.
    fn number(&mut self, lua: &mut Lua<'_>, default: usize) -> Result<usize, Raise> {
        let rest = &self.text[self.pos..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(default);
        }
        let value = rest[..digits]
            .iter()
            .try_fold(0i32, |value, b| value.checked_mul(10)?.checked_add(i32::from(b - b'0')));
        self.pos += digits;
        match value {
            Some(value) => Ok(value as usize),
            None => Err(fail(lua, b"integral size overflow")),
        }
    }

    /// The size in bytes of an option's value; 0 for options without a value, or with a value of variable size.
    fn size(&mut self, lua: &mut Lua<'_>, option: u8) -> Result<usize, Raise> {
        Ok(match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(lua, 1)?,
            b'i' | b'I' => {
                let size = self.number(lua, 4)?;
                if size > MAX_INT {
                    let text = format!("integral size {size} is larger than limit of {MAX_INT}");
                    return Err(fail(lua, text.as_bytes()));
                }
                size
            }
            _ => 0,
        })
    }

    /// Padding in bytes at `pos` that aligns a value of `size` bytes.
    fn padding(&self, pos: usize, option: u8, size: usize) -> usize {
        if size == 0 || option == b'c' {
            return 0;
        }
        let size = size.min(self.align);
        // Computed as in the original, even if the size is not a power of two.
        (size - (pos & (size - 1))) & (size - 1)
    }

    /// Applies an option that has no value.
    fn control(&mut self, lua: &mut Lua<'_>, option: u8) -> Result<(), Raise> {
        match option {
            b' ' => {}
            b'>' => self.big = true,
            b'<' => self.big = false,
            b'!' => {
                let align = self.number(lua, MAX_ALIGN)?;
                if !align.is_power_of_two() {
                    return Err(fail(lua, format!("alignment {align} is not a power of 2").as_bytes()));
                }
                self.align = align;
            }
            _ => {
                return Err(bad_argument(lua, 1, [b"invalid format option '", &[option][..], b"'"].concat()));
            }
        }
        Ok(())
    }
}

/// `struct.pack(format, value, …)`. O(length of the result).
pub fn pack(lua: &mut Lua<'_>) -> Native {
    let mut format = Format::new(lua)?;
    // In error messages, the first missing value counts as nil.
    lua.push_nil();
    let mut out = Vec::new();
    // Length of the result as the original counts it, which wrongly leaves out `c0` strings.
    let mut arg = 2;
    let mut total = 0usize;
    while let Some(option) = format.next() {
        let mut size = format.size(lua, option)?;
        let padding = format.padding(total, option, size);
        total += padding;
        out.resize(out.len() + padding, 0);
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let x = check_number(lua, arg)?;
                arg += 1;
                let n = if x < 0.0 { truncate(x) as u64 } else { unsigned(x) };
                let start = out.len();
                out.extend((0..size).map(|i| n.checked_shr(8 * i as u32).unwrap_or(0) as u8));
                if format.big {
                    out[start..].reverse();
                }
            }
            b'x' => out.push(0),
            b'f' | b'd' => {
                let x = check_number(lua, arg)?;
                arg += 1;
                let start = out.len();
                if option == b'f' {
                    out.extend_from_slice(&(x as f32).to_le_bytes());
                } else {
                    out.extend_from_slice(&x.to_le_bytes());
                }
                if format.big {
                    out[start..].reverse();
                }
            }
            b'c' | b's' => {
                check_string(lua, arg)?;
                arg += 1;
                let text = lua.bytes(arg - 1).unwrap_or_default();
                if size == 0 {
                    size = text.len();
                }
                if text.len() < size {
                    return Err(bad_argument(lua, arg, "string too short"));
                }
                out.extend_from_slice(&text[..size]);
                if option == b's' {
                    out.push(0);
                    size += 1;
                }
                lua.room_for(out.len())?;
            }
            _ => format.control(lua, option)?,
        }
        total += size;
    }
    lua.push_bytes(&out);
    Ok(1)
}

/// Casts a double to an unsigned 64-bit integer as C does.
fn unsigned(x: f64) -> u64 {
    if x < (1u64 << 63) as f64 { x as u64 } else { (truncate(x - (1u64 << 63) as f64) as u64) ^ 1 << 63 }
}

/// `struct.unpack(format, data, position)`: the values, and the position after them.
pub fn unpack(lua: &mut Lua<'_>) -> Native {
    let mut format = Format::new(lua)?;
    check_string(lua, 2)?;
    let len = lua.raw_len(2);
    let pos = truncate(opt_number(lua, 3, 1.0)?) as u64;
    if pos == 0 {
        return Err(bad_argument(lua, 3, "offset must be 1 or greater"));
    }
    let mut pos = pos - 1;
    let mut count = 0;
    while let Some(option) = format.next() {
        let mut size = format.size(lua, option)?;
        pos = pos.wrapping_add(format.padding(pos as usize, option, size) as u64);
        if size > len || pos > (len - size) as u64 {
            return Err(bad_argument(lua, 2, "data string too short"));
        }
        if !lua.reserve(2) {
            return Err(fail(lua, b"stack overflow (too many results)"));
        }
        let at = pos as usize;
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let data = &lua.bytes(2).unwrap_or_default()[at..at + size];
                let x = read_integer(data, format.big, option.is_ascii_lowercase());
                lua.push_number(x);
                count += 1;
            }
            b'x' => {}
            b'f' | b'd' => {
                let data = &lua.bytes(2).unwrap_or_default()[at..at + size];
                let mut bytes = [0u8; 8];
                bytes[..size].copy_from_slice(data);
                if format.big {
                    bytes[..size].reverse();
                }
                let [a, b, c, d, ..] = bytes;
                let single = f64::from(f32::from_le_bytes([a, b, c, d]));
                lua.push_number(if option == b'f' { single } else { f64::from_le_bytes(bytes) });
                count += 1;
            }
            b'c' => {
                if size == 0 {
                    let previous = if count == 0 { None } else { lua.to_number(-1) };
                    let Some(previous) = previous else {
                        return Err(fail(lua, b"format 'c0' needs a previous size"));
                    };
                    lua.pop(1);
                    count -= 1;
                    size = unsigned(previous) as usize;
                    if size > len || pos > (len - size) as u64 {
                        return Err(bad_argument(lua, 2, "data string too short"));
                    }
                }
                lua.push_part(2, at, at + size);
                count += 1;
            }
            b's' => {
                let found = memchr::memchr(0, &lua.bytes(2).unwrap_or_default()[at..]);
                let Some(found) = found else {
                    return Err(fail(lua, b"unfinished string in data"));
                };
                lua.push_part(2, at, at + found);
                size = found + 1;
                count += 1;
            }
            _ => format.control(lua, option)?,
        }
        pos += size as u64;
    }
    lua.push_number((pos + 1) as f64);
    Ok(count + 1)
}

/// Reads an integer of any size, of which the low 64 bits count.
fn read_integer(data: &[u8], big: bool, signed: bool) -> f64 {
    let add = |n: u64, byte: &u8| n << 8 | u64::from(*byte);
    let n = if big { data.iter().fold(0, add) } else { data.iter().rev().fold(0, add) };
    if !signed {
        return n as f64;
    }
    let mask = u64::MAX.wrapping_shl((8 * data.len() as u32).wrapping_sub(1));
    (if n & mask != 0 { n | mask } else { n }) as i64 as f64
}

/// `struct.size(format)`.
pub fn size(lua: &mut Lua<'_>) -> Native {
    let mut format = Format::new(lua)?;
    let mut pos = 0usize;
    while let Some(option) = format.next() {
        let size = format.size(lua, option)?;
        pos = pos.wrapping_add(format.padding(pos, option, size));
        if option == b's' {
            return Err(bad_argument(lua, 1, "option 's' has no fixed size"));
        }
        if option == b'c' && size == 0 {
            return Err(bad_argument(lua, 1, "option 'c0' has no fixed size"));
        }
        if !option.is_ascii_alphanumeric() {
            format.control(lua, option)?;
        }
        pos = pos.wrapping_add(size);
    }
    lua.push_number(pos as f64);
    Ok(1)
}
