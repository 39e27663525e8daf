//! ZMOVE, BZMOVE and ZMOVEMEMBER: moving members with their scores from one sorted set to another.
//!
//! They are propagated as the `ZREM` and `ZADD` that every server has.

use super::timeout::timeout;
use super::zset::{finish_removal, positive};
use super::zset_blocking::{TAKEN, wait};
use super::zset_range::score_range;
use crate::keyspace::Event;
use crate::resp::{Error, Replied};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::num::{self, FloatBuf};
use crate::types::Zset;
use crate::types::zset::{Rule, ScoreRange};

/// Table entries of the commands.
pub const COMMANDS: &[Spec] = &[BZMOVE, ZMOVE, ZMOVEMEMBER];

const KEYS: &[KeySpec] =
    &[KeySpec::at(1).flags(TAKEN), KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::UPDATE))];

const ZMOVE: Spec = Spec::data("zmove", -4, zmove)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::SORTEDSET)
    .keys(KEYS)
    .docs(Docs {
        summary: "Moves members with the lowest or highest scores, or with scores of a range, to another sorted set.",
        since: "8.12.0",
        complexity: "O(K*(log(N)+log(M))) for K members moved between sets of N and M members.",
        group: Group::SortedSet,
        args: &[
            Arg::key("source"),
            Arg::key("destination").key_spec(1),
            Arg::one_of(
                "selection",
                &[
                    Arg::word("min", "MIN"),
                    Arg::word("max", "MAX"),
                    Arg::block("score-range", &[Arg::double("score-min"), Arg::double("score-max")])
                        .token("BYSCORE"),
                ],
            ),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    });

/// ZMOVE source destination MIN | MAX | BYSCORE min max [COUNT count] → the moved members, in the order of the
/// selection, or null.
fn zmove(ctx: &mut Ctx<'_>) -> CmdResult {
    let (selection, at) = match Selection::of_end(ctx, 3) {
        Some(selection) => (selection, 4),
        None if ctx.args.is(3, "BYSCORE") && ctx.args.len() > 5 => {
            (Selection::Scores(score_range(ctx.args.at(4), ctx.args.at(5))?), 6)
        }
        None => return Err(Error::Syntax),
    };
    let count = count(ctx, at)?;
    let found = move_members(ctx, |set| selection.members(set, count), Rule::default())?;
    Ok(found.unwrap_or_else(|| ctx.reply.null_array()))
}

const BZMOVE: Spec = Spec::data("bzmove", -5, bzmove)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::BLOCKING))
    .acl(Acl::SORTEDSET)
    .keys(KEYS)
    .docs(Docs {
        summary: "Moves members with the lowest or highest scores to another sorted set, waiting if need be.",
        since: "8.12.0",
        complexity: "O(K*(log(N)+log(M))) for K members moved between sets of N and M members.",
        group: Group::SortedSet,
        args: &[
            Arg::key("source"),
            Arg::key("destination").key_spec(1),
            Arg::one_of("where", &[Arg::word("min", "MIN"), Arg::word("max", "MAX")]),
            Arg::double("timeout"),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    });

/// BZMOVE source destination MIN | MAX timeout [COUNT count] → the moved members, or null.
fn bzmove(ctx: &mut Ctx<'_>) -> CmdResult {
    let selection = Selection::of_end(ctx, 3).ok_or(Error::Syntax)?;
    let count = count(ctx, 5)?;
    let until = timeout(ctx, 4)?;
    let within = ctx.args.at(1) == ctx.args.at(2);
    match move_members(ctx, |set| selection.members(set, count), Rule::default())? {
        Some(replied) => Ok(replied),
        // Nothing that is added changes the answer.
        None if within => Ok(ctx.reply.null_array()),
        None => wait(ctx, 1..2, until),
    }
}

const ZMOVEMEMBER: Spec = Spec::data("zmovemember", -6, zmovemember)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::SORTEDSET)
    .keys(KEYS)
    .docs(Docs {
        summary: "Moves members to another sorted set, perhaps only new or only present ones.",
        since: "8.12.0",
        complexity: "O(K*(log(N)+log(M))) for K members given and sets of N and M members.",
        group: Group::SortedSet,
        args: &[
            Arg::key("source"),
            Arg::key("destination").key_spec(1),
            Arg::one_of("condition", &[Arg::word("nx", "NX"), Arg::word("xx", "XX")]).optional(),
            Arg::block("members", &[Arg::integer("num-members"), Arg::string("member").multiple()])
                .token("MEMBERS"),
        ],
        ..Docs::NONE
    });

