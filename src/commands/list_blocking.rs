//! Commands on lists that block until there is an element.

use std::ops::Range;

use super::list::{MultiPop, end_arg, move_element, pop_command, pop_one};
use super::timeout::timeout;
use crate::clients::blocking::{Absent, Need, Wait};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::clock::UnixMillis;
use crate::types::List;
use crate::types::list::End;

/// Table entries of the blocking list commands.
pub const COMMANDS: &[Spec] = &[BLMOVE, BLMPOP, BLPOP, BRPOP, BRPOPLPUSH];

pub(super) const TAKEN: KeyFlags = KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE);

/// Waits for a list under one of the arguments `keys`.
pub(super) fn wait(
    ctx: &mut Ctx<'_>,
    keys: Range<usize>,
    until: Option<UnixMillis>,
    absent: Absent,
) -> CmdResult {
    ctx.wait_for(Wait::Keys { keys, until, need: Need::List { absent } })
}

const BLPOP: Spec = Spec::data("blpop", -3, blpop)
    .flags(Flags::WRITE.with(Flags::BLOCKING))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).range(-2, 1, 0).flags(TAKEN)])
    .docs(Docs {
        summary: "Takes the first element of the first list that has one, waiting for it if need be.",
        since: "2.0.0",
        complexity: "O(N) for N keys.",
        group: Group::List,
        history: &[("6.0.0", "Fractions of a second in `timeout`.")],
        args: &[Arg::key("key").multiple(), Arg::double("timeout")],
        ..Docs::NONE
    });

/// BLPOP key [key …] timeout → key and element, or null.
fn blpop(ctx: &mut Ctx<'_>) -> CmdResult {
    pop(ctx, End::Head)
}

const BRPOP: Spec = Spec::data("brpop", -3, brpop)
    .flags(Flags::WRITE.with(Flags::BLOCKING))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).range(-2, 1, 0).flags(TAKEN)])
    .docs(Docs {
        summary: "Takes the last element of the first list that has one, waiting for it if need be.",
        since: "2.0.0",
        complexity: "O(N) for N keys.",
        group: Group::List,
        history: &[("6.0.0", "Fractions of a second in `timeout`.")],
        args: &[Arg::key("key").multiple(), Arg::double("timeout")],
        ..Docs::NONE
    });

/// BRPOP key [key …] timeout → key and element, or null.
fn brpop(ctx: &mut Ctx<'_>) -> CmdResult {
    pop(ctx, End::Tail)
}

fn pop(ctx: &mut Ctx<'_>, end: End) -> CmdResult {
    let last = ctx.args.len() - 1;
    let until = timeout(ctx, last)?;
    for i in 1..last {
        let key = ctx.args.key(i);
        if ctx.db.find_as::<List>(key)?.is_some() {
            ctx.reply.array(2);
            ctx.reply.bulk(key.bytes);
            ctx.feed.instead(&[pop_command(end), key.bytes]);
            return Ok(pop_one(ctx, key, end));
        }
    }
    wait(ctx, 1..last, until, Absent::NullArray)
}

