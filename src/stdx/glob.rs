//! Glob patterns over bytes: `*`, `?`, `[abc]`, `[^a]`, `[a-z]`, and `\` before a byte that
//! stands for itself. Compatible with Redis in the corners too:
//!
//! * A `[` that is never closed reaches to the end of the pattern; `[]` matches no byte.
//! * `x-y` in a class is always a range, even `[a-]`, which goes from `a` to `]` and is therefore
//!   not closed by that `]`; `[z-a]` is `[a-z]`.
//! * A `\` at the very end stands for itself.
//! * The empty text matches only the empty pattern, not even `*`; but see [`Pattern`].
//!
//! Every element except `*` matches exactly one byte, so after a mismatch it suffices to extend the last `*` by one
//! byte; earlier stars need not be reconsidered. A match therefore costs at most O(pattern * text), without
//! recursion, whatever the pattern.

use memchr::memmem;

/// Whether `pattern` matches all of `text`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    glob::<false>(pattern, text)
}

/// Whether `pattern` matches all of `text`, ignoring the case of ASCII letters.
pub fn matches_nocase(pattern: &[u8], text: &[u8]) -> bool {
    glob::<true>(pattern, text)
}

fn glob<const NOCASE: bool>(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // The last star: the pattern behind it, and the end of the text that it matches.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            while p < pattern.len() && pattern[p] == b'*' {
                p += 1;
            }
            if p == pattern.len() {
                return true;
            }
            star = Some((p, t));
            continue;
        }
        if t == text.len() {
            // A longer match of a star leaves even less for the rest of the pattern.
            return p == pattern.len();
        }
        if p < pattern.len() {
            let (fits, length) = one::<NOCASE>(&pattern[p..], text[t]);
            if fits {
                p += length;
                t += 1;
                continue;
            }
        }
        let Some((behind, reach)) = star else { return false };
        star = Some((behind, reach + 1));
        (p, t) = (behind, reach + 1);
    }
}

#[inline(always)]
fn fold<const NOCASE: bool>(byte: u8) -> u8 {
    if NOCASE { byte.to_ascii_lowercase() } else { byte }
}

/// Whether the element at the start of `pattern` (not empty, not a star) matches `byte`, and the length of the
/// element.
#[inline(always)]
fn one<const NOCASE: bool>(pattern: &[u8], byte: u8) -> (bool, usize) {
    match *pattern {
        [b'?', ..] => (true, 1),
        [b'[', ..] => class::<NOCASE>(pattern, byte),
        [b'\\', literal, ..] => (fold::<NOCASE>(literal) == fold::<NOCASE>(byte), 2),
        [literal, ..] => (fold::<NOCASE>(literal) == fold::<NOCASE>(byte), 1),
        [] => (false, 0),
    }
}

/// Like [`one`], for a pattern that starts with `[`.
fn class<const NOCASE: bool>(pattern: &[u8], byte: u8) -> (bool, usize) {
    let byte = fold::<NOCASE>(byte);
    let negated = pattern.get(1) == Some(&b'^');
    let mut at = 1 + usize::from(negated);
    let mut found = false;
    loop {
        let (low, high, length) = match pattern[at..] {
            [] => break,
            [b'\\', literal, ..] => (literal, literal, 2),
            [b']', ..] => {
                at += 1;
                break;
            }
            [low, b'-', high, ..] => (low, high, 3),
            [literal, ..] => (literal, literal, 1),
        };
        let (low, high) = if low <= high { (low, high) } else { (high, low) };
        found |= (fold::<NOCASE>(low)..=fold::<NOCASE>(high)).contains(&byte);
        at += length;
    }
    (found != negated, at)
}

/// A pattern analysed once to be matched against many texts. Common shapes are matched without interpreting the
/// pattern.
///
/// Results are those of [`matches`] with one exception: the pattern `*` matches every text, including the empty one,
/// which is what commands that list names mean by it.
#[derive(Debug, Clone)]
pub struct Pattern<'p> {
    shape: Shape<'p>,
}

