//! Unions, intersections and differences of sorted sets. A plain set counts as a sorted set whose scores are all 1.

use super::store::store;
use super::zset::header;
use crate::keyspace::{Db, Event};
use crate::resp::{Args, Error};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::hash::Map;
use crate::stdx::num;
use crate::types::zset::{Text, order};
use crate::types::{Describe, Kind, Set, Zset};

/// Table entries of the commands that combine sorted sets.
pub const COMMANDS: &[Spec] = &[ZDIFF, ZDIFFSTORE, ZINTER, ZINTERCARD, ZINTERSTORE, ZUNION, ZUNIONSTORE];

/// How sets are combined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// How the scores of one member in several sets are combined.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    #[inline]
    fn join(self, a: f64, b: f64) -> f64 {
        match self {
            // Infinities of opposite sign cancel out.
            Aggregate::Sum => not_nan(a + b),
            Aggregate::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Aggregate::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

/// Replaces NaN, which no set may have as a score, by 0.
#[inline]
fn not_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// A set on which a command works.
#[derive(Clone, Copy)]
enum Source<'a> {
    Zset(&'a Zset),
    Set(&'a Set),
}

/// A set, and the weight of its scores.
#[derive(Clone, Copy)]
struct Input<'a> {
    source: Option<Source<'a>>,
    weight: f64,
}

impl<'a> Input<'a> {
    fn len(&self) -> usize {
        match self.source {
            None => 0,
            Some(Source::Zset(set)) => set.len(),
            Some(Source::Set(set)) => set.len(),
        }
    }

    /// Calls `f` with each member and its weighted score.
    fn each(&self, mut f: impl FnMut(Text<'a>, f64)) {
        match self.source {
            None => {}
            Some(Source::Zset(set)) => set.iter(false).for_each(|pair| f(pair.member.into(), pair.score())),
            Some(Source::Set(set)) => set.iter().for_each(|member| f(member.into(), 1.0)),
        }
    }

    /// Address of the set; 0 if there is none.
    fn address(&self) -> usize {
        match self.source {
            None => 0,
            Some(Source::Zset(set)) => std::ptr::from_ref(set).addr(),
            Some(Source::Set(set)) => std::ptr::from_ref(set).addr(),
        }
    }

    #[inline]
    fn is_same_set(&self, other: &Input<'_>) -> bool {
        self.address() == other.address()
    }

    #[inline]
    fn score(&self, member: &[u8]) -> Option<f64> {
        match self.source? {
            Source::Zset(set) => set.score(member),
            Source::Set(set) => set.contains(member).then_some(1.0),
        }
    }
}

/// The parsed arguments of a command.
struct Request<'a> {
    operation: Operation,
    inputs: Vec<Input<'a>>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Number at which counting an intersection stops; 0 for none.
    limit: usize,
}

/// Which options a command accepts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Answer,
    Store,
    Count,
}

/// Parses the arguments from the number of keys, at `at`, on, and looks the keys up.
fn parse<'d>(
    db: &'d mut Db<'_>,
    args: Args<'_>,
    name: &str,
    at: usize,
    operation: Operation,
    form: Form,
) -> Result<Request<'d>, Error> {
    let keys = args.int(at)?;
    if keys < 1 {
        return Err(Error::text(format!("ERR at least 1 input key is needed for '{name}' command")));
    }
    let first = at + 1;
    let end =
        usize::try_from(keys).ok().and_then(|keys| first.checked_add(keys)).filter(|&end| end <= args.len());
    let end = end.ok_or(Error::Syntax)?;
    // First each lookup takes effect, then all keys are examined together.
    let mut kinds = Vec::with_capacity(end - first);
    for i in first..end {
        let kind = db.read(args.key(i)).map(|entry| entry.kind());
        if !matches!(kind, None | Some(Kind::Zset | Kind::Set)) {
            return Err(Error::WrongType);
        }
        kinds.push(kind);
    }
    let (mut weights, mut limit) = (None, 0);
    let (mut aggregate, mut with_scores) = (Aggregate::Sum, false);
    let (weighted, mut i) = (form != Form::Count && operation != Operation::Diff, end);
    while i < args.len() {
        if weighted && args.is(i, "WEIGHTS") && args.len() - i > kinds.len() {
            for j in 0..kinds.len() {
                num::parse_f64(args.at(i + 1 + j))
                    .ok_or_else(|| Error::text("ERR weight value is not a float"))?;
            }
            weights = Some(i + 1);
            i += kinds.len();
        } else if weighted && args.is(i, "AGGREGATE") && i + 1 < args.len() {
            i += 1;
            aggregate = if args.is(i, "SUM") {
                Aggregate::Sum
            } else if args.is(i, "MIN") {
                Aggregate::Min
            } else if args.is(i, "MAX") {
                Aggregate::Max
            } else {
                return Err(Error::Syntax);
            };
        } else if form == Form::Answer && args.is(i, "WITHSCORES") {
            with_scores = true;
        } else if form == Form::Count && args.is(i, "LIMIT") && i + 1 < args.len() {
            i += 1;
            let given = args.get(i).and_then(num::parse_i64).and_then(|n| usize::try_from(n).ok());
            limit = given.ok_or_else(|| Error::text("ERR LIMIT can't be negative"))?;
        } else {
            return Err(Error::Syntax);
        }
        i += 1;
    }
    let db: &'d Db<'_> = db;
    let inputs = kinds.iter().enumerate().map(|(j, kind)| {
        let key = args.key(first + j);
        let source = match kind {
            Some(Kind::Set) => db.look_as::<Set>(key).map(Source::Set),
            Some(_) => db.look_as::<Zset>(key).map(Source::Zset),
            None => None,
        };
        let weight = weights.and_then(|at| num::parse_f64(args.at(at + j))).unwrap_or(1.0);
        Input { source, weight }
    });
    let mut inputs: Vec<Input<'_>> = inputs.collect();
    if operation != Operation::Diff {
        // The smallest set bounds an intersection. Sums are rounded in this order, too.
        inputs.sort_by_key(Input::len);
    }
    Ok(Request { operation, inputs, aggregate, with_scores, limit })
}

