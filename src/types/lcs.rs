//! The longest common subsequence of two texts.
//!
//! In the table of lengths L\[i\]\[j\] (of the first i bytes of `a` and j of `b`), neighbouring columns differ by 0
//! or 1, so a row is one bit per column. A row follows from the one above by an addition, 64 columns at a time: M.
//! Crochemore, C. Iliopoulos, Y. Pinzon, J. Reid, "A fast and practical bit-vector algorithm for the longest common
//! subsequence problem" (2001), in the form of H. Hyyrö (2004). The walk back from the last corner needs only these
//! bits: where two bytes differ, L\[i-1\]\[j\] > L\[i\]\[j-1\] exactly when row i grows in column j.
//!
//! O(|a|·|b|/64) time. The table takes |a|·|b|/8 bytes, the masks no more than that.

use std::collections::TryReserveError;

const WORD: usize = u64::BITS as usize;

/// A row of the table, one bit per byte of `b`, and what the step to the next row needs.
struct Rows {
    /// Bit j is 0 where the row grows in column j.
    row: Vec<u64>,
    /// Positions in `b` of each distinct byte of `a`, as bit masks of `row.len()` words.
    masks: Vec<u64>,
    /// Number of the mask of each byte.
    index: [u8; 256],
}

fn filled<T: Clone>(value: T, n: usize) -> Result<Vec<T>, TryReserveError> {
    let mut words = Vec::new();
    words.try_reserve_exact(n)?;
    words.resize(n, value);
    Ok(words)
}

impl Rows {
    fn new(a: &[u8], b: &[u8]) -> Result<Rows, TryReserveError> {
        let words = b.len().div_ceil(WORD);
        let mut seen = [false; 256];
        for &byte in a {
            seen[byte as usize] = true;
        }
        let (mut index, mut distinct) = ([0u8; 256], 0usize);
        for byte in 0..256 {
            if seen[byte] {
                index[byte] = distinct as u8;
                distinct += 1;
            }
        }
        let mut masks = filled(0u64, distinct * words)?;
        for (j, &byte) in b.iter().enumerate() {
            if seen[byte as usize] {
                masks[index[byte as usize] as usize * words + j / WORD] |= 1 << (j % WORD);
            }
        }
        Ok(Rows { row: filled(u64::MAX, words)?, masks, index })
    }

    /// Advances to the row for the next byte of `a`.
    fn advance(&mut self, byte: u8) -> &[u64] {
        let at = self.index[byte as usize] as usize * self.row.len();
        let mask = &self.masks[at..at + self.row.len()];
        let mut carry = false;
        for (v, &m) in self.row.iter_mut().zip(mask) {
            let (sum, first) = v.overflowing_add(*v & m);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            carry = first | second;
            *v = sum | (*v & !m);
        }
        &self.row
    }

    /// Number of columns in which the row grows. Bits past the last column stay 1.
    fn len(&self) -> usize {
        self.row.iter().map(|v| v.count_zeros() as usize).sum()
    }
}

/// Length of the longest common subsequence. Allocates 1/8 byte for each byte of the longer text and each distinct
/// byte of the shorter.
///
/// # Errors
/// When the memory cannot be allocated.
pub fn length(a: &[u8], b: &[u8]) -> Result<usize, TryReserveError> {
    let (a, b) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut rows = Rows::new(a, b)?;
    for &byte in a {
        rows.advance(byte);
    }
    Ok(rows.len())
}

/// A run of bytes that the two texts share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// Offset in the first text.
    pub a: usize,
    /// Offset in the second text.
    pub b: usize,
    /// Length in bytes.
    pub len: usize,
}

/// Two texts and their alignment.
pub struct Alignment<'t> {
    a: &'t [u8],
    b: &'t [u8],
    len: usize,
    /// Rows of the table, `row_bytes` bytes each, lowest bits first.
    table: Vec<u8>,
    row_bytes: usize,
}

