//! Lua patterns. The algorithm is that of Lua 5.1 (Roberto Ierusalimschy). In addition, it counts its steps, so that a
//! pattern that backtracks for ever is interrupted, and its depth, so that it cannot use up the native stack.

use super::ffi::{Lua, Raise};
use crate::scripting::run::{fail, tick};

/// Largest number of captures in a pattern.
const MAX_CAPTURES: usize = 32;
/// Largest depth of nested matches.
const MAX_DEPTH: u32 = 2000;

/// Extent of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    Unfinished,
    Position,
    Bytes(usize),
}

/// State of one attempt to match.
pub struct Matcher<'a> {
    subject: &'a [u8],
    pattern: &'a [u8],
    level: usize,
    captures: [(usize, Extent); MAX_CAPTURES],
    depth: u32,
    steps: u32,
}

type Found = Result<Option<usize>, Raise>;

impl<'a> Matcher<'a> {
    /// A matcher for a pattern, given without its anchor.
    pub fn new(subject: &'a [u8], pattern: &'a [u8]) -> Self {
        let captures = [(0, Extent::Unfinished); MAX_CAPTURES];
        Matcher { subject, pattern, level: 0, captures, depth: 0, steps: 0 }
    }

    /// Matches the whole pattern at `start` and returns the end of the match, if there is one.
    ///
    /// # Errors
    /// The pattern is malformed, or the script must end.
    pub fn at(&mut self, lua: &mut Lua<'_>, start: usize) -> Found {
        self.level = 0;
        self.depth = 0;
        self.run(lua, start, 0)
    }

    fn pat(&self, p: usize) -> u8 {
        self.pattern.get(p).copied().unwrap_or(0)
    }

    fn run(&mut self, lua: &mut Lua<'_>, s: usize, p: usize) -> Found {
        if self.depth >= MAX_DEPTH {
            return Err(fail(lua, b"pattern too complex"));
        }
        self.depth += 1;
        let found = self.items(lua, s, p);
        self.depth -= 1;
        found
    }

    fn items(&mut self, lua: &mut Lua<'_>, mut s: usize, mut p: usize) -> Found {
        loop {
            tick(lua, &mut self.steps, 0)?;
            if p >= self.pattern.len() {
                return Ok(Some(s));
            }
            match self.pattern[p] {
                b'(' => {
                    return if self.pat(p + 1) == b')' {
                        self.open(lua, s, p + 2, Extent::Position)
                    } else {
                        self.open(lua, s, p + 1, Extent::Unfinished)
                    };
                }
                b')' => return self.shut(lua, s, p + 1),
                b'%' => match self.pat(p + 1) {
                    b'b' => match self.balance(lua, s, p + 2)? {
                        Some(end) => {
                            s = end;
                            p += 4;
                            continue;
                        }
                        None => return Ok(None),
                    },
                    b'f' => {
                        p += 2;
                        if self.pat(p) != b'[' {
                            return Err(fail(lua, b"missing '[' after '%f' in pattern"));
                        }
                        let end = self.class_end(lua, p)?;
                        let before = if s == 0 { 0 } else { self.subject[s - 1] };
                        let here = self.subject.get(s).copied().unwrap_or(0);
                        if self.in_set(before, p, end - 1) || !self.in_set(here, p, end - 1) {
                            return Ok(None);
                        }
                        p = end;
                        continue;
                    }
                    digit @ b'0'..=b'9' => match self.back_reference(lua, s, digit)? {
                        Some(end) => {
                            s = end;
                            p += 2;
                            continue;
                        }
                        None => return Ok(None),
                    },
                    _ => {}
                },
                b'$' if p + 1 == self.pattern.len() => {
                    return Ok((s == self.subject.len()).then_some(s));
                }
                _ => {}
            }
            let end = self.class_end(lua, p)?;
            let one = s < self.subject.len() && self.single(self.subject[s], p, end);
            match self.pat(end) {
                b'?' => {
                    if one && let Some(found) = self.run(lua, s + 1, end + 1)? {
                        return Ok(Some(found));
                    }
                    p = end + 1;
                }
                b'*' => return self.most(lua, s, p, end),
                b'+' => return if one { self.most(lua, s + 1, p, end) } else { Ok(None) },
                b'-' => return self.fewest(lua, s, p, end),
                _ if !one => return Ok(None),
                _ => {
                    s += 1;
                    p = end;
                }
            }
        }
    }

    /// End of the class that begins at `p`.
    fn class_end(&self, lua: &mut Lua<'_>, mut p: usize) -> Result<usize, Raise> {
        let byte = self.pat(p);
        p += 1;
        match byte {
            b'%' => {
                if p >= self.pattern.len() {
                    return Err(fail(lua, b"malformed pattern (ends with '%')"));
                }
                Ok(p + 1)
            }
            b'[' => {
                if self.pat(p) == b'^' {
                    p += 1;
                }
                loop {
                    // A `]` at the beginning is literal.
                    let Some(&byte) = self.pattern.get(p) else {
                        return Err(fail(lua, b"malformed pattern (missing ']')"));
                    };
                    p += 1;
                    if byte == b'%' && p < self.pattern.len() {
                        p += 1;
                    }
                    if self.pat(p) == b']' {
                        return Ok(p + 1);
                    }
                }
            }
            _ => Ok(p),
        }
    }