/// ZMOVEMEMBER source destination [NX | XX] MEMBERS n member [member …] → the moved members in the order of the
/// request, or null.
fn zmovemember(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let rule = Rule { only_new: args.is(3, "NX"), only_existing: args.is(3, "XX"), ..Rule::default() };
    let at = if rule == Rule::default() { 3 } else { 4 };
    if !args.is(at, "MEMBERS") || at + 1 >= args.len() {
        return Err(Error::Syntax);
    }
    let count = positive(&args, at + 1, "ERR num-members should be greater than 0")?;
    let members = args.rest(at + 2);
    if members.len() != count {
        return Err(Error::text("ERR The `num-members` parameter must match the number of arguments"));
    }
    let given = |set: &Zset| {
        members.iter().filter_map(|member| Some((member.to_vec(), set.score(member)?))).collect()
    };
    let found = move_members(ctx, given, rule)?;
    Ok(found.unwrap_or_else(|| ctx.reply.null_array()))
}

/// A member and its score.
type Scored = (Vec<u8>, f64);

/// Which members move.
enum Selection {
    Lowest,
    Highest,
    Scores(ScoreRange),
}

impl Selection {
    /// The end that argument `i` names.
    fn of_end(ctx: &Ctx<'_>, i: usize) -> Option<Selection> {
        if ctx.args.is(i, "MIN") {
            Some(Selection::Lowest)
        } else {
            ctx.args.is(i, "MAX").then_some(Selection::Highest)
        }
    }

    /// The members, at most `count` of them. Unless it is given, that is one, or all in the range.
    fn members(&self, set: &Zset, count: Option<usize>) -> Vec<Scored> {
        let (pairs, most) = match self {
            Selection::Lowest => (set.iter(false), count.unwrap_or(1)),
            Selection::Highest => (set.iter(true), count.unwrap_or(1)),
            Selection::Scores(range) => {
                let within = set.ranks_by_score(range).len();
                (set.from_score(range, false), count.map_or(within, |count| count.min(within)))
            }
        };
        pairs.take(most).map(|pair| (pair.member.to_vec(), pair.score())).collect()
    }
}

/// Parses `[COUNT count]` from argument `at` on.
fn count(ctx: &Ctx<'_>, at: usize) -> Result<Option<usize>, Error> {
    match ctx.args.len() - at {
        0 => Ok(None),
        2 if ctx.args.is(at, "COUNT") => {
            positive(&ctx.args, at + 1, "ERR count should be greater than 0").map(Some)
        }
        _ => Err(Error::Syntax),
    }
}

/// Moves what `select` finds in the set at argument 1 to the set at argument 2, as far as `rule` allows, and replies
/// with the members that moved; `None` if there are none.
fn move_members(
    ctx: &mut Ctx<'_>,
    select: impl FnOnce(&Zset) -> Vec<Scored>,
    rule: Rule,
) -> Result<Option<Replied>, Error> {
    let (source, destination) = (ctx.args.key(1), ctx.args.key(2));
    // Both keys are looked up, with the effects of a lookup, before either type matters.
    for key in [source, destination] {
        ctx.db.expire_due(key);
    }
    let Some(set) = ctx.db.find_as::<Zset>(source)? else { return Ok(None) };
    if source.bytes == destination.bytes {
        return Ok(None);
    }
    let mut moved = select(set);
    let target = ctx.db.find_as::<Zset>(destination)?;
    if rule != Rule::default() {
        moved.retain(|(member, _)| {
            let present = target.is_some_and(|target| target.score(member).is_some());
            present == rule.only_existing
        });
    }
    let set = ctx.db.write_as::<Zset>(source)?.expect("looked up above");
    // A member that is given twice moves once.
    moved.retain(|(member, _)| set.remove(member));
    if moved.is_empty() {
        return Ok(None);
    }
    let limits = &ctx.limits.types;
    let set = ctx.db.write_or_insert(destination, Zset::new)?;
    set.expect(moved.len(), limits);
    for (member, score) in &moved {
        set.add(member, *score, Rule::default(), limits);
    }
    ctx.db.changed(destination, Event::zset("zadd"), moved.len());
    finish_removal(ctx, source, "zrem", moved.len());
    feed(ctx, &moved);
    let replied = ctx.reply.array(moved.len());
    ctx.reply.each(&moved, |reply, (member, _)| _ = reply.bulk(member));
    Ok(Some(replied))
}

/// Members in one propagated request.
const MEMBERS_AT_ONCE: usize = 1024;