const BLMPOP: Spec = Spec::data("blmpop", -5, blmpop)
    .flags(Flags::WRITE.with(Flags::BLOCKING))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(2).count(0, 1, 1).flags(TAKEN)])
    .docs(Docs {
        summary: "Takes elements from an end of the first list that has some, waiting for it if need be.",
        since: "7.0.0",
        complexity: "O(N+M) for N keys and M elements taken.",
        group: Group::List,
        args: &[
            Arg::double("timeout"),
            Arg::integer("numkeys"),
            Arg::key("key").multiple(),
            Arg::one_of("where", &[Arg::word("left", "LEFT"), Arg::word("right", "RIGHT")]),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    });

/// BLMPOP timeout numkeys key [key …] LEFT|RIGHT [COUNT count] → key and array of elements, or null.
fn blmpop(ctx: &mut Ctx<'_>) -> CmdResult {
    let popping = MultiPop::parse(ctx, 2)?;
    let until = timeout(ctx, 1)?;
    match popping.run(ctx)? {
        Some(replied) => Ok(replied),
        None => wait(ctx, popping.keys, until, Absent::NullArray),
    }
}

const BLMOVE: Spec = Spec::data("blmove", 6, blmove)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::BLOCKING))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(TAKEN), KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .docs(Docs {
        summary: "Moves an element from an end of one list to an end of another, waiting for it if need be.",
        since: "6.2.0",
        complexity: "O(1)",
        group: Group::List,
        args: &[
            Arg::key("source"),
            Arg::key("destination").key_spec(1),
            Arg::one_of("wherefrom", &[Arg::word("left", "LEFT"), Arg::word("right", "RIGHT")]),
            Arg::one_of("whereto", &[Arg::word("left", "LEFT"), Arg::word("right", "RIGHT")]),
            Arg::double("timeout"),
        ],
        ..Docs::NONE
    });

/// BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout → the element, or null.
fn blmove(ctx: &mut Ctx<'_>) -> CmdResult {
    let (from, to) = (end_arg(ctx, 3)?, end_arg(ctx, 4)?);
    let until = timeout(ctx, 5)?;
    let args = ctx.args;
    ctx.feed.instead(&[b"LMOVE", args.at(1), args.at(2), args.at(3), args.at(4)]);
    move_or_wait(ctx, from, to, until)
}

fn move_or_wait(ctx: &mut Ctx<'_>, from: End, to: End, until: Option<UnixMillis>) -> CmdResult {
    match move_element(ctx, from, to)? {
        Some(replied) => Ok(replied),
        None => wait(ctx, 1..2, until, Absent::Null),
    }
}

const BRPOPLPUSH: Spec = Spec::data("brpoplpush", 4, brpoplpush)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::BLOCKING))
    .acl(Acl::LIST)
    .keys(&[KeySpec::at(1).flags(TAKEN), KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .docs(Docs {
        summary: "Takes the last element of a list and puts it first in another, waiting for it if need be.",
        since: "2.2.0",
        complexity: "O(1)",
        group: Group::List,
        deprecated_since: "6.2.0",
        replaced_by: "`BLMOVE` with the `RIGHT` and `LEFT` arguments",
        history: &[("6.0.0", "Fractions of a second in `timeout`.")],
        args: &[Arg::key("source"), Arg::key("destination").key_spec(1), Arg::double("timeout")],
        ..Docs::NONE
    });

/// BRPOPLPUSH source destination timeout → the element, or null.
fn brpoplpush(ctx: &mut Ctx<'_>) -> CmdResult {
    let until = timeout(ctx, 3)?;
    let args = ctx.args;
    ctx.feed.instead(&[b"RPOPLPUSH", args.at(1), args.at(2)]);
    move_or_wait(ctx, End::Tail, End::Head, until)
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::check;

    #[test]
    fn the_timeout_is_looked_at_last() {
        check(
            r#"
            SET s 1
            BLMPOP x 0 k LEFT
            BLMPOP x 1 k MIDDLE
            BLMPOP x 1 k LEFT COUNT 0
            BLMPOP x 1 s LEFT
            BZMPOP -1 0 k MIN
            BZMPOP -1 2 k k k
            BZMPOP -1 1 s MIN COUNT 1
            BLMOVE a b x LEFT y
            BLMOVE a b LEFT LEFT y
            BLPOP s -1
            "#,
            r#"
            OK
            (error) ERR numkeys should be greater than 0
            (error) ERR syntax error
            (error) ERR count should be greater than 0
            (error) ERR timeout is not a float or out of range
            (error) ERR numkeys should be greater than 0
            (error) ERR syntax error
            (error) ERR timeout is negative
            (error) ERR syntax error
            (error) ERR timeout is not a float or out of range
            (error) ERR timeout is negative
            "#,
        );
    }
}