impl<'a> Request<'a> {
    /// Calls `f` with each member of the intersection and its score until `f` returns false.
    fn intersect(&self, mut f: impl FnMut(Text<'a>, f64) -> bool) {
        let (smallest, others) = self.inputs.split_first().expect("there is at least one key");
        let mut go_on = true;
        smallest.each(|member, score| {
            if !go_on {
                return;
            }
            let mut joined = not_nan(smallest.weight * score);
            // A set that is named several times in a row is searched once.
            let (mut searched, mut score) = (smallest, score);
            for other in others {
                if !other.is_same_set(searched) {
                    let Some(found) = other.score(member.as_ref()) else { return };
                    (searched, score) = (other, found);
                }
                joined = self.aggregate.join(joined, other.weight * score);
            }
            go_on = f(member, joined);
        });
    }

    /// Members of the result with their scores, in order.
    fn result(&self) -> Vec<(f64, Text<'a>)> {
        let mut result: Vec<(f64, Text<'a>)> = Vec::new();
        match self.operation {
            Operation::Union => {
                let longest = self.inputs.iter().map(Input::len).max().unwrap_or(0);
                let mut scores: Map<Text<'a>, f64> = Map::with_capacity(longest);
                for input in &self.inputs {
                    input.each(|member, score| {
                        let score = not_nan(input.weight * score);
                        let joined = scores.entry(member);
                        joined.and_modify(|old| *old = self.aggregate.join(*old, score)).or_insert(score);
                    });
                }
                result.extend(scores.into_iter().map(|(member, score)| (score, member)));
            }
            Operation::Inter => self.intersect(|member, score| {
                result.push((score, member));
                true
            }),
            Operation::Diff => {
                let (first, others) = self.inputs.split_first().expect("there is at least one key");
                let mut others: Vec<&Input<'_>> = others.iter().collect();
                others.sort_unstable_by_key(|other| other.address());
                others.dedup_by_key(|other| other.address());
                first.each(|member, score| {
                    if others.iter().all(|other| other.score(member.as_ref()).is_none()) {
                        result.push((score, member));
                    }
                });
            }
        }
        result.sort_unstable_by(|a, b| order((a.0, a.1.as_ref()), (b.0, b.1.as_ref())));
        result
    }
}

/// Replies with the result of an operation.
fn answer(ctx: &mut Ctx<'_>, operation: Operation) -> CmdResult {
    let request = parse(&mut ctx.db, ctx.args, ctx.name, 1, operation, Form::Answer)?;
    let (result, with_scores) = (request.result(), request.with_scores);
    let reply = &mut ctx.reply;
    let replied = header(reply, result.len(), with_scores);
    reply.each(&result, |reply, (score, member)| {
        if with_scores && reply.resp3() {
            reply.array(2);
        }
        reply.bulk(member.as_ref());
        if with_scores {
            reply.double(*score);
        }
    });
    Ok(replied)
}

/// Stores the result of an operation under the key at argument 1.
fn store_result(ctx: &mut Ctx<'_>, operation: Operation) -> CmdResult {
    let limits = &ctx.limits.types;
    let set = {
        let request = parse(&mut ctx.db, ctx.args, ctx.name, 2, operation, Form::Store)?;
        Zset::from_sorted(&request.result(), limits)
    };
    store(ctx, ctx.args.key(1), set, Event::zset(ctx.name))
}

/// `numkeys key [key …]` as the first arguments.
const SOURCES: &[KeySpec] = &[KeySpec::at(1).count(0, 1, 1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))];

/// `destination numkeys key [key …]` as the first arguments.
const DESTINATION_AND_SOURCES: &[KeySpec] = &[
    KeySpec::at(1).flags(KeyFlags::OW.with(KeyFlags::UPDATE)),
    KeySpec::at(2).count(0, 1, 1).flags(KeyFlags::RO.with(KeyFlags::ACCESS)),
];

const WEIGHTS: Arg = Arg::integer("weight").token("WEIGHTS").optional().multiple();

const AGGREGATE: Arg =
    Arg::one_of("aggregate", &[Arg::word("sum", "SUM"), Arg::word("min", "MIN"), Arg::word("max", "MAX")])
        .token("AGGREGATE")
        .optional();

const WITHSCORES: Arg = Arg::word("withscores", "WITHSCORES").optional();

const ZUNION: Spec =
    Spec::data("zunion", -3, zunion).flags(Flags::READONLY).acl(Acl::SORTEDSET).keys(SOURCES).docs(Docs {
        summary: "Answers the members of all sorted sets, their scores combined.",
        since: "6.2.0",
        complexity: "O(N)+O(M*log(M)) for N members in all sets and M in the result.",
        group: Group::SortedSet,
        args: &[Arg::integer("numkeys"), Arg::key("key").multiple(), WEIGHTS, AGGREGATE, WITHSCORES],
        ..Docs::NONE
    });

/// ZUNION numkeys key [key …] [WEIGHTS weight …] [AGGREGATE SUM | MIN | MAX] [WITHSCORES] → members.
fn zunion(ctx: &mut Ctx<'_>) -> CmdResult {
    answer(ctx, Operation::Union)
}

const ZUNIONSTORE: Spec = Spec::data("zunionstore", -4, zunionstore)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::SORTEDSET)
    .keys(DESTINATION_AND_SOURCES)
    .docs(Docs {
        summary: "Stores the members of all sorted sets, their scores combined.",
        since: "2.0.0",
        complexity: "O(N)+O(M*log(M)) for N members in all sets and M in the result.",
        group: Group::SortedSet,
        args: &[
            Arg::key("destination"),
            Arg::integer("numkeys"),
            Arg::key("key").key_spec(1).multiple(),
            WEIGHTS,
            AGGREGATE,
        ],
        ..Docs::NONE
    });

