//! Commands on sorted sets: single members, counts, the ends, random members.

use super::scan_args::ScanArgs;
use std::ops::Range;

use crate::keyspace::Event;
use crate::resp::{Args, Error, Replied, Reply};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Seeks, Spec};
use crate::stdx::hash::Key;
use crate::stdx::num;
use crate::stdx::rng::Rng;
use crate::types::zset::{Outcome, Pair, Rule};
use crate::types::{Describe, Zset};

/// Table entries of the sorted set commands.
pub const COMMANDS: &[Spec] = &[
    ZADD,
    ZCARD,
    ZINCRBY,
    ZMPOP,
    ZMSCORE,
    ZPOPMAX,
    ZPOPMIN,
    ZRANDMEMBER,
    ZRANK,
    ZREM,
    ZREVRANK,
    ZSCAN,
    ZSCORE,
];

// ---- what the commands on sorted sets have in common --------------------------------------------

/// Writes the header of `n` members: with scores, RESP3 has an array per pair, RESP2 one flat array.
pub(super) fn header(reply: &mut Reply<'_>, n: usize, with_scores: bool) -> Replied {
    reply.array(if with_scores && !reply.resp3() { 2 * n } else { n })
}

/// Writes one member after a [`header`].
#[inline]
pub(super) fn member(reply: &mut Reply<'_>, pair: &Pair<'_>, with_scores: bool) {
    if !with_scores {
        reply.item(pair.member);
        return;
    }
    if reply.resp3() {
        reply.array(2);
    }
    reply.item(pair.member);
    reply.double(pair.score());
}

/// Argument `i` as a count of at least 1.
pub(super) fn positive(args: &Args<'_>, i: usize, refusal: &'static str) -> Result<usize, Error> {
    let n = args.get(i).and_then(num::parse_i64).and_then(|n| usize::try_from(n).ok());
    n.filter(|&n| n > 0).ok_or_else(|| Error::text(refusal))
}

// ---- scores -------------------------------------------------------------------------------------

const ZADD: Spec = Spec::data("zadd", -4, zadd)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .seeks(Seeks::Score(2))
    .docs(Docs {
        summary: "Adds members to a sorted set or sets their scores.",
        since: "1.2.0",
        complexity: "O(log(N)) for each member, in a set of N.",
        group: Group::SortedSet,
        history: &[
            ("2.4.0", "Several members at once."),
            ("3.0.2", "The options `XX`, `NX`, `CH` and `INCR` were added."),
            ("6.2.0", "The options `GT` and `LT` were added."),
        ],
        args: &[
            Arg::key("key"),
            Arg::one_of("condition", &[Arg::word("nx", "NX"), Arg::word("xx", "XX")])
                .since("3.0.2")
                .optional(),
            Arg::one_of("comparison", &[Arg::word("gt", "GT"), Arg::word("lt", "LT")])
                .since("6.2.0")
                .optional(),
            Arg::word("change", "CH").since("3.0.2").optional(),
            Arg::word("increment", "INCR").since("3.0.2").optional(),
            Arg::block("data", &[Arg::double("score"), Arg::string("member")]).multiple(),
        ],
        ..Docs::NONE
    });

/// ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member …] → number of new members; with CH, also of
/// changed ones; with INCR, the score, or null.
fn zadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let mut rule = Rule::default();
    let mut count_changed = false;
    let mut i = 2;
    loop {
        let option = if args.is(i, "NX") {
            &mut rule.only_new
        } else if args.is(i, "XX") {
            &mut rule.only_existing
        } else if args.is(i, "GT") {
            &mut rule.only_greater
        } else if args.is(i, "LT") {
            &mut rule.only_less
        } else if args.is(i, "CH") {
            &mut count_changed
        } else if args.is(i, "INCR") {
            &mut rule.increment
        } else {
            break;
        };
        *option = true;
        i += 1;
    }
    let pairs = args.rest(i);
    if pairs.len() == 0 || !pairs.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    if rule.only_new && rule.only_existing {
        return Err(Error::text("ERR XX and NX options at the same time are not compatible"));
    }
    if [rule.only_new, rule.only_greater, rule.only_less].iter().filter(|&&on| on).count() > 1 {
        return Err(Error::text("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if rule.increment && pairs.len() > 2 {
        return Err(Error::text("ERR INCR option supports a single increment-element pair"));
    }
    let counts = add(ctx, pairs, rule)?;
    Ok(match counts.last {
        Some(score) if rule.increment => ctx.reply.double(score),
        None if rule.increment => ctx.reply.null(),
        _ if count_changed => ctx.reply.int((counts.added + counts.updated) as i64),
        _ => ctx.reply.int(counts.added as i64),
    })
}

const ZINCRBY: Spec = Spec::data("zincrby", 4, zincrby)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .seeks(Seeks::Place(3))
    .docs(Docs {
        summary: "Adds to the score of a member.",
        since: "1.2.0",
        complexity: "O(log(N)) for a set of N members.",
        group: Group::SortedSet,
        args: &[Arg::key("key"), Arg::integer("increment"), Arg::string("member")],
        ..Docs::NONE
    });

/// ZINCRBY key increment member → score of the member.
fn zincrby(ctx: &mut Ctx<'_>) -> CmdResult {
    // An option of ZADD in place of the increment would leave no pair of score and member.
    if ["nx", "xx", "gt", "lt", "ch", "incr"].iter().any(|option| ctx.args.is(2, option)) {
        return Err(Error::Syntax);
    }
    let counts = add(ctx, ctx.args.rest(2), Rule { increment: true, ..Rule::default() })?;
    Ok(ctx.reply.double(counts.last.expect("without conditions no increment is refused")))
}

/// Result of [`add`].
#[derive(Default)]
struct Counts {
    added: usize,
    updated: usize,
    /// Score of the last member, unless the rule refused to set it.
    last: Option<f64>,
}

/// Adds pairs of score and member to the set at argument 1. If a score is not a number, nothing changes.
fn add(ctx: &mut Ctx<'_>, pairs: Args<'_>, rule: Rule) -> Result<Counts, Error> {
    let n = pairs.len() / 2;
    let first = pairs.float(0)?;
    for i in 1..n {
        pairs.float(2 * i)?;
    }
    let (key, limits) = (ctx.args.key(1), &ctx.limits.types);
    let mut counts = Counts::default();
    let set = match ctx.db.write_as::<Zset>(key)? {
        Some(set) => {
            set.expect(n, limits);
            set
        }
        None if rule.only_existing => return Ok(counts),
        None => {
            let longest = (0..n).map(|i| pairs.at(2 * i + 1).len()).max().unwrap_or(0);
            ctx.db.write_or_insert(key, || Zset::sized_for(n, longest, limits))?
        }
    };
    for i in 0..n {
        let score = if i == 0 { first } else { pairs.float(2 * i)? };
        counts.last = match set.add(pairs.at(2 * i + 1), score, rule, limits) {
            Outcome::Added(score) => {
                counts.added += 1;
                Some(score)
            }
            Outcome::Updated(score) => {
                counts.updated += 1;
                Some(score)
            }
            Outcome::Same(score) => Some(score),
            Outcome::Refused => None,
            // Only an increment can give this, and then there is only one pair.
            Outcome::NotANumber => return Err(Error::text("ERR resulting score is not a number (NaN)")),
        };
    }
    let event = Event::zset(if rule.increment { "zincr" } else { "zadd" });
    ctx.db.changed(key, event, counts.added + counts.updated);
    Ok(counts)
}

const ZREM: Spec = Spec::data("zrem", -3, zrem)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::DELETE))])
    .seeks(Seeks::Place(2))
    .docs(Docs {
        summary: "Removes members from a sorted set.",
        since: "1.2.0",
        complexity: "O(M*log(N)) for M members to remove from a set of N.",
        group: Group::SortedSet,
        history: &[("2.4.0", "Several members at once.")],
        args: &[Arg::key("key"), Arg::string("member").multiple()],
        ..Docs::NONE
    });

/// ZREM key member [member …] → number of removed members.
fn zrem(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let mut removed = 0;
    if let Some(set) = ctx.db.write_as::<Zset>(key)? {
        for member in ctx.args.rest(2).iter() {
            removed += usize::from(set.remove(member));
            if set.is_empty() {
                break;
            }
        }
    }
    finish_removal(ctx, key, "zrem", removed);
    Ok(ctx.reply.int(removed as i64))
}

