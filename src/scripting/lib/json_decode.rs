//! `cjson.decode`.

use super::cjson::Settings;
use crate::scripting::lua::c_text::parse_double;
use crate::scripting::lua::ffi::{Lua, Native, Raise};
use crate::scripting::run::{bad_argument, check_string, fail, tick};

/// `cjson.decode(text)`. O(length).
pub(super) fn decode(lua: &mut Lua<'_>) -> Native {
    if lua.top() != 1 {
        return Err(bad_argument(lua, 1, "expected 1 argument"));
    }
    check_string(lua, 1)?;
    let settings = lua.state().json;
    let decoded = lua.with_string(1, |source, lua| {
        if source.len() >= 2 && (source[0] == 0 || source[1] == 0) {
            return Err(fail(lua, b"JSON parser does not support UTF-16 or UTF-32"));
        }
        let mut decoder = Decoder { source, pos: 0, settings, depth: 0, text: Vec::new(), steps: 0 };
        let token = decoder.token();
        decoder.value(lua, token)?;
        match decoder.token() {
            Token { kind: What::End, .. } => Ok(1),
            token => Err(expected(lua, "the end", &token)),
        }
    });
    decoded.unwrap_or(Ok(0))
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum What {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// A string without escapes, by its range in the source.
    Plain(usize, usize),
    /// A string with escapes, decoded into the decoder's buffer.
    Escaped,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

struct Token {
    kind: What,
    at: usize,
}

struct Decoder<'a> {
    source: &'a [u8],
    pos: usize,
    settings: Settings,
    depth: i32,
    text: Vec<u8>,
    steps: u32,
}

#[cold]
fn expected(lua: &mut Lua<'_>, what: &str, token: &Token) -> Raise {
    let found = match token.kind {
        What::ObjectBegin => "T_OBJ_BEGIN",
        What::ObjectEnd => "T_OBJ_END",
        What::ArrayBegin => "T_ARR_BEGIN",
        What::ArrayEnd => "T_ARR_END",
        What::Plain(..) | What::Escaped => "T_STRING",
        What::Number(_) => "T_NUMBER",
        What::Boolean(_) => "T_BOOLEAN",
        What::Null => "T_NULL",
        What::Colon => "T_COLON",
        What::Comma => "T_COMMA",
        What::End => "T_END",
        What::Error(text) => text,
    };
    let text = format!("Expected {what} but found {found} at character {}", token.at + 1);
    fail(lua, text.as_bytes())
}

impl Decoder<'_> {
    fn byte(&self, ahead: usize) -> u8 {
        self.source.get(self.pos + ahead).copied().unwrap_or(0)
    }

    fn token(&mut self) -> Token {
        while matches!(self.byte(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.pos += 1;
        }
        let at = self.pos;
        let single = match self.byte(0) {
            b'{' => What::ObjectBegin,
            b'}' => What::ObjectEnd,
            b'[' => What::ArrayBegin,
            b']' => What::ArrayEnd,
            b',' => What::Comma,
            b':' => What::Colon,
            0 => return Token { kind: What::End, at },
            b'"' => return self.string(at),
            b'-' | b'0'..=b'9' => {
                if !self.settings.decode_invalid && self.is_invalid_number() {
                    return Token { kind: What::Error("invalid number"), at };
                }
                return self.number(at);
            }
            _ => {
                let rest = &self.source[at..];
                let (kind, len) = if rest.starts_with(b"true") {
                    (What::Boolean(true), 4)
                } else if rest.starts_with(b"false") {
                    (What::Boolean(false), 5)
                } else if rest.starts_with(b"null") {
                    (What::Null, 4)
                } else if self.settings.decode_invalid
                    && b"+-IiNn".contains(&self.byte(0))
                    && self.is_invalid_number()
                {
                    return self.number(at);
                } else {
                    (What::Error("invalid token"), 0)
                };
                self.pos += len;
                return Token { kind, at };
            }
        };
        self.pos += 1;
        Token { kind: single, at }
    }

    /// Whether there is a number here that JSON does not allow.
    fn is_invalid_number(&self) -> bool {
        let rest = &self.source[self.pos..];
        if rest.first() == Some(&b'+') {
            return true;
        }
        let rest = rest.strip_prefix(b"-").unwrap_or(rest);
        match rest {
            [b'0', b'x' | b'X' | b'0'..=b'9', ..] => true,
            [b'0'..=b'9', ..] => false,
            _ => rest
                .get(..3)
                .is_some_and(|word| word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")),
        }
    }

    fn number(&mut self, at: usize) -> Token {
        // Integers of up to 15 digits are converted here.
        let rest = &self.source[at..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let plain = !matches!(rest.get(digits), Some(b'.' | b'e' | b'E' | b'x' | b'X'));
        if (1..=15).contains(&digits) && plain {
            let value = rest[..digits].iter().fold(0u64, |value, b| value * 10 + u64::from(b - b'0'));
            self.pos += digits;
            return Token { kind: What::Number(value as f64), at };
        }
        let (value, len) = parse_double(rest);
        self.pos += len;
        Token { kind: if len == 0 { What::Error("invalid number") } else { What::Number(value) }, at }
    }

    fn string(&mut self, at: usize) -> Token {
        let start = at + 1;
        let special = |rest: &[u8]| rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0));
        match special(&self.source[start..]) {
            Some(len) if self.source[start + len] == b'"' => {
                self.pos = start + len + 1;
                return Token { kind: What::Plain(start, start + len), at };
            }
            _ => self.pos = start,
        }
        self.text.clear();
        loop {
            match self.byte(0) {
                b'"' => {
                    self.pos += 1;
                    return Token { kind: What::Escaped, at };
                }
                0 => return Token { kind: What::Error("unexpected end of string"), at: self.pos },
                b'\\' => {
                    let byte = match self.byte(1) {
                        byte @ (b'"' | b'\\' | b'/') => byte,
                        b'b' => 8,
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'f' => 12,
                        b'r' => b'\r',
                        b'u' => {
                            if self.unicode().is_none() {
                                return Token {
                                    kind: What::Error("invalid unicode escape code"),
                                    at: self.pos,
                                };
                            }
                            continue;
                        }
                        _ => return Token { kind: What::Error("invalid escape code"), at: self.pos },
                    };
                    self.text.push(byte);
                    self.pos += 2;
                }
                byte => {
                    self.text.push(byte);
                    self.pos += 1;
                }
            }
        }
    }

    /// The code unit of `\uXXXX` at `ahead`.
    fn hex(&self, ahead: usize) -> Option<u32> {
        (0..4).try_fold(0, |value, i| Some(value << 4 | (self.byte(ahead + i) as char).to_digit(16)?))
    }

    fn unicode(&mut self) -> Option<()> {
        let mut code = self.hex(2)?;
        let mut len = 6;
        if code & 0xf800 == 0xd800 {
            // A high surrogate must be followed by a low one.
            if code & 0x400 != 0 || self.byte(6) != b'\\' || self.byte(7) != b'u' {
                return None;
            }
            let low = self.hex(8)?;
            if low & 0xfc00 != 0xdc00 {
                return None;
            }
            code = ((code & 0x3ff) << 10 | low & 0x3ff) + 0x10000;
            len = 12;
        }
        let mut utf8 = [0; 4];
        self.text.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut utf8).as_bytes());
        self.pos += len;
        Some(())
    }

    fn descend(&mut self, lua: &mut Lua<'_>) -> Result<(), Raise> {
        self.depth += 1;
        if self.depth <= self.settings.decode_depth && lua.reserve(3) {
            return Ok(());
        }
        let text =
            format!("Found too many nested data structures ({}) at character {}", self.depth, self.pos);
        Err(fail(lua, text.as_bytes()))
    }

    fn push_text(&self, lua: &mut Lua<'_>, kind: What) {
        match kind {
            What::Plain(from, to) => lua.push_bytes(&self.source[from..to]),
            _ => lua.push_bytes(&self.text),
        }
    }

    /// Pushes the value that begins with `token`.
    fn value(&mut self, lua: &mut Lua<'_>, token: Token) -> Result<(), Raise> {
        tick(lua, &mut self.steps, 0)?;
        match token.kind {
            What::Plain(..) | What::Escaped => self.push_text(lua, token.kind),
            What::Number(x) => lua.push_number(x),
            What::Boolean(yes) => lua.push_bool(yes),
            What::Null => lua.push_null(),
            What::ObjectBegin => return self.object(lua),
            What::ArrayBegin => return self.array(lua),
            _ => return Err(expected(lua, "value", &token)),
        }
        Ok(())
    }

    fn object(&mut self, lua: &mut Lua<'_>) -> Result<(), Raise> {
        self.descend(lua)?;
        lua.new_table(0, 4);
        let mut token = self.token();
        if token.kind != What::ObjectEnd {
            loop {
                if !matches!(token.kind, What::Plain(..) | What::Escaped) {
                    return Err(expected(lua, "object key string", &token));
                }
                self.push_text(lua, token.kind);
                token = self.token();
                if token.kind != What::Colon {
                    return Err(expected(lua, "colon", &token));
                }
                let next = self.token();
                self.value(lua, next)?;
                lua.raw_set(-3);
                token = self.token();
                match token.kind {
                    What::ObjectEnd => break,
                    What::Comma => token = self.token(),
                    _ => return Err(expected(lua, "comma or object end", &token)),
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self, lua: &mut Lua<'_>) -> Result<(), Raise> {
        self.descend(lua)?;
        lua.new_table(4, 0);
        let mut token = self.token();
        let mut items = 0;
        if token.kind != What::ArrayEnd {
            loop {
                self.value(lua, token)?;
                items += 1;
                lua.raw_set_index(-2, items);
                token = self.token();
                match token.kind {
                    What::ArrayEnd => break,
                    What::Comma => token = self.token(),
                    _ => return Err(expected(lua, "comma or array end", &token)),
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }
}