/// ZUNIONSTORE destination numkeys key [key …] [WEIGHTS weight …] [AGGREGATE SUM | MIN | MAX] → number of stored
/// members.
fn zunionstore(ctx: &mut Ctx<'_>) -> CmdResult {
    store_result(ctx, Operation::Union)
}

const ZINTER: Spec =
    Spec::data("zinter", -3, zinter).flags(Flags::READONLY).acl(Acl::SORTEDSET).keys(SOURCES).docs(Docs {
        summary: "Answers the members that all sorted sets have.",
        since: "6.2.0",
        complexity: "O(N*K)+O(M*log(M)) at worst, for K sets, N members in the smallest and M in the result.",
        group: Group::SortedSet,
        args: &[Arg::integer("numkeys"), Arg::key("key").multiple(), WEIGHTS, AGGREGATE, WITHSCORES],
        ..Docs::NONE
    });

/// ZINTER numkeys key [key …] [WEIGHTS weight …] [AGGREGATE SUM | MIN | MAX] [WITHSCORES] → members.
fn zinter(ctx: &mut Ctx<'_>) -> CmdResult {
    answer(ctx, Operation::Inter)
}

const ZINTERSTORE: Spec = Spec::data("zinterstore", -4, zinterstore)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::SORTEDSET)
    .keys(DESTINATION_AND_SOURCES)
    .docs(Docs {
        summary: "Stores the members that all sorted sets have.",
        since: "2.0.0",
        complexity: "O(N*K)+O(M*log(M)) at worst, for K sets, N members in the smallest and M in the result.",
        group: Group::SortedSet,
        args: &[
            Arg::key("destination"),
            Arg::integer("numkeys"),
            Arg::key("key").key_spec(1).multiple(),
            WEIGHTS,
            AGGREGATE,
        ],
        ..Docs::NONE
    });