/// Reports that `n` members were removed, and removes the key if the set is empty.
pub(super) fn finish_removal(ctx: &mut Ctx<'_>, key: Key<'_>, event: &'static str, n: usize) {
    if n > 0 {
        ctx.db.changed(key, Event::zset(event), n);
        ctx.db.settle::<Zset>(key);
    }
}

const ZCARD: Spec = Spec::data("zcard", 2, zcard)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Counts the members of a sorted set.",
        since: "1.2.0",
        complexity: "O(1)",
        group: Group::SortedSet,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// ZCARD key → number of members.
fn zcard(ctx: &mut Ctx<'_>) -> CmdResult {
    let len = ctx.db.read_as::<Zset>(ctx.args.key(1))?.map_or(0, Zset::len);
    Ok(ctx.reply.int(len as i64))
}

const ZSCORE: Spec = Spec::data("zscore", 3, zscore)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Answers the score of a member.",
        since: "1.2.0",
        complexity: "O(1)",
        group: Group::SortedSet,
        args: &[Arg::key("key"), Arg::string("member")],
        ..Docs::NONE
    });

/// ZSCORE key member → score, or null.
fn zscore(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.db.read_as::<Zset>(ctx.args.key(1))?;
    Ok(match set.and_then(|set| set.score(ctx.args.at(2))) {
        Some(score) => ctx.reply.double(score),
        None => ctx.reply.null(),
    })
}

const ZMSCORE: Spec = Spec::data("zmscore", -3, zmscore)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .seeks(Seeks::Member(2))
    .docs(Docs {
        summary: "Answers the scores of several members.",
        since: "6.2.0",
        complexity: "O(N) for N members asked for.",
        group: Group::SortedSet,
        args: &[Arg::key("key"), Arg::string("member").multiple()],
        ..Docs::NONE
    });

/// ZMSCORE key member [member …] → score, or null, of each member.
fn zmscore(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.db.read_as::<Zset>(ctx.args.key(1))?;
    let members = ctx.args.rest(2);
    let replied = ctx.reply.array(members.len());
    for member in members.iter() {
        match set.and_then(|set| set.score(member)) {
            Some(score) => ctx.reply.double(score),
            None => ctx.reply.null(),
        };
    }
    Ok(replied)
}

const ZRANK: Spec = Spec::data("zrank", -3, zrank)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .seeks(Seeks::Place(2))
    .docs(Docs {
        summary: "Tells how many members have a lower place.",
        since: "2.0.0",
        complexity: "O(log(N)) for a set of N members.",
        group: Group::SortedSet,
        history: &[("7.2.0", "The option `WITHSCORE` was added.")],
        args: &[Arg::key("key"), Arg::string("member"), Arg::word("withscore", "WITHSCORE").optional()],
        ..Docs::NONE
    });

/// ZRANK key member [WITHSCORE] → number of members before it, or null.
fn zrank(ctx: &mut Ctx<'_>) -> CmdResult {
    rank(ctx, false)
}

const ZREVRANK: Spec = Spec::data("zrevrank", -3, zrevrank)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .seeks(Seeks::Place(2))
    .docs(Docs {
        summary: "Tells how many members have a higher place.",
        since: "2.0.0",
        complexity: "O(log(N)) for a set of N members.",
        group: Group::SortedSet,
        history: &[("7.2.0", "The option `WITHSCORE` was added.")],
        args: &[Arg::key("key"), Arg::string("member"), Arg::word("withscore", "WITHSCORE").optional()],
        ..Docs::NONE
    });

/// ZREVRANK key member [WITHSCORE] → number of members after it, or null.
fn zrevrank(ctx: &mut Ctx<'_>) -> CmdResult {
    rank(ctx, true)
}

fn rank(ctx: &mut Ctx<'_>, reverse: bool) -> CmdResult {
    let args = ctx.args;
    if args.len() > 4 {
        return Err(Error::arity(ctx.name));
    }
    let with_score = args.len() == 4;
    if with_score && !args.is(3, "WITHSCORE") {
        return Err(Error::Syntax);
    }
    let set = ctx.db.read_as::<Zset>(args.key(1))?;
    let found = set.and_then(|set| {
        let (rank, score) = set.rank(args.at(2))?;
        Some((if reverse { set.len() - 1 - rank } else { rank }, score))
    });
    Ok(match found {
        Some((rank, score)) if with_score => {
            ctx.reply.array(2);
            ctx.reply.int(rank as i64);
            ctx.reply.double(score)
        }
        Some((rank, _)) => ctx.reply.int(rank as i64),
        None if with_score => ctx.reply.null_array(),
        None => ctx.reply.null(),
    })
}

