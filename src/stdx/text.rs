//! Bytes that are mostly ASCII text: comparison without case, and display of bytes that may not be UTF-8.

use std::fmt::{self, Display, Formatter, Write};

/// Whether two texts are equal, ignoring the case of ASCII letters.
#[inline]
pub fn eq_ignore_case(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// A word of at most `N` bytes with its ASCII letters in lower case, without allocation, for looking up names.
#[derive(Clone, Copy, Debug)]
pub struct Lower<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Lower<N> {
    /// Converts a word to lower case; `None` if it is longer than `N`, so that no name in the table can match it.
    #[inline]
    pub fn new(word: &[u8]) -> Option<Self> {
        let mut bytes = [0; N];
        let room = bytes.get_mut(..word.len())?;
        room.copy_from_slice(word);
        room.make_ascii_lowercase();
        Some(Lower { bytes, len: word.len() })
    }

    /// The word.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<const N: usize> AsRef<[u8]> for Lower<N> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Displays bytes as UTF-8, with U+FFFD for invalid parts, without allocation.
#[derive(Clone, Copy)]
pub struct Lossy<'b>(pub &'b [u8]);

impl Display for Lossy<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Lossy<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    #[test]
    fn case() {
        assert!(eq_ignore_case(b"PiNg", b"pInG"));
        assert!(!eq_ignore_case(b"ping", b"pings"));
        // The neighbours of the letters in ASCII are not letters.
        assert!(!eq_ignore_case(b"@[", b"`{"));
        assert_eq!(Lower::<4>::new(b"GeT").expect("fits").as_bytes(), b"get");
        assert_eq!(Lower::<4>::new(b"GET\xc4").expect("fits").as_ref(), b"get\xc4");
        assert_eq!(Lower::<4>::new(b"").expect("fits").as_bytes(), b"");
        assert!(Lower::<4>::new(b"SETEX").is_none());
    }

    #[test]
    fn lossy_agrees_with_std() {
        let mut rng = Rng::new(41);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.below(12))
                .map(|_| *rng.choose(b"a\xc3\xa4\xe2\x82\xac\xf0\x9f\xff").expect("not empty"))
                .collect();
            assert_eq!(Lossy(&bytes).to_string(), String::from_utf8_lossy(&bytes), "seed 41");
        }
        assert_eq!(format!("{:?}", Lossy(b"a\xff\n")), "\"a\\xff\\n\"");
    }
}
