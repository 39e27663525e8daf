//! Counting the members of unions and differences of sets without answering them.

use std::ops::{ControlFlow, Range};

use super::set::{look_up, sets, subtract};
use crate::resp::{Args, Error};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::num;
use crate::structures::sds::Sds;
use crate::types::hyperloglog;
use crate::types::set::union;

/// Table entries of the commands.
pub const COMMANDS: &[Spec] = &[SDIFFCARD, SUNIONCARD];

const KEYS: &[KeySpec] = &[KeySpec::at(1).count(0, 1, 1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))];

/// The keys, whether an estimate suffices, and the count at which to stop; 0 for none.
struct Request {
    keys: Range<usize>,
    approximate: bool,
    limit: usize,
}

impl Request {
    /// Parses `numkeys key [key …] [APPROX] [LIMIT limit]`.
    fn parse(args: Args<'_>, may_approximate: bool) -> Result<Request, Error> {
        let numkeys = num::parse_i64(args.at(1)).filter(|&n| n > 0);
        let numkeys = numkeys.ok_or_else(|| Error::text("ERR numkeys should be greater than 0"))?;
        let end =
            usize::try_from(numkeys).ok().and_then(|n| n.checked_add(2)).filter(|&end| end <= args.len());
        let end =
            end.ok_or_else(|| Error::text("ERR Number of keys can't be greater than number of args"))?;
        let mut request = Request { keys: 2..end, approximate: false, limit: 0 };
        let mut i = end;
        while i < args.len() {
            if may_approximate && args.is(i, "APPROX") {
                request.approximate = true;
                i += 1;
                continue;
            }
            let value = args.get(i + 1).filter(|_| args.is(i, "LIMIT")).ok_or(Error::Syntax)?;
            request.limit = num::parse_i64(value)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| Error::text("ERR LIMIT can't be negative"))?;
            i += 2;
        }
        Ok(request)
    }

    fn capped(&self, count: usize) -> usize {
        if self.limit == 0 { count } else { count.min(self.limit) }
    }
}

const SUNIONCARD: Spec =
    Spec::data("sunioncard", -3, sunioncard).flags(Flags::READONLY).acl(Acl::SET).keys(KEYS).docs(Docs {
        summary: "Counts the members that any of the sets has.",
        since: "8.10.0",
        complexity: "O(N) for N members in all sets.",
        group: Group::Set,
        args: &[
            Arg::integer("numkeys"),
            Arg::key("key").multiple(),
            Arg::word("approx", "APPROX").optional(),
            Arg::integer("limit").token("LIMIT").optional(),
        ],
        ..Docs::NONE
    });

/// SUNIONCARD numkeys key [key …] [APPROX] [LIMIT limit] → number of members of any set, at most `limit`. An
/// approximate count remembers no members, but estimates their number as a HyperLogLog does.
fn sunioncard(ctx: &mut Ctx<'_>) -> CmdResult {
    let request = Request::parse(ctx.args, true)?;
    let keys = look_up(ctx, request.keys.clone())?;
    let sets = sets(&ctx.db, keys);
    let limits = &ctx.limits.types;
    let mut n = 0;
    if request.approximate {
        let mut sketch = Sds::with_capacity(hyperloglog::EMPTY.len());
        sketch.append(hyperloglog::EMPTY);
        let mut digits = itoa::Buffer::new();
        for item in sets.iter().flat_map(|set| set.iter()) {
            let element = item.text(&mut digits);
            hyperloglog::add(&mut sketch, element, limits.hll_sparse_max_bytes).expect("it is one");
        }
        n = hyperloglog::count(sketch.as_slice()).expect("it is one") as usize;
    } else {
        let _ = union(&sets, limits, |_| {
            n += 1;
            if n == request.limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
    Ok(ctx.reply.int(request.capped(n) as i64))
}

const SDIFFCARD: Spec =
    Spec::data("sdiffcard", -3, sdiffcard).flags(Flags::READONLY).acl(Acl::SET).keys(KEYS).docs(Docs {
        summary: "Counts the members of the first set that no other set has.",
        since: "8.10.0",
        complexity: "O(N) for N members in all sets.",
        group: Group::Set,
        args: &[
            Arg::integer("numkeys"),
            Arg::key("key").multiple(),
            Arg::integer("limit").token("LIMIT").optional(),
        ],
        ..Docs::NONE
    });

/// SDIFFCARD numkeys key [key …] [LIMIT limit] → number of members of the first set that are in no other, at most
/// `limit`.
fn sdiffcard(ctx: &mut Ctx<'_>) -> CmdResult {
    let request = Request::parse(ctx.args, false)?;
    let keys = look_up(ctx, request.keys.clone())?;
    let mut n = 0;
    let _ = subtract(&ctx.db, &ctx.limits.types, keys, |_| {
        n += 1;
        if n == request.limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    Ok(ctx.reply.int(n as i64))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check};

    #[test]
    fn counting_without_answering() {
        check(
            r#"
            SADD a 1 2 3 x
            SADD b 3 4
            SADD c 5 y
            SUNIONCARD 2 a b
            SUNIONCARD 4 a b nosuch c
            SUNIONCARD 2 a b LIMIT 3
            SUNIONCARD 2 a b LIMIT 0
            SUNIONCARD 1 nosuch
            SUNIONCARD 2 a b APPROX
            SUNIONCARD 2 a b LIMIT 2 APPROX
            SDIFFCARD 2 a b
            SDIFFCARD 3 a b c LIMIT 2
            SDIFFCARD 2 nosuch a
            SDIFFCARD 1 a
            SDIFFCARD 2 a a
            SUNIONCARD 0 a
            SUNIONCARD 3 a b
            SUNIONCARD 1 a b
            SUNIONCARD 1 a LIMIT
            SUNIONCARD 1 a LIMIT -1
            SDIFFCARD 1 a APPROX
            SET s v
            SUNIONCARD 2 a s
            SDIFFCARD 2 nosuch s
            COMMAND GETKEYS SDIFFCARD 2 a b LIMIT 1
            "#,
            r#"
            (integer) 4
            (integer) 2
            (integer) 2
            (integer) 5
            (integer) 7
            (integer) 3
            (integer) 5
            (integer) 0
            (integer) 5
            (integer) 2
            (integer) 3
            (integer) 2
            (integer) 0
            (integer) 4
            (integer) 0
            (error) ERR numkeys should be greater than 0
            (error) ERR Number of keys can't be greater than number of args
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR LIMIT can't be negative
            (error) ERR syntax error
            OK
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            1) "a"
            2) "b"
            "#,
        );
    }

    #[test]
    fn an_estimate_is_near() {
        let mut harness = Harness::default();
        for i in 0..3000 {
            harness.run(&format!("SADD a {i}"));
            harness.run(&format!("SADD b {}", i + 1500));
        }
        assert_eq!(harness.run("SUNIONCARD 2 a b"), "(integer) 4500");
        let text = harness.run("SUNIONCARD 2 a b APPROX");
        let n: i64 = text.strip_prefix("(integer) ").and_then(|n| n.parse().ok()).expect("a number");
        // Three standard errors of 0.81 %.
        assert!((n - 4500).abs() <= 110, "{n}");
        assert_eq!(harness.run("SUNIONCARD 2 a b APPROX LIMIT 1000"), "(integer) 1000");
    }
}