// ---- the ends -----------------------------------------------------------------------------------

/// An end of a sorted set, from which members are removed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Min,
    Max,
}

impl End {
    fn command(self) -> &'static str {
        match self {
            End::Min => "zpopmin",
            End::Max => "zpopmax",
        }
    }

    /// Name of the propagated command.
    fn request(self) -> &'static [u8] {
        match self {
            End::Min => b"ZPOPMIN",
            End::Max => b"ZPOPMAX",
        }
    }

    /// Removes `n` members, which the set has. Passes them to `answer` first, nearest to the end first.
    fn pop(self, set: &mut Zset, n: usize, mut answer: impl FnMut(&Pair<'_>)) {
        set.iter(self == End::Max).take(n).for_each(|pair| answer(&pair));
        let ranks = match self {
            End::Min => 0..n,
            End::Max => set.len() - n..set.len(),
        };
        set.remove_ranks(ranks);
    }
}

const ZPOPMIN: Spec = Spec::data("zpopmin", -2, zpopmin)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE))])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Takes the members with the lowest scores out.",
        since: "5.0.0",
        complexity: "O(log(N)*M) for a set of N members of which M are taken out.",
        group: Group::SortedSet,
        args: &[Arg::key("key"), Arg::integer("count").optional()],
        ..Docs::NONE
    });

/// ZPOPMIN key [count] → removed members with the lowest scores, and their scores.
fn zpopmin(ctx: &mut Ctx<'_>) -> CmdResult {
    pop(ctx, End::Min)
}

const ZPOPMAX: Spec = Spec::data("zpopmax", -2, zpopmax)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE))])
    .seeks(Seeks::Start)
    .docs(Docs {
        summary: "Takes the members with the highest scores out.",
        since: "5.0.0",
        complexity: "O(log(N)*M) for a set of N members of which M are taken out.",
        group: Group::SortedSet,
        args: &[Arg::key("key"), Arg::integer("count").optional()],
        ..Docs::NONE
    });

/// ZPOPMAX key [count] → removed members with the highest scores, and their scores.
fn zpopmax(ctx: &mut Ctx<'_>) -> CmdResult {
    pop(ctx, End::Max)
}

fn pop(ctx: &mut Ctx<'_>, end: End) -> CmdResult {
    let args = ctx.args;
    if args.len() > 3 {
        return Err(Error::Syntax);
    }
    let count = match args.get(2) {
        None => 1,
        Some(text) => {
            num::parse_i64(text).and_then(|n| usize::try_from(n).ok()).ok_or(Error::NegativeCount)?
        }
    };
    let key = args.key(1);
    let set = ctx.db.write_as::<Zset>(key)?.filter(|_| count > 0);
    let Some(set) = set else { return Ok(ctx.reply.array(0)) };
    let (n, reply) = (count.min(set.len()), &mut ctx.reply);
    // A single pair is nested only if a count was given.
    let nested = args.len() == 3 && reply.resp3();
    let replied = reply.array(if nested { n } else { 2 * n });
    end.pop(set, n, |pair| {
        if nested {
            reply.array(2);
        }
        reply.item(pair.member);
        reply.double(pair.score());
    });
    finish_removal(ctx, key, end.command(), n);
    Ok(replied)
}

const ZMPOP: Spec = Spec::data("zmpop", -4, zmpop)
    .flags(Flags::WRITE)
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).count(0, 1, 1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Takes members with the lowest or highest scores out of the first sorted set that has any.",
        since: "7.0.0",
        complexity: "O(K) + O(M*log(N)) for K keys, N members in the set and M taken out.",
        group: Group::SortedSet,
        args: &[
            Arg::integer("numkeys"),
            Arg::key("key").multiple(),
            Arg::one_of("where", &[Arg::word("min", "MIN"), Arg::word("max", "MAX")]),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    });