/// Propagates the move.
fn feed(ctx: &mut Ctx<'_>, moved: &[Scored]) {
    if !ctx.db.space().ledger.listeners.feeds() {
        return;
    }
    for moved in moved.chunks(MEMBERS_AT_ONCE) {
        let scores: Vec<Vec<u8>> =
            moved.iter().map(|(_, score)| num::fmt_f64(*score, &mut FloatBuf::new()).to_vec()).collect();
        let mut removal: Vec<&[u8]> = vec![b"ZREM", ctx.args.at(1)];
        removal.extend(moved.iter().map(|(member, _)| member.as_slice()));
        ctx.feed.instead(&removal);
        let mut addition: Vec<&[u8]> = vec![b"ZADD", ctx.args.at(2)];
        for ((member, _), score) in moved.iter().zip(&scores) {
            addition.extend([score.as_slice(), member.as_slice()]);
        }
        ctx.feed.instead(&addition);
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::check;

    #[test]
    fn the_first_and_the_last_and_a_range_move() {
        check(
            r#"
            ZADD a 1 a 2 b 3 c 4 d 5 e 6 f
            ZADD b 9 a 9 x
            ZMOVE a b MIN
            ZMOVE a b MAX COUNT 2
            ZMOVE a b BYSCORE 2 (4
            ZMOVE a b BYSCORE 0 1
            ZRANGE b 0 -1 WITHSCORES
            EXPIRE b 100
            ZMOVE a b BYSCORE -inf +inf COUNT 5
            EXISTS a
            TTL b
            ZMOVE a b MIN
            ZMOVE b b MIN
            ZMOVE b new MIN COUNT 100
            ZCARD new
            SET s v
            ZMOVE s new MIN
            ZMOVE s s MIN
            ZMOVE new s MIN
            ZMOVE nosuch s MIN
            ZMOVE new b MEDIAN
            ZMOVE new b BYSCORE 1
            ZMOVE new b BYSCORE x 1
            ZMOVE new b MIN COUNT 0
            ZMOVE new b MIN COUNT
            ZMOVE new b MIN LIMIT 1
            "#,
            r#"
            (integer) 6
            (integer) 2
            1) "a"
            1) "f"
            2) "e"
            1) "b"
            2) "c"
            (nil)
             1) "a"
             2) "1"
             3) "b"
             4) "2"
             5) "c"
             6) "3"
             7) "e"
             8) "5"
             9) "f"
            10) "6"
            11) "x"
            12) "9"
            (integer) 1
            1) "d"
            (integer) 0
            (integer) 100
            (nil)
            (nil)
            1) "a"
            2) "b"
            3) "c"
            4) "d"
            5) "e"
            6) "f"
            7) "x"
            (integer) 7
            OK
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (nil)
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR min or max is not a float
            (error) ERR count should be greater than 0
            (error) ERR syntax error
            (error) ERR syntax error
            "#,
        );
    }

    #[test]
    fn named_members_move() {
        check(
            r#"
            ZADD a 1 a 2 b 3 c 4 d
            ZADD b 9 a
            ZMOVEMEMBER a b NX MEMBERS 3 a nosuch b
            ZMOVEMEMBER a b XX MEMBERS 2 c a
            ZMOVEMEMBER a b MEMBERS 2 c c
            ZMOVEMEMBER a b XX MEMBERS 1 d
            ZMOVEMEMBER a b MEMBERS 1 nosuch
            ZRANGE b 0 -1 WITHSCORES
            ZMOVEMEMBER a a MEMBERS 1 d
            ZMOVEMEMBER a new XX MEMBERS 1 d
            EXISTS new
            ZMOVEMEMBER a new MEMBERS 1 d
            EXISTS a
            ZMOVEMEMBER b new MEMBERS 0 a
            ZMOVEMEMBER b new MEMBERS 2 a
            ZMOVEMEMBER b new NX XX MEMBERS 1 a
            ZMOVEMEMBER b new a MEMBERS 1
            MULTI
            BZMOVE nosuch b MIN 1
            EXEC
            BZMOVE b new MAX 0 COUNT 2
            BZMOVE b b MAX 0
            BZMOVE b new BYSCORE 0 1
            BZMOVE b new MIN -1
            "#,
            r#"
            (integer) 4
            (integer) 1
            1) "b"
            1) "a"
            1) "c"
            (nil)
            (nil)
            1) "a"
            2) "1"
            3) "b"
            4) "2"
            5) "c"
            6) "3"
            (nil)
            (nil)
            (integer) 0
            1) "d"
            (integer) 0
            (error) ERR num-members should be greater than 0
            (error) ERR The `num-members` parameter must match the number of arguments
            (error) ERR syntax error
            (error) ERR syntax error
            OK
            QUEUED
            1) (nil)
            1) "c"
            2) "b"
            (nil)
            (error) ERR syntax error
            (error) ERR timeout is negative
            "#,
        );
    }
}