/// ZINTERSTORE destination numkeys key [key …] [WEIGHTS weight …] [AGGREGATE SUM | MIN | MAX] → number of stored
/// members.
fn zinterstore(ctx: &mut Ctx<'_>) -> CmdResult {
    store_result(ctx, Operation::Inter)
}

const ZDIFF: Spec = Spec::data("zdiff", -3, zdiff)
    .flags(Flags::READONLY)
    .acl(Acl::SORTEDSET)
    .keys(SOURCES)
    .docs(Docs {
        summary: "Answers the members of the first sorted set that no other one has.",
        since: "6.2.0",
        complexity: "O(L + (N-K)log(N)) at worst, for L members in all sets, N in the first and K in the result.",
        group: Group::SortedSet,
        args: &[
            Arg::integer("numkeys"),
            Arg::key("key").multiple(),
            WITHSCORES,
        ],
        ..Docs::NONE
    });

/// ZDIFF numkeys key [key …] [WITHSCORES] → members.
fn zdiff(ctx: &mut Ctx<'_>) -> CmdResult {
    answer(ctx, Operation::Diff)
}

const ZDIFFSTORE: Spec = Spec::data("zdiffstore", -4, zdiffstore)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::SORTEDSET)
    .keys(DESTINATION_AND_SOURCES)
    .docs(Docs {
        summary: "Stores the members of the first sorted set that no other one has.",
        since: "6.2.0",
        complexity: "O(L + (N-K)log(N)) at worst, for L members in all sets, N in the first and K in the result.",
        group: Group::SortedSet,
        args: &[
            Arg::key("destination"),
            Arg::integer("numkeys"),
            Arg::key("key").key_spec(1).multiple(),
        ],
        ..Docs::NONE
    });

/// ZDIFFSTORE destination numkeys key [key …] → number of stored members.
fn zdiffstore(ctx: &mut Ctx<'_>) -> CmdResult {
    store_result(ctx, Operation::Diff)
}

const ZINTERCARD: Spec =
    Spec::data("zintercard", -3, zintercard).flags(Flags::READONLY).acl(Acl::SORTEDSET).keys(SOURCES).docs(
        Docs {
            summary: "Counts the members that all sorted sets have.",
            since: "7.0.0",
            complexity: "O(N*K) at worst, for K sets and N members in the smallest.",
            group: Group::SortedSet,
            args: &[
                Arg::integer("numkeys"),
                Arg::key("key").multiple(),
                Arg::integer("limit").token("LIMIT").optional(),
            ],
            ..Docs::NONE
        },
    );