/// ZMPOP numkeys key [key …] MIN | MAX [COUNT count] → the first key with a set, and the removed members; or null.
fn zmpop(ctx: &mut Ctx<'_>) -> CmdResult {
    let popping = MultiPop::parse(&ctx.args, 1)?;
    Ok(popping.run(ctx)?.unwrap_or_else(|| ctx.reply.null_array()))
}

/// A command that removes members from the first non-empty set of several.
pub(super) struct MultiPop {
    /// Indices of the arguments that are keys.
    pub keys: Range<usize>,
    end: End,
    count: usize,
}

impl MultiPop {
    /// Parses `numkeys key [key …] MIN|MAX [COUNT count]` from argument `at` on.
    pub(super) fn parse(args: &Args<'_>, at: usize) -> Result<MultiPop, Error> {
        let keys = positive(args, at, "ERR numkeys should be greater than 0")?;
        let place = keys.checked_add(at + 1).filter(|&place| place < args.len()).ok_or(Error::Syntax)?;
        let end = if args.is(place, "MIN") {
            End::Min
        } else if args.is(place, "MAX") {
            End::Max
        } else {
            return Err(Error::Syntax);
        };
        let mut count = None;
        for i in (place + 1..args.len()).step_by(2) {
            if count.is_some() || !args.is(i, "COUNT") || i + 1 == args.len() {
                return Err(Error::Syntax);
            }
            count = Some(positive(args, i + 1, "ERR count should be greater than 0")?);
        }
        Ok(MultiPop { keys: at + 1..place, end, count: count.unwrap_or(1) })
    }

    /// Removes the members and replies with the key and the members; `None` if there is no set.
    pub(super) fn run(&self, ctx: &mut Ctx<'_>) -> Result<Option<Replied>, Error> {
        let args = ctx.args;
        for i in self.keys.clone() {
            let key = args.key(i);
            let Some(set) = ctx.db.write_as::<Zset>(key)? else { continue };
            let (n, reply) = (self.count.min(set.len()), &mut ctx.reply);
            reply.array(2);
            reply.bulk(key.bytes);
            let replied = reply.array(n);
            self.end.pop(set, n, |pair| {
                reply.array(2);
                reply.item(pair.member);
                reply.double(pair.score());
            });
            finish_removal(ctx, key, self.end.command(), n);
            // Others need not search for the set again.
            let mut digits = itoa::Buffer::new();
            ctx.feed.instead(&[self.end.request(), key.bytes, digits.format(n).as_bytes()]);
            return Ok(Some(replied));
        }
        Ok(None)
    }
}

/// Removes the member at one end of the first existing set among the arguments `keys`; replies with the key, the
/// member and its score.
pub(super) fn pop_first(ctx: &mut Ctx<'_>, keys: Range<usize>, end: End) -> Result<Option<Replied>, Error> {
    for i in keys {
        let key = ctx.args.key(i);
        let Some(set) = ctx.db.write_as::<Zset>(key)? else { continue };
        let reply = &mut ctx.reply;
        let replied = reply.array(3);
        reply.bulk(key.bytes);
        end.pop(set, 1, |pair| {
            reply.item(pair.member);
            reply.double(pair.score());
        });
        finish_removal(ctx, key, end.command(), 1);
        ctx.feed.instead(&[end.request(), key.bytes]);
        return Ok(Some(replied));
    }
    Ok(None)
}

// ---- any members --------------------------------------------------------------------------------

const ZRANDMEMBER: Spec = Spec::data("zrandmember", -2, zrandmember)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Answers members chosen at random.",
        since: "6.2.0",
        complexity: "O(N) for N members in the answer.",
        group: Group::SortedSet,
        args: &[
            Arg::key("key"),
            Arg::block("options", &[Arg::integer("count"), Arg::word("withscores", "WITHSCORES").optional()])
                .optional(),
        ],
        ..Docs::NONE
    });

