//! Quoting: splitting a line into words, and showing arbitrary bytes as a word.
//!
//! The syntax is that of Redis's inline commands, configuration lines and logs:
//!
//! * Words are separated by blanks. A quote opens inside or before a word and ends it when it
//!   closes; what follows must be a blank or the end.
//! * In double quotes `\n \r \t \b \a` are control bytes, `\xHH` is any byte, and `\` before
//!   anything else is left out. In single quotes only `\'` is special.
//! * A zero byte ends the line.

/// A quote is not closed, or a closing quote is not followed by a blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unbalanced quotes")]
pub struct Unbalanced;

/// C's `isspace`.
#[inline]
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The value of a hexadecimal digit.
#[inline]
fn hex_value(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// Splits a line into words. O(length). Allocates at most `length` bytes in at most `length / 2 + 1` words.
pub fn split_args(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
    let line = &line[..memchr::memchr(0, line).unwrap_or(line.len())];
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = &rest[rest.iter().take_while(|&&byte| is_space(byte)).count()..];
        if rest.is_empty() {
            return Ok(words);
        }
        let (word, behind) = split_word(rest)?;
        words.push(word);
        rest = behind;
    }
}

/// Splits off the first word of a line that does not start with a blank. Returns the word and the rest.
fn split_word(line: &[u8]) -> Result<(Vec<u8>, &[u8]), Unbalanced> {
    // Vertical tab and form feed separate words, but within an unquoted word they count as letters.
    let special = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b'"' | b'\'');
    let bare = line.iter().position(special).unwrap_or(line.len());
    let mut word = line[..bare].to_vec();
    let behind = match line[bare..] {
        [b'"', ref quoted @ ..] => unquote_double(quoted, &mut word)?,
        [b'\'', ref quoted @ ..] => unquote_single(quoted, &mut word)?,
        ref behind => return Ok((word, behind)),
    };
    match behind {
        [next, ..] if !is_space(*next) => Err(Unbalanced),
        _ => Ok((word, behind)),
    }
}

/// Appends the text in double quotes and returns the rest behind the closing quote.
fn unquote_double<'l>(mut rest: &'l [u8], word: &mut Vec<u8>) -> Result<&'l [u8], Unbalanced> {
    loop {
        let (byte, length) = match *rest {
            [] => return Err(Unbalanced),
            [b'"', ref behind @ ..] => return Ok(behind),
            [b'\\', b'x', high, low, ..]
                if let (Some(high), Some(low)) = (hex_value(high), hex_value(low)) =>
            {
                (high << 4 | low, 4)
            }
            [b'\\', escaped, ..] => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                };
                (byte, 2)
            }
            [byte, ..] => (byte, 1),
        };
        word.push(byte);
        rest = &rest[length..];
    }
}

/// Appends the text in single quotes and returns the rest behind the closing quote.
fn unquote_single<'l>(mut rest: &'l [u8], word: &mut Vec<u8>) -> Result<&'l [u8], Unbalanced> {
    loop {
        let (byte, length) = match *rest {
            [] => return Err(Unbalanced),
            [b'\'', ref behind @ ..] => return Ok(behind),
            [b'\\', b'\'', ..] => (b'\'', 2),
            [byte, ..] => (byte, 1),
        };
        word.push(byte);
        rest = &rest[length..];
    }
}

/// Appends `bytes` in double quotes, with printable ASCII as it is and the rest escaped. [`split_args`] returns the
/// same bytes again. At most `4 * bytes.len() + 2` bytes.
pub fn push_repr(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'x', high, low]);
            }
        }
    }
    out.push(b'"');
}

/// `bytes` in double quotes, as [`push_repr`] writes them.
pub fn repr(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    push_repr(bytes, &mut out);
    String::from_utf8(out).expect("printable ASCII only")
}

/// Whether a word must be quoted for [`split_args`] to return it unchanged: it is empty, or contains a quote, a
/// backslash, a blank or an unprintable byte.
pub fn needs_quotes(bytes: &[u8]) -> bool {
    bytes.is_empty()
        || bytes.iter().any(|byte| !matches!(byte, b'!'..=b'~') || matches!(byte, b'"' | b'\'' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    #[test]
    fn words() {
        let table: &[(&[u8], &[&[u8]])] = &[
            (b"", &[]),
            (b" \t\r\n\x0b\x0c ", &[]),
            (b"set key value", &[b"set", b"key", b"value"]),
            (b"  a\tb\r\nc\n", &[b"a", b"b", b"c"]),
            (b"\"a b\" 'c d'", &[b"a b", b"c d"]),
            (b"\"\" ''", &[b"", b""]),
            (b"a\"b c\"", &[b"ab c"]),
            (b"a'b c'", &[b"ab c"]),
            (b"\"\\x41\\x7f\\n\\r\\t\\b\\a\\\"\\\\\\q\"", &[b"A\x7f\n\r\t\x08\x07\"\\q"]),
            (b"\"\\xzz\\x4\"", &[b"xzzx4"]),
            (b"'\\n\\'\\q'", &[b"\\n'\\q"]),
            // The last two bytes are one escape, not a backslash and a closing quote.
            (b"'\\\\''", &[b"\\'"]),
            (b"a\\nb", &[b"a\\nb"]),
            (b"\"a\"\x0b\"b\"", &[b"a", b"b"]),
            (b"a\x0bb", &[b"a\x0bb"]),
            (b"a b\0c", &[b"a", b"b"]),
            (b"\xff\xfe", &[b"\xff\xfe"]),
        ];
        for (line, words) in table {
            assert_eq!(split_args(line).expect("balanced"), *words, "{}", line.escape_ascii());
        }
        for line in
            [&b"\"a"[..], b"'a", b"\"a\"b", b"'a'b", b"\"a\"'b'", b"\"a\\\"", b"\"a\0\"", b"\"\\", b"'\\'"]
        {
            assert_eq!(split_args(line), Err(Unbalanced), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn shown() {
        assert_eq!(repr(b"a\"b\\c\n\r\t\x07\x08\x00\x7f\xffd'"), r#""a\"b\\c\n\r\t\a\b\x00\x7f\xffd'""#);
        assert_eq!(repr(b""), "\"\"");
        assert!(
            needs_quotes(b"") && needs_quotes(b"a b") && needs_quotes(b"it's") && needs_quotes(b"\xc3\xa4")
        );
        assert!(!needs_quotes(b"a-b:c*"));
    }

    #[test]
    fn quoted_words_come_back() {
        let mut rng = Rng::new(31);
        for _ in 0..5_000 {
            let words: Vec<Vec<u8>> = (0..rng.below(5))
                .map(|_| {
                    let mut word = vec![0; rng.index(12)];
                    rng.fill(&mut word);
                    word
                })
                .collect();
            let mut line = Vec::new();
            for word in &words {
                if needs_quotes(word) || rng.chance(0.5) {
                    push_repr(word, &mut line);
                } else {
                    line.extend_from_slice(word);
                }
                line.push(b' ');
            }
            assert_eq!(split_args(&line), Ok(words), "seed 31");
        }
    }

    #[test]
    fn arbitrary_lines_do_no_harm() {
        let mut rng = Rng::new(32);
        for _ in 0..100_000 {
            let line: Vec<u8> = (0..rng.below(20))
                .map(|_| *rng.choose(b"\"\"''\\\\xn0af \t\x0b\xff").expect("not empty"))
                .collect();
            if let Ok(words) = split_args(&line) {
                assert!(words.iter().map(Vec::len).sum::<usize>() <= line.len());
            }
        }
    }
}
