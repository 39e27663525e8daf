//! Options of the commands that iterate over one collection, and the work per call.

use crate::resp::{Args, Error, Reply};
use crate::stdx::glob::Pattern;

/// Places in a hash table that one call visits per requested element, which limits the time of a call if most
/// places are empty.
const PLACES_PER_ELEMENT: u64 = 10;

/// Which elements a scan selects, and how much work one call does.
pub struct ScanArgs<'a> {
    /// Pattern that the elements must match.
    pub pattern: Pattern<'a>,
    /// Number of elements that one call should visit.
    pub count: u64,
    /// Whether to omit the values of a hash's fields, or the scores of a sorted set's members.
    pub names_only: bool,
}

impl<'a> ScanArgs<'a> {
    /// Parses the arguments from `from` on: `MATCH pattern`, `COUNT count`, and the word that asks for names only; `""`
    /// if there is none.
    ///
    /// # Errors
    /// A syntax error for other arguments and for a count below one.
    pub fn parse(args: Args<'a>, from: usize, names_only: &str) -> Result<ScanArgs<'a>, Error> {
        let word = names_only;
        let (mut pattern, mut count, mut names_only) = (&b"*"[..], 10, false);
        let mut i = from;
        while i < args.len() {
            if !word.is_empty() && args.is(i, word) {
                names_only = true;
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
        Ok(ScanArgs { pattern: Pattern::compile(pattern), count, names_only })
    }

    /// Runs steps from `cursor` on until enough elements have been visited or the reply is dropped, and returns the
    /// next cursor. `step` takes a cursor and returns the next one with the number of elements visited.
    pub fn run<'r>(
        &self,
        reply: &mut Reply<'r>,
        mut cursor: u64,
        mut step: impl FnMut(&mut Reply<'r>, u64) -> (u64, u64),
    ) -> u64 {
        let mut wanted = self.count;
        for _ in 0..self.count.saturating_mul(PLACES_PER_ELEMENT) {
            let (next, seen) = step(reply, cursor);
            cursor = next;
            wanted = wanted.saturating_sub(seen);
            if cursor == 0 || wanted == 0 || reply.is_dropping() {
                break;
            }
        }
        cursor
    }
}
