//! LMOVEM and BLMOVEM: moving several elements from one list to another.
//!
//! `OBO` (one by one) moves them as so many `LMOVE`s would, so that elements taken from an end and put at the same end
//! are reversed. `BULK` keeps them in order. Either way they arrive as a block, and only its direction differs.
//!
//! They are propagated as commands that every server has: as `LMOVE`s within one list, whose key must stay, else as
//! `LPOP` or `RPOP`, and `LPUSH` or `RPUSH`.

use super::list::{end_arg, pop_command, popped, pushed};
use super::list_blocking::{TAKEN, wait};
use super::timeout::timeout;
use crate::clients::blocking::Absent;
use crate::resp::{Error, Replied};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::types::list::End;
use crate::types::{Describe, List};

/// Table entries of the commands.
pub const COMMANDS: &[Spec] = &[BLMOVEM, LMOVEM];

const ENDS: [Arg; 2] = [Arg::word("left", "LEFT"), Arg::word("right", "RIGHT")];

const HOW_MANY: Arg = Arg::block(
    "how-many",
    &[
        Arg::one_of(
            "selector",
            &[Arg::integer("count").token("COUNT"), Arg::integer("exactly").token("EXACTLY")],
        ),
        Arg::one_of("ordering", &[Arg::word("obo", "OBO"), Arg::word("bulk", "BULK")]),
    ],
)
.optional();

const KEYS: &[KeySpec] =
    &[KeySpec::at(1).flags(TAKEN), KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::INSERT))];

const LMOVEM: Spec =
    Spec::data("lmovem", -5, lmovem).flags(Flags::WRITE.with(Flags::DENYOOM)).acl(Acl::LIST).keys(KEYS).docs(
        Docs {
            summary: "Takes elements from one end of a list and puts them at one end of another.",
            since: "8.10.0",
            complexity: "O(N) for N elements moved.",
            group: Group::List,
            args: &[
                Arg::key("source"),
                Arg::key("destination").key_spec(1),
                Arg::one_of("wherefrom", &ENDS),
                Arg::one_of("whereto", &ENDS),
                HOW_MANY,
            ],
            ..Docs::NONE
        },
    );

/// LMOVEM source destination LEFT|RIGHT LEFT|RIGHT [COUNT count|EXACTLY count OBO|BULK] → the elements in the order
/// in which they lie now; null if there are fewer than exactly so many.
fn lmovem(ctx: &mut Ctx<'_>) -> CmdResult {
    let moving = Moving::parse(ctx, 5)?;
    Ok(match moving.run(ctx)? {
        Some(replied) => replied,
        None if moving.exactly => ctx.reply.null_array(),
        None => ctx.reply.array(0),
    })
}

const BLMOVEM: Spec = Spec::data("blmovem", -6, blmovem)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::BLOCKING))
    .acl(Acl::LIST)
    .keys(KEYS)
    .docs(Docs {
        summary: "Moves elements from an end of one list to an end of another, waiting for them if need be.",
        since: "8.10.0",
        complexity: "O(N) for N elements moved.",
        group: Group::List,
        args: &[
            Arg::key("source"),
            Arg::key("destination").key_spec(1),
            Arg::one_of("wherefrom", &ENDS),
            Arg::one_of("whereto", &ENDS),
            Arg::double("timeout"),
            HOW_MANY,
        ],
        ..Docs::NONE
    });

/// BLMOVEM source destination LEFT|RIGHT LEFT|RIGHT timeout [COUNT count|EXACTLY count OBO|BULK] → the elements in the
/// order in which they lie now, or null.
fn blmovem(ctx: &mut Ctx<'_>) -> CmdResult {
    let moving = Moving::parse(ctx, 6)?;
    let until = timeout(ctx, 5)?;
    match moving.run(ctx)? {
        Some(replied) => Ok(replied),
        None => wait(ctx, 1..2, until, Absent::NullArray),
    }
}

/// What a request asks for.
struct Moving {
    from: End,
    to: End,
    count: usize,
    /// No fewer than `count`.
    exactly: bool,
    /// Whether the order is kept even between like ends.
    in_bulk: bool,
}