impl<'t> Alignment<'t> {
    /// Aligns two texts.
    ///
    /// # Errors
    /// When the memory cannot be allocated.
    pub fn new(a: &'t [u8], b: &'t [u8]) -> Result<Self, TryReserveError> {
        let row_bytes = b.len().div_ceil(8);
        let mut rows = Rows::new(a, b)?;
        let mut table = Vec::new();
        table.try_reserve_exact(a.len() * row_bytes)?;
        for &byte in a {
            let row = rows.advance(byte);
            let (whole, part) = row.split_at(row_bytes / 8);
            whole.iter().for_each(|word| table.extend_from_slice(&word.to_le_bytes()));
            part.iter().for_each(|word| table.extend_from_slice(&word.to_le_bytes()[..row_bytes % 8]));
        }
        Ok(Alignment { a, b, len: rows.len(), table, row_bytes })
    }

    /// Length of the common subsequence.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The runs that make up the common subsequence, from the end to the beginning.
    pub fn matches(&self) -> impl Iterator<Item = Match> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        std::iter::from_fn(move || {
            while i > 0 && j > 0 && self.a[i - 1] != self.b[j - 1] {
                let grows = self.table[(i - 1) * self.row_bytes + (j - 1) / 8] >> ((j - 1) % 8) & 1 == 0;
                *(if grows { &mut i } else { &mut j }) -= 1;
            }
            let mut len = 0;
            while i > 0 && j > 0 && self.a[i - 1] == self.b[j - 1] {
                (i, j, len) = (i - 1, j - 1, len + 1);
            }
            (len > 0).then_some(Match { a: i, b: j, len })
        })
    }

    /// The common subsequence itself.
    pub fn text(&self) -> Vec<u8> {
        let mut text = vec![0; self.len];
        let mut end = self.len;
        for Match { a, len, .. } in self.matches() {
            text[end - len..end].copy_from_slice(&self.a[a..a + len]);
            end -= len;
        }
        debug_assert_eq!(end, 0);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    /// Model: the textbook table, and the walk back through it.
    fn model(a: &[u8], b: &[u8]) -> (usize, Vec<Match>) {
        let mut lens = vec![vec![0usize; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                lens[i][j] = if a[i - 1] == b[j - 1] {
                    lens[i - 1][j - 1] + 1
                } else {
                    lens[i - 1][j].max(lens[i][j - 1])
                };
            }
        }
        let (mut i, mut j) = (a.len(), b.len());
        let mut matches: Vec<Match> = Vec::new();
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                match matches.last_mut() {
                    Some(m) if m.a == i + 1 && m.b == j + 1 => *m = Match { a: i, b: j, len: m.len + 1 },
                    _ => matches.push(Match { a: i, b: j, len: 1 }),
                }
            } else if lens[i - 1][j] > lens[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        (lens[a.len()][b.len()], matches)
    }

    #[test]
    fn agrees_with_the_textbook() {
        let seed = 71;
        let mut rng = Rng::new(seed);
        for round in 0..1500 {
            let alphabet = 1 + rng.index(if round % 4 == 0 { 255 } else { 5 });
            let mut text = |max: usize| -> Vec<u8> {
                let len = rng.index(max + 1);
                (0..len).map(|_| rng.index(alphabet) as u8).collect()
            };
            let (a, b) = (text(150), text(if round % 2 == 0 { 150 } else { 20 }));
            let (len, matches) = model(&a, &b);
            let alignment = Alignment::new(&a, &b).expect("little memory");
            assert_eq!(length(&a, &b).expect("little memory"), len, "seed {seed}, {a:?} {b:?}");
            assert_eq!(alignment.len(), len, "seed {seed}, {a:?} {b:?}");
            assert_eq!(alignment.matches().collect::<Vec<_>>(), matches, "seed {seed}, {a:?} {b:?}");
            let text: Vec<u8> = matches.iter().rev().flat_map(|m| a[m.a..m.a + m.len].to_vec()).collect();
            assert_eq!(alignment.text(), text, "seed {seed}");
        }
    }
}