/// ZRANDMEMBER key [count [WITHSCORES]] → a random member, or null; with a count, `count` distinct members; with a
/// negative count, members may repeat.
fn zrandmember(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let key = args.key(1);
    let mut rng = Rng::new(ctx.db.rng().next_u64());
    if args.len() == 2 {
        let set = ctx.db.read_as::<Zset>(key)?;
        return Ok(match set.and_then(|set| set.random(&mut rng)) {
            Some(pair) => ctx.reply.item(pair.member),
            None => ctx.reply.null(),
        });
    }
    let count = args.int(2)?;
    if count == i64::MIN {
        let range = "value must between -9223372036854775807 and 9223372036854775807";
        return Err(Error::text(format!("ERR value is out of range, {range}")));
    }
    let with_scores = args.is(3, "WITHSCORES");
    if args.len() > 4 || (args.len() == 4 && !with_scores) {
        return Err(Error::Syntax);
    }
    // A reply has at most 2^63 - 1 elements.
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(Error::OutOfRange);
    }
    let Some(set) = ctx.db.read_as::<Zset>(key)? else { return Ok(ctx.reply.array(0)) };
    let reply = &mut ctx.reply;
    let wanted = count.unsigned_abs() as usize;
    let start = reply.defer();
    let mut n = 0;
    if count < 0 {
        while n < wanted
            && !reply.is_dropping()
            && let Some(pair) = set.random(&mut rng)
        {
            member(reply, &pair, with_scores);
            n += 1;
        }
    } else {
        let _ = set.sample(wanted, &mut rng, |pair| {
            member(reply, &pair, with_scores);
            n += 1;
            reply.proceed()
        });
    }
    Ok(reply.end_array(start, if with_scores && !reply.resp3() { 2 * n } else { n }))
}

const ZSCAN: Spec = Spec::data("zscan", -3, zscan)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Goes through the members and scores of a sorted set, some with each call.",
        since: "2.8.0",
        complexity: "O(1) for a call, O(N) for all calls until the cursor is 0 again, for N members.",
        group: Group::SortedSet,
        args: &[
            Arg::key("key"),
            Arg::integer("cursor"),
            Arg::pattern("pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
            Arg::word("noscores", "NOSCORES").since("9.0.0").optional(),
        ],
        ..Docs::NONE
    });