    /// Whether the byte is in the set that begins at `p` and ends with the `]` at `end`.
    fn in_set(&self, byte: u8, mut p: usize, end: usize) -> bool {
        let mut wanted = true;
        if self.pat(p + 1) == b'^' {
            wanted = false;
            p += 1;
        }
        p += 1;
        while p < end {
            if self.pattern[p] == b'%' {
                p += 1;
                if of_class(byte, self.pat(p)) {
                    return wanted;
                }
                p += 1;
            } else if self.pat(p + 1) == b'-' && p + 2 < end {
                if (self.pattern[p]..=self.pattern[p + 2]).contains(&byte) {
                    return wanted;
                }
                p += 3;
            } else {
                if self.pattern[p] == byte {
                    return wanted;
                }
                p += 1;
            }
        }
        !wanted
    }

    fn single(&self, byte: u8, p: usize, end: usize) -> bool {
        match self.pattern[p] {
            b'.' => true,
            b'%' => of_class(byte, self.pat(p + 1)),
            b'[' => self.in_set(byte, p, end - 1),
            own => own == byte,
        }
    }

    fn most(&mut self, lua: &mut Lua<'_>, s: usize, p: usize, end: usize) -> Found {
        let mut count = self.subject[s..].iter().take_while(|&&byte| self.single(byte, p, end)).count();
        loop {
            if let Some(found) = self.run(lua, s + count, end + 1)? {
                return Ok(Some(found));
            }
            if count == 0 {
                return Ok(None);
            }
            count -= 1;
        }
    }

    fn fewest(&mut self, lua: &mut Lua<'_>, mut s: usize, p: usize, end: usize) -> Found {
        loop {
            if let Some(found) = self.run(lua, s, end + 1)? {
                return Ok(Some(found));
            }
            if s < self.subject.len() && self.single(self.subject[s], p, end) {
                s += 1;
            } else {
                return Ok(None);
            }
        }
    }

    fn open(&mut self, lua: &mut Lua<'_>, s: usize, p: usize, extent: Extent) -> Found {
        if self.level >= MAX_CAPTURES {
            return Err(fail(lua, b"too many captures"));
        }
        self.captures[self.level] = (s, extent);
        self.level += 1;
        let found = self.run(lua, s, p)?;
        if found.is_none() {
            self.level -= 1;
        }
        Ok(found)
    }

    fn shut(&mut self, lua: &mut Lua<'_>, s: usize, p: usize) -> Found {
        let open = self.captures[..self.level].iter().rposition(|(_, extent)| *extent == Extent::Unfinished);
        let Some(open) = open else {
            return Err(fail(lua, b"invalid pattern capture"));
        };
        self.captures[open].1 = Extent::Bytes(s - self.captures[open].0);
        let found = self.run(lua, s, p)?;
        if found.is_none() {
            self.captures[open].1 = Extent::Unfinished;
        }
        Ok(found)
    }

    fn balance(&self, lua: &mut Lua<'_>, s: usize, p: usize) -> Found {
        if p + 1 >= self.pattern.len() {
            return Err(fail(lua, b"unbalanced pattern"));
        }
        let (open, shut) = (self.pattern[p], self.pattern[p + 1]);
        if self.subject.get(s) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1;
        for (i, &byte) in self.subject[s + 1..].iter().enumerate() {
            if byte == shut {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(s + i + 2));
                }
            } else if byte == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    fn back_reference(&self, lua: &mut Lua<'_>, s: usize, digit: u8) -> Found {
        let index = usize::from(digit).wrapping_sub(usize::from(b'1'));
        let (start, len) = match self.captures[..self.level].get(index) {
            Some(&(start, Extent::Bytes(len))) => (start, len),
            Some(&(start, Extent::Position)) => (start, 0),
            _ => return Err(fail(lua, b"invalid capture index")),
        };
        let same = self.subject[s..].starts_with(&self.subject[start..start + len]);
        Ok(same.then_some(s + len))
    }

    /// The bytes from `start` to `end` of the subject.
    pub fn whole(&self, start: usize, end: usize) -> &[u8] {
        &self.subject[start..end]
    }

    /// Pushes capture `i` of the match from `start` to `end`. In a match without captures, capture 0 is the whole
    /// match.
    ///
    /// # Errors
    /// There is no such capture, or it is not closed.
    pub fn push_capture(&self, lua: &mut Lua<'_>, i: usize, start: usize, end: usize) -> Result<(), Raise> {
        match self.captures[..self.level].get(i) {
            None if i == 0 => lua.push_bytes(&self.subject[start..end]),
            None => return Err(fail(lua, b"invalid capture index")),
            Some((_, Extent::Unfinished)) => return Err(fail(lua, b"unfinished capture")),
            Some(&(at, Extent::Position)) => lua.push_number((at + 1) as f64),
            Some(&(at, Extent::Bytes(len))) => lua.push_bytes(&self.subject[at..at + len]),
        }
        Ok(())
    }

    /// Pushes all captures, or if there are none and `whole` is set, the whole match. Returns the number of values
    /// pushed.
    ///
    /// # Errors
    /// As [`Matcher::push_capture`].
    pub fn push_captures(
        &self,
        lua: &mut Lua<'_>,
        start: usize,
        end: usize,
        whole: bool,
    ) -> Result<usize, Raise> {
        let count = if self.level == 0 && whole { 1 } else { self.level };
        if !lua.reserve(count as i32) {
            return Err(fail(lua, b"stack overflow (too many captures)"));
        }
        for i in 0..count {
            self.push_capture(lua, i, start, end)?;
        }
        Ok(count)
    }
}

fn of_class(byte: u8, class: u8) -> bool {
    let member = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    member != class.is_ascii_uppercase()
}
