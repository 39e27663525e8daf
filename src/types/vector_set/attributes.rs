//! Reading one field of a JSON object without reading the rest of it.
//!
//! What is behind the field is not looked at, and what is before it only as far as it must be passed over.

use super::filter::Value;

/// What is not yet read of a text.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn skip_spaces(&mut self) {
        let spaces = self.0.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
        self.0 = &self.0[spaces..];
    }

    /// Passes over spaces and this byte; `None` if another one comes.
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_spaces();
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    /// Passes over a string that begins here; its content, with escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let mut at = 0;
        loop {
            match self.0.get(at)? {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        let content = &self.0[..at];
        self.0 = &self.0[at + 1..];
        Some(content)
    }

    /// Passes over a word or number.
    fn word(&mut self) -> &'a [u8] {
        let of_word = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let (word, rest) = self.0.split_at(self.0.iter().take_while(of_word).count());
        self.0 = rest;
        word
    }

    /// Passes over an object or array that begins here.
    fn skip_nested(&mut self) -> Option<()> {
        let mut depth = 0u64;
        loop {
            match self.0.first()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.0 = &self.0[1..];
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Passes over a value. `Some(None)` for one that filters do not know: an object, or an array in an array.
    fn value(&mut self, nested: bool) -> Option<Option<Value<'a>>> {
        self.skip_spaces();
        Some(match self.0.first()? {
            b'"' => Some(Value::Text(unescape(self.string()?))),
            b'[' if !nested => Some(Value::List(self.array()?)),
            b'[' | b'{' => {
                self.skip_nested()?;
                None
            }
            _ => Some(match self.word() {
                b"true" => Value::Number(1.0),
                b"false" => Value::Number(0.0),
                b"null" => Value::Null,
                number => {
                    number.first().filter(|byte| !byte.is_ascii_alphabetic())?;
                    Value::Number(std::str::from_utf8(number).ok()?.parse().ok()?)
                }
            }),
        })
    }

    fn array(&mut self) -> Option<Vec<Value<'a>>> {
        self.expect(b'[')?;
        let mut values = Vec::new();
        if self.expect(b']').is_some() {
            return Some(values);
        }
        loop {
            values.extend(self.value(true)?);
            if self.expect(b',').is_none() {
                self.expect(b']')?;
                return Some(values);
            }
        }
    }
}

/// The text that a JSON string stands for. Escapes that JSON does not have stand for themselves.
fn unescape(content: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !content.contains(&b'\\') {
        return content.into();
    }
    let mut text = Vec::with_capacity(content.len());
    let mut rest = content;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            text.push(*first);
            continue;
        }
        let Some((&escape, tail)) = rest.split_first() else { break };
        rest = tail;
        match escape {
            b'n' => text.push(b'\n'),
            b't' => text.push(b'\t'),
            b'r' => text.push(b'\r'),
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'u' => {
                let unit = |digits: &[u8]| {
                    let digits = digits.first_chunk::<4>()?;
                    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
                };
                let Some(high) = unit(rest) else { continue };
                rest = &rest[4..];
                let low =
                    rest.strip_prefix(b"\\u").and_then(unit).filter(|low| (0xdc00..0xe000).contains(low));
                let code = match low {
                    Some(low) if (0xd800..0xdc00).contains(&high) => {
                        rest = &rest[6..];
                        0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                    }
                    _ => high,
                };
                let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => text.push(other),
        }
    }
    text.into()
}

/// The value of a field of the object that `json` is; `None` if it is not an object, has no such field, or the field is
/// an object itself. O(n).
pub(super) fn field<'a>(json: &'a [u8], name: &[u8]) -> Option<Value<'a>> {
    let mut text = Text(json);
    text.expect(b'{')?;
    loop {
        text.skip_spaces();
        let key = text.string()?;
        text.expect(b':')?;
        text.skip_spaces();
        if *unescape(key) == *name {
            return text.value(false)?;
        }
        match text.0.first()? {
            b'[' | b'{' => text.skip_nested()?,
            _ => drop(text.value(true)?),
        }
        text.expect(b',')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let json = br#" { "a" : 1, "b":[1,"x",[2],null], "o":{"a":"}"}, "s":"q\"\u00e9\ud83d\ude00\n", "t":true, "n":-1.5e2,
            "z":null, "end":7"#;
        assert_eq!(field(json, b"a"), Some(Value::Number(1.0)));
        let list = vec![Value::Number(1.0), Value::Text(b"x".into()), Value::Null];
        assert_eq!(field(json, b"b"), Some(Value::List(list)));
        assert_eq!(field(json, b"o"), None);
        assert_eq!(field(json, b"s"), Some(Value::Text("q\"é😀\n".as_bytes().into())));
        assert_eq!(field(json, b"t"), Some(Value::Number(1.0)));
        assert_eq!(field(json, b"n"), Some(Value::Number(-150.0)));
        assert_eq!(field(json, b"z"), Some(Value::Null));
        assert_eq!(field(json, b"end"), Some(Value::Number(7.0)));
        assert_eq!(field(json, b"none"), None);
    }

    #[test]
    fn what_is_no_object_has_no_fields() {
        for json in [
            "",
            "{",
            "[1]",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":x}",
            "{'a':1}",
            "{\"b\":tru,\"a\":1}",
            "{\"a\":\"x",
            "{\"a\":[1",
            "{\"b\":[[,\"a\":1}",
            "{\"a\\",
            "{\"a\":\"\\",
        ] {
            assert_eq!(field(json.as_bytes(), b"a"), None, "{json}");
        }
        let deep = [b"{\"b\":".as_slice(), &[b'['; 100_000], b",\"a\":1}"].concat();
        assert_eq!(field(&deep, b"a"), None);
    }
}