/// ZINTERCARD numkeys key [key …] [LIMIT limit] → number of members, at most `limit`.
fn zintercard(ctx: &mut Ctx<'_>) -> CmdResult {
    let n = {
        let request = parse(&mut ctx.db, ctx.args, ctx.name, 1, Operation::Inter, Form::Count)?;
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let mut n = 0;
        request.intersect(|_, _| {
            n += 1;
            n < limit
        });
        n
    };
    Ok(ctx.reply.int(n as i64))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check, check_with};
    use crate::stdx::hash::Key;
    use crate::stdx::rng::Rng;
    use crate::types::{Limits, Set};

    #[test]
    fn scores_are_weighted_and_aggregated() {
        check(
            r#"
            ZADD a 1 x 2 y
            ZADD b 10 y 20 z
            ZUNION 2 a b WITHSCORES
            ZUNIONSTORE d 2 a b WEIGHTS 2 1 AGGREGATE MAX
            ZRANGE d 0 -1 WITHSCORES
            ZINTER 2 a b WITHSCORES
            ZINTER 3 a b nosuch
            ZINTERCARD 2 a b LIMIT 5
            ZDIFF 2 a b WITHSCORES
            ZDIFFSTORE d 2 a a
            EXISTS d
            ZADD i inf x
            ZADD j -inf x
            ZUNION 2 i j WITHSCORES
            ZUNION 1 i WEIGHTS 0 WITHSCORES
            ZUNION 0 a
            ZUNION 2 a
            ZUNION 1 a WEIGHTS x
            ZINTERCARD 1 a LIMIT -1
            ZDIFF 1 a WEIGHTS 1
            SET s x
            ZUNION 1 s FOO
            "#,
            r#"
            (integer) 2
            (integer) 2
            1) "x"
            2) "1"
            3) "y"
            4) "12"
            5) "z"
            6) "20"
            (integer) 3
            1) "x"
            2) "2"
            3) "y"
            4) "10"
            5) "z"
            6) "20"
            1) "y"
            2) "12"
            (empty array)
            (integer) 1
            1) "x"
            2) "1"
            (integer) 0
            (integer) 0
            (integer) 1
            (integer) 1
            1) "x"
            2) "0"
            1) "x"
            2) "0"
            (error) ERR at least 1 input key is needed for 'zunion' command
            (error) ERR syntax error
            (error) ERR weight value is not a float
            (error) ERR LIMIT can't be negative
            (error) ERR syntax error
            OK
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            "#,
        );
    }

    #[test]
    fn a_plain_set_has_scores_of_one() {
        let mut harness = Harness::default();
        let mut set = Set::new();
        for member in ["1", "2", "x"] {
            set.add(member.as_bytes(), &Limits::default());
        }
        harness.server.keyspace.db(0).set_collection(Key::new(b"s"), set, None);
        check_with(
            &mut harness,
            r#"
            ZADD z 5 x 5 y
            ZUNION 2 s z WEIGHTS 2 1 WITHSCORES
            ZINTER 2 z s WITHSCORES
            ZDIFF 2 s z WITHSCORES
            ZINTERCARD 2 s s
            ZUNIONSTORE s 1 s
            TYPE s
            "#,
            r#"
            (integer) 2
            1) "1"
            2) "2"
            3) "2"
            4) "2"
            5) "y"
            6) "5"
            7) "x"
            8) "7"
            1) "x"
            2) "6"
            1) "1"
            2) "1"
            3) "2"
            4) "1"
            (integer) 3
            (integer) 3
            zset
            "#,
        );
    }

    /// Two sets with many common members, in all combinations of encodings.
    fn pairs_of_sets(mut law: impl FnMut(&mut Harness)) {
        for (first, second) in [(40, 40), (40, 400), (400, 40), (400, 400)] {
            let mut harness = Harness::default();
            let mut rng = Rng::new(first * 1000 + second);
            for (key, n) in [("a", first), ("b", second)] {
                for _ in 0..n {
                    harness.run(&format!("ZADD {key} {} m{}", rng.below(20), rng.below(300)));
                }
            }
            law(&mut harness);
        }
    }

    #[test]
    fn union_and_intersection_commute() {
        pairs_of_sets(|harness| {
            for operation in ["ZUNION", "ZINTER"] {
                for aggregate in ["SUM", "MIN", "MAX"] {
                    let mut run =
                        |keys| harness.run(&format!("{operation} 2 {keys} AGGREGATE {aggregate} WITHSCORES"));
                    assert_eq!(run("a b"), run("b a"));
                }
            }
        });
    }

    #[test]
    fn difference_and_intersection_partition_a_set() {
        pairs_of_sets(|harness| {
            harness.run("ZDIFFSTORE d 2 a b");
            harness.run("ZINTERSTORE i 2 a b WEIGHTS 1 0");
            assert_eq!(harness.run("ZUNION 2 d i WITHSCORES"), harness.run("ZRANGE a 0 -1 WITHSCORES"));
            assert_eq!(harness.run("ZINTERCARD 2 a b"), harness.run("ZCARD i"));
            assert_eq!(harness.run("ZINTERCARD 2 d i"), "(integer) 0");
        });
    }
}