#[derive(Debug, Clone)]
enum Shape<'p> {
    /// `*`.
    All,
    /// No special byte.
    Literal(&'p [u8]),
    /// One star, or several in a row, with literal text before or behind.
    Affix { prefix: &'p [u8], suffix: &'p [u8] },
    /// Literal text between two stars.
    Contains(Box<memmem::Finder<'p>>),
    /// Anything else.
    General(&'p [u8]),
}

impl<'p> Pattern<'p> {
    /// Analyses a pattern. O(pattern).
    pub fn compile(pattern: &'p [u8]) -> Self {
        let shape = if pattern == b"*" {
            Shape::All
        } else if memchr::memchr3(b'?', b'[', b'\\', pattern).is_some() {
            Shape::General(pattern)
        } else {
            match memchr::memchr(b'*', pattern) {
                None => Shape::Literal(pattern),
                Some(first) => {
                    let prefix = &pattern[..first];
                    let behind = &pattern[first..];
                    let stars = behind.iter().take_while(|&&byte| byte == b'*').count();
                    let rest = &behind[stars..];
                    match memchr::memchr(b'*', rest) {
                        None if prefix.is_empty() && rest.is_empty() => Shape::General(pattern),
                        None => Shape::Affix { prefix, suffix: rest },
                        Some(second)
                            if prefix.is_empty() && rest[second..].iter().all(|&byte| byte == b'*') =>
                        {
                            Shape::Contains(Box::new(memmem::Finder::new(&rest[..second])))
                        }
                        Some(_) => Shape::General(pattern),
                    }
                }
            }
        };
        Pattern { shape }
    }

    /// Whether the pattern matches all of `text`.
    #[inline]
    pub fn matches(&self, text: &[u8]) -> bool {
        match &self.shape {
            Shape::All => true,
            Shape::Literal(literal) => *literal == text,
            Shape::Affix { prefix, suffix } => {
                text.len() >= prefix.len() + suffix.len()
                    && text.starts_with(prefix)
                    && text.ends_with(suffix)
            }
            Shape::Contains(finder) => finder.find(text).is_some(),
            Shape::General(pattern) => matches(pattern, text),
        }
    }

    /// Whether the pattern is `*`, which matches every text.
    #[inline]
    pub fn matches_everything(&self) -> bool {
        matches!(self.shape, Shape::All)
    }

    /// The only text that the pattern matches, if it has no special byte.
    #[inline]
    pub fn literal(&self) -> Option<&'p [u8]> {
        match self.shape {
            Shape::Literal(literal) => Some(literal),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    #[test]
    fn corners() {
        let table: &[(&str, &str, bool)] = &[
            ("", "", true),
            ("", "a", false),
            ("**", "", false),
            ("**", "abc", true),
            ("a*", "", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("a\\", "a", false),
            ("[", "[", false),
            ("[", "a", false),
            ("[^", "a", true),
            ("[]", "a", false),
            ("[]", "]", false),
            ("[]a]", "a]", false),
            ("[^]", "a", true),
            ("[^]a", "xa", true),
            ("[ab", "b", true),
            ("[ab", "[ab", false),
            ("[a-", "-", true),
            ("[a-]", "]", true),
            ("[a-]", "^", true),
            ("[a-]", "-", false),
            ("[\\]]", "]", true),
            ("[\\", "\\", true),
            ("[\\a-c]", "b", false),
            ("[\\a-c]", "-", true),
            ("[a-\\]", "^", true),
            ("*[ab]*c", "xxbxxc", true),
            ("*a*b*c*", "cabbac", true),
            ("*ab", "aab", true),
            ("a*a", "a", false),
            ("ab*ba", "aba", false),
        ];
        for &(pattern, text, expected) in table {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
            let compiled = Pattern::compile(pattern.as_bytes());
            assert_eq!(compiled.matches(text.as_bytes()), expected, "{compiled:?} {text}");
        }
    }

    #[test]
    fn case() {
        assert!(matches_nocase(b"HeL*[A-C]?", b"hello bx"));
        assert!(matches_nocase(b"[z-A]ax", b"max"));
        // `Z` sorts before `a`, but `z` behind it: the range is ordered before its case is folded.
        assert!(!matches_nocase(b"[Z-a]", b"m"));
        assert!(matches_nocase(b"\\A", b"a"));
        assert!(!matches(b"A", b"a"));
        assert!(!matches_nocase(b"[^A]", b"a"));
    }

    /// The meaning of a pattern, by recursion over what its first element can match.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.first() {
            None => text.is_empty(),
            Some(b'*') => (0..=text.len()).any(|taken| model(&pattern[1..], &text[taken..])),
            Some(_) => match text.split_first() {
                None => false,
                Some((&byte, rest)) => {
                    let (fits, length) = one::<false>(pattern, byte);
                    fits && model(&pattern[length..], rest)
                }
            },
        }
    }

    fn random<'a>(rng: &mut Rng, alphabet: &[u8], room: &'a mut [u8]) -> &'a [u8] {
        let len = rng.index(room.len() + 1);
        for byte in &mut room[..len] {
            *byte = *rng.choose(alphabet).expect("the alphabet is not empty");
        }
        &room[..len]
    }

    #[test]
    fn agrees_with_the_recursive_meaning() {
        let mut rng = Rng::new(11);
        let (mut pattern, mut text) = ([0; 8], [0; 7]);
        let mut hits = 0;
        for round in 0..100_000 {
            let alphabet: &[u8] = if round % 2 == 0 { b"**??ab[]^-\\" } else { b"**aab" };
            let pattern = random(&mut rng, alphabet, &mut pattern);
            let text = random(&mut rng, b"ab]-\\^", &mut text);
            let expected = if text.is_empty() { pattern.is_empty() } else { model(pattern, text) };
            hits += usize::from(expected);
            let shown = (pattern.escape_ascii().to_string(), text.escape_ascii().to_string());
            assert_eq!(matches(pattern, text), expected, "seed 11: {shown:?}");
            let expected = expected || pattern == b"*";
            assert_eq!(Pattern::compile(pattern).matches(text), expected, "seed 11, compiled: {shown:?}");
        }
        assert!(hits > 5_000, "{hits}");
    }

    #[test]
    fn no_blow_up() {
        let pattern = b"a*".repeat(500);
        let text = vec![b'a'; 5_000];
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text));
        assert!(matches(&pattern, &text));
    }

    #[test]
    fn shapes() {
        assert!(Pattern::compile(b"*").matches_everything());
        assert!(Pattern::compile(b"*").matches(b""));
        assert!(!matches(b"*", b""));
        assert!(!Pattern::compile(b"**").matches(b""));
        assert!(Pattern::compile(b"**").matches(b"a"));
        assert_eq!(Pattern::compile(b"key").literal(), Some(&b"key"[..]));
        assert!(matches!(Pattern::compile(b"user:*").shape, Shape::Affix { prefix: b"user:", suffix: b"" }));
        assert!(matches!(Pattern::compile(b"*:name").shape, Shape::Affix { prefix: b"", suffix: b":name" }));
        assert!(matches!(Pattern::compile(b"**x**").shape, Shape::Contains(_)));
        assert!(matches!(Pattern::compile(b"a*b*").shape, Shape::General(_)));
        assert_eq!(Pattern::compile(b"a\\b").literal(), None);
    }
}