impl Moving {
    /// Parses the ends, which are arguments 3 and 4, and what stands from argument `at` on.
    fn parse(ctx: &Ctx<'_>, at: usize) -> Result<Moving, Error> {
        let args = ctx.args;
        let (from, to) = (end_arg(ctx, 3)?, end_arg(ctx, 4)?);
        let mut moving = Moving { from, to, count: 1, exactly: false, in_bulk: false };
        if args.len() == at {
            return Ok(moving);
        }
        moving.exactly = args.is(at, "EXACTLY");
        if args.len() != at + 3 || !moving.exactly && !args.is(at, "COUNT") {
            return Err(Error::Syntax);
        }
        moving.count = match args.int(at + 1) {
            Ok(n) if n > 0 => n as usize,
            _ => return Err(Error::text("ERR count should be greater than 0")),
        };
        moving.in_bulk = args.is(at + 2, "BULK");
        if !moving.in_bulk && !args.is(at + 2, "OBO") {
            return Err(Error::Syntax);
        }
        Ok(moving)
    }

    /// Moves the elements and replies with them; `None` if there are not enough.
    fn run(&self, ctx: &mut Ctx<'_>) -> Result<Option<Replied>, Error> {
        let (source, destination) = (ctx.args.key(1), ctx.args.key(2));
        let Some(list) = ctx.db.find_as::<List>(source)? else { return Ok(None) };
        let count = self.count.min(list.len());
        if self.exactly && count < self.count {
            return Ok(None);
        }
        // The type of the destination is checked before an element is removed.
        ctx.db.find_as::<List>(destination)?;
        let limits = &ctx.limits.types;
        let list = ctx.db.write_as::<List>(source)?.expect("looked up above");
        let first = if self.from == End::Head { 0 } else { list.len() - count };
        let mut block: Vec<Vec<u8>> = Vec::with_capacity(count);
        list.visit(first as i64, End::Head, count, |item| block.push(item.to_vec()));
        if self.from == self.to && !self.in_bulk {
            block.reverse();
        }
        list.remove_range(first, count);
        let within = source.bytes == destination.bytes;
        let list = if within {
            list
        } else {
            list.relax(limits);
            ctx.db.write_or_insert(destination, List::new)?
        };
        list.prepare(count, block.iter().map(Vec::len).sum(), limits);
        let pushes: Vec<&[u8]> = match self.to {
            End::Head => block.iter().rev().map(Vec::as_slice).collect(),
            End::Tail => block.iter().map(Vec::as_slice).collect(),
        };
        pushes.iter().for_each(|element| list.push(self.to, element));
        ctx.db.changed(destination, pushed(self.to), count);
        ctx.db.also_changed(source, popped(self.from));
        ctx.db.settle::<List>(source);
        if !within {
            self.feed_between(ctx, &pushes);
        } else if self.in_bulk && self.from == self.to {
            ctx.feed.nothing();
        } else {
            let args = ctx.args;
            let once: [&[u8]; 5] = [b"LMOVE", args.at(1), args.at(2), args.at(3), args.at(4)];
            (0..count).for_each(|_| ctx.feed.instead(&once));
        }
        Ok(Some(ctx.reply.bulks(&block)))
    }

    /// Propagates a move from one list to another.
    fn feed_between(&self, ctx: &mut Ctx<'_>, pushes: &[&[u8]]) {
        let args = ctx.args;
        if pushes.len() == 1 {
            ctx.feed.instead(&[b"LMOVE", args.at(1), args.at(2), args.at(3), args.at(4)]);
            return;
        }
        let mut digits = itoa::Buffer::new();
        ctx.feed.instead(&[pop_command(self.from), args.at(1), digits.format(pushes.len()).as_bytes()]);
        let push: &[u8] = if self.to == End::Head { b"LPUSH" } else { b"RPUSH" };
        let mut request = vec![push, args.at(2)];
        request.extend(pushes);
        ctx.feed.instead(&request);
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check};

