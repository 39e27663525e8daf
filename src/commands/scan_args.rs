//! The options of the commands that go through one collection step by step, and the pace of a step.

use crate::resp::{Args, Error};
use crate::stdx::glob::Pattern;

/// Places in a hash table that one call looks at for each element it wants: a call is short also
/// where most places are empty.
const PLACES_PER_ELEMENT: u64 = 10;

/// What a scan selects, and how much work one call does.
pub struct ScanArgs<'a> {
    pub pattern: Pattern<'a>,
    /// Elements that one call should look at.
    pub count: u64,
    /// Whether a hash's fields come without their values.
    pub no_values: bool,
}

impl<'a> ScanArgs<'a> {
    /// The arguments from `from` on: `MATCH pattern`, `COUNT count`, and `NOVALUES` where `hash` allows it.
    ///
    /// # Errors
    /// A syntax error for anything else and for a count below one.
    pub fn parse(args: Args<'a>, from: usize, hash: bool) -> Result<ScanArgs<'a>, Error> {
        let (mut pattern, mut count, mut no_values) = (&b"*"[..], 10, false);
        let mut i = from;
        while i < args.len() {
            if hash && args.is(i, "NOVALUES") {
                no_values = true;
                i += 1;
                continue;
            }
            let value = args.get(i + 1).ok_or(Error::Syntax)?;
            if args.is(i, "COUNT") {
                let n = args.int(i + 1)?;
                count = u64::try_from(n).ok().filter(|&n| n > 0).ok_or(Error::Syntax)?;
            } else if args.is(i, "MATCH") {
                pattern = value;
            } else {
                return Err(Error::Syntax);
            }
            i += 2;
        }
        Ok(ScanArgs { pattern: Pattern::compile(pattern), count, no_values })
    }

    /// Steps from `cursor` on, until enough has been seen; the next cursor. `step` goes on from a cursor, and
    /// returns the next with the number of elements it has seen.
    pub fn run(&self, mut cursor: u64, mut step: impl FnMut(u64) -> (u64, u64)) -> u64 {
        let mut wanted = self.count;
        for _ in 0..self.count.saturating_mul(PLACES_PER_ELEMENT) {
            let (next, seen) = step(cursor);
            cursor = next;
            wanted = wanted.saturating_sub(seen);
            if cursor == 0 || wanted == 0 {
                break;
            }
        }
        cursor
    }
}