/// ZSCAN key cursor [MATCH pattern] [COUNT count] [NOSCORES] → next cursor, and some members with their scores.
fn zscan(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let cursor = args.cursor(2)?;
    let start = ctx.reply.defer();
    let Some(set) = ctx.db.read_as::<Zset>(args.key(1))? else { return Ok(ctx.reply.end_scan(start, 0, 0)) };
    let scan = ScanArgs::parse(args, 3, "NOSCORES")?;
    let reply = &mut ctx.reply;
    let mut found = 0;
    let cursor = scan.run(reply, cursor, |reply, cursor| {
        let mut seen = 0;
        let next = set.scan(cursor, |pair| {
            seen += 1;
            if scan.pattern.matches(pair.member.text(&mut itoa::Buffer::new())) {
                reply.item(pair.member);
                found += 1;
                if !scan.names_only {
                    pair.with_scan_text(|score| reply.bulk(score));
                    found += 1;
                }
            }
        });
        (next, seen)
    });
    Ok(reply.end_scan(start, cursor, found))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check, check_with};

    #[test]
    fn zadd_keeps_to_its_options() {
        check(
            r#"
            ZADD k 1 a 2 b
            ZADD k CH 3 a 2 b 4 c
            ZADD k NX 9 a 9 d
            ZADD k XX 5 a 5 e
            ZADD k GT CH 4 a 6 b
            ZADD k LT CH 7 a 5 b
            ZADD k INCR 0.5 a
            ZADD k NX INCR 1 a
            ZADD k XX INCR 1 nosuch
            ZADD nosuch XX 1 a
            EXISTS nosuch
            ZADD k NX XX 1 a
            ZADD k GT NX 1 a
            ZADD k GT LT 1 a
            ZADD k INCR 1 a 2 b
            ZADD k 1 a 2
            ZADD k nan a
            ZADD k 1 a 1e400 b
            ZINCRBY k inf i
            ZINCRBY k -inf i
            ZRANGE k 0 -1 WITHSCORES
            "#,
            r#"
            (integer) 2
            (integer) 2
            (integer) 1
            (integer) 0
            (integer) 1
            (integer) 1
            "5.5"
            (nil)
            (nil)
            (integer) 0
            (integer) 0
            (error) ERR XX and NX options at the same time are not compatible
            (error) ERR GT, LT, and/or NX options at the same time are not compatible
            (error) ERR GT, LT, and/or NX options at the same time are not compatible
            (error) ERR INCR option supports a single increment-element pair
            (error) ERR syntax error
            (error) ERR value is not a valid float
            (error) ERR value is not a valid float
            "inf"
            (error) ERR resulting score is not a number (NaN)
             1) "c"
             2) "4"
             3) "b"
             4) "5"
             5) "a"
             6) "5.5"
             7) "d"
             8) "9"
             9) "i"
            10) "inf"
            "#,
        );
    }

    #[test]
    fn ranks_scores_and_removals() {
        check(
            r#"
            ZADD k 1 a 2 b 3 c
            ZRANK k b
            ZREVRANK k a WITHSCORE
            ZRANK k x
            ZRANK k x WITHSCORE
            ZRANK k a FOO
            ZRANK k a WITHSCORE x
            ZMSCORE k a x c
            ZREM k a x a
            ZCARD k
            ZREM k b c
            EXISTS k
            ZCARD k
            SET s x
            ZADD s 1 a
            "#,
            r#"
            (integer) 3
            (integer) 1
            1) (integer) 2
            2) "1"
            (nil)
            (nil)
            (error) ERR syntax error
            (error) ERR wrong number of arguments for 'zrank' command
            1) "1"
            2) (nil)
            3) "3"
            (integer) 1
            (integer) 2
            (integer) 2
            (integer) 0
            (integer) 0
            OK
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            "#,
        );
    }

    #[test]
    fn members_are_taken_from_the_ends() {
        check(
            r#"
            ZADD k 1 a 2 b 3 c 4 d 5 e
            ZPOPMIN k
            ZPOPMAX k 2
            ZPOPMIN k 0
            ZPOPMIN k -1
            ZPOPMIN k 1 2
            ZMPOP 2 nosuch k MAX COUNT 5
            ZMPOP 2 nosuch k MIN
            EXISTS k
            ZPOPMIN k
            ZMPOP 0 k MIN
            ZMPOP 1 k MIN COUNT 0
            ZMPOP 1 k UP
            "#,
            r#"
            (integer) 5
            1) "a"
            2) "1"
            1) "e"
            2) "5"
            3) "d"
            4) "4"
            (empty array)
            (error) ERR value is out of range, must be positive
            (error) ERR syntax error
            1) "k"
            2) 1) 1) "c"
                  2) "3"
               2) 1) "b"
                  2) "2"
            (nil)
            (integer) 0
            (empty array)
            (error) ERR numkeys should be greater than 0
            (error) ERR count should be greater than 0
            (error) ERR syntax error
            "#,
        );
    }

    #[test]
    fn resp3_has_doubles_and_nested_pairs() {
        let mut harness = Harness::default();
        harness.run("HELLO 3");
        check_with(
            &mut harness,
            r#"
            ZADD k 1.5 a 2 b
            ZSCORE k a
            ZRANGE k 0 -1 WITHSCORES
            ZPOPMIN k
            ZPOPMIN k 5
            "#,
            r#"
            (integer) 2
            1.5
            1) 1) "a"
               2) 1.5
            2) 1) "b"
               2) 2
            1) "a"
            2) 1.5
            1) 1) "b"
               2) 2
            "#,
        );
    }

    #[test]
    fn random_members_and_scans() {
        check(
            r#"
            ZADD k 1 a
            ZRANDMEMBER k
            ZRANDMEMBER k 5 WITHSCORES
            ZRANDMEMBER k -2
            ZRANDMEMBER k 0
            ZRANDMEMBER nosuch
            ZRANDMEMBER nosuch 3
            ZRANDMEMBER k 1 FOO
            ZRANDMEMBER k -9223372036854775807 WITHSCORES
            ZSCAN k 0
            ZSCAN k 0 MATCH b*
            ZSCAN nosuch 0 FOO
            ZSCAN k 0 COUNT 0
            ZSCAN k x
            "#,
            r#"
            (integer) 1
            "a"
            1) "a"
            2) "1"
            1) "a"
            2) "a"
            (empty array)
            (nil)
            (empty array)
            (error) ERR syntax error
            (error) ERR value is out of range
            1) "0"
            2) 1) "a"
               2) "1"
            1) "0"
            2) (empty array)
            1) "0"
            2) (empty array)
            (error) ERR syntax error
            (error) ERR invalid cursor
            "#,
        );
    }
}