    #[test]
    fn elements_move_in_blocks() {
        let mut harness = Harness::default();
        for (how, reply, source, destination) in [
            ("LEFT LEFT COUNT 2 OBO", "b a", "c d", "b a x"),
            ("LEFT LEFT COUNT 2 BULK", "a b", "c d", "a b x"),
            ("LEFT RIGHT COUNT 2 OBO", "a b", "c d", "x a b"),
            ("LEFT RIGHT COUNT 2 BULK", "a b", "c d", "x a b"),
            ("RIGHT LEFT EXACTLY 2 OBO", "c d", "a b", "c d x"),
            ("RIGHT LEFT EXACTLY 2 BULK", "c d", "a b", "c d x"),
            ("RIGHT RIGHT EXACTLY 2 OBO", "d c", "a b", "x d c"),
            ("RIGHT RIGHT EXACTLY 2 BULK", "c d", "a b", "x c d"),
            ("left right", "a", "b c d", "x a"),
            ("LEFT RIGHT COUNT 9 BULK", "a b c d", "", "x a b c d"),
        ] {
            harness.run("FLUSHALL");
            harness.run("RPUSH from a b c d");
            harness.run("RPUSH to x");
            let list = |text: &str| match text {
                "" => "(empty array)".to_owned(),
                _ => {
                    let lines = text.split(' ').enumerate().map(|(i, word)| format!("{}) \"{word}\"", i + 1));
                    lines.collect::<Vec<_>>().join("\n")
                }
            };
            assert_eq!(harness.run(&format!("LMOVEM from to {how}")), list(reply), "{how}");
            assert_eq!(harness.run("LRANGE from 0 -1"), list(source), "{how}");
            assert_eq!(harness.run("LRANGE to 0 -1"), list(destination), "{how}");
        }
    }

    #[test]
    fn within_a_list_and_without_one() {
        check(
            r#"
            RPUSH k a b c
            EXPIRE k 100
            LMOVEM k k LEFT LEFT EXACTLY 2 OBO
            LRANGE k 0 -1
            LMOVEM k k RIGHT RIGHT COUNT 3 BULK
            LRANGE k 0 -1
            LMOVEM k k LEFT RIGHT COUNT 2 BULK
            LRANGE k 0 -1
            LMOVEM k k LEFT LEFT COUNT 9 OBO
            TTL k
            LMOVEM k d LEFT LEFT EXACTLY 4 BULK
            LMOVEM nosuch d LEFT LEFT
            LMOVEM nosuch d LEFT LEFT COUNT 2 OBO
            LMOVEM nosuch d LEFT LEFT EXACTLY 2 OBO
            SET s x
            LMOVEM k s LEFT LEFT
            LMOVEM s k LEFT LEFT
            LMOVEM nosuch s LEFT LEFT
            LMOVEM k d LEFT UP
            LMOVEM k d LEFT LEFT COUNT 2
            LMOVEM k d LEFT LEFT COUNT 0 OBO
            LMOVEM k d LEFT LEFT EXACTLY x OBO
            LMOVEM k d LEFT LEFT COUNT 1 TWO
            LMOVEM k d LEFT LEFT OBO COUNT 1
            BLMOVEM k d LEFT LEFT x COUNT 1 OBO
            MULTI
            BLMOVEM nosuch d LEFT LEFT 1
            EXEC
            BLMOVEM k d LEFT RIGHT 0 COUNT 2 BULK
            "#,
            r#"
            (integer) 3
            (integer) 1
            1) "b"
            2) "a"
            1) "b"
            2) "a"
            3) "c"
            1) "b"
            2) "a"
            3) "c"
            1) "b"
            2) "a"
            3) "c"
            1) "b"
            2) "a"
            1) "c"
            2) "b"
            3) "a"
            1) "a"
            2) "b"
            3) "c"
            (integer) 100
            (nil)
            (empty array)
            (empty array)
            (nil)
            OK
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (empty array)
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR count should be greater than 0
            (error) ERR count should be greater than 0
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR timeout is not a float or out of range
            OK
            QUEUED
            1) (nil)
            1) "a"
            2) "b"
            "#,
        );
    }
}
