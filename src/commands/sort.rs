//! SORT: the elements of a list, set or sorted set, sorted by numbers or texts, which may be the values of other
//! keys.
//!
//! The elements are first copied into one block, because looking up other keys needs the whole keyspace, of which
//! nothing can stay borrowed. Invariants:
//!
//! - The sort is stable, although its parts are unstable: the last criterion is the element's position in the
//!   block, which is the order of reading.
//! - With `LIMIT`, only the window is sorted, after a selection in linear time.

use std::cmp::Ordering;
use std::ops::Range;

use crate::keyspace::slot::{Slot, pattern_slot};
use crate::keyspace::{Db, Event, Key};
use crate::resp::{Args, Error};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::server::execution::call::WINDOW;
use crate::stdx::num;
use crate::structures::listpack::Item;
use crate::types::list::End;
use crate::types::{Describe, Hash, List, Set, Zset};

/// Table entries of the SORT commands.
pub const COMMANDS: &[Spec] = &[SORT, SORT_RO];

const SORT: Spec = Spec::data("sort", -2, sort)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::SET.with(Acl::SORTEDSET).with(Acl::LIST).with(Acl::DANGEROUS))
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS)),
        KeySpec::unknown().flags(KeyFlags::RO.with(KeyFlags::ACCESS)).notes(
            "What BY and GET look up: the names of these keys are made from the elements, and so cannot be known beforehand",
        ),
        KeySpec::unknown()
            .flags(KeyFlags::OW.with(KeyFlags::UPDATE))
            .notes("The destination after STORE: the word may stand anywhere, and the last one counts"),
    ])
    .find_keys(sort_keys)
    .docs(Docs {
        summary: "Answers the elements of a list, set or sorted set in order, or stores them as a list.",
        since: "1.0.0",
        complexity: "O(N+M*log(M)) for N elements, M of which are answered; O(N) with a constant BY.",
        group: Group::Generic,
        args: &[
            Arg::key("key"),
            Arg::pattern("by-pattern").token("BY").display("pattern").optional(),
            Arg::block("limit", &[Arg::integer("offset"), Arg::integer("count")]).token("LIMIT").optional(),
            Arg::pattern("get-pattern").token("GET").display("pattern").optional().multiple().multiple_token(),
            Arg::one_of("order", &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")]).optional(),
            Arg::word("sorting", "ALPHA").optional(),
            Arg::key("destination").key_spec(2).token("STORE").optional(),
        ],
        ..Docs::NONE
    });

/// SORT key [BY pattern] [LIMIT offset count] [GET pattern …] [ASC|DESC] [ALPHA] [STORE destination] → sorted
/// elements, or number of stored elements.
fn sort(ctx: &mut Ctx<'_>) -> CmdResult {
    let options = SortOptions::parse(ctx.args, true, reach(ctx))?;
    run(ctx, &options)
}

const SORT_RO: Spec = Spec::data("sort_ro", -2, sort_ro)
    .flags(Flags::READONLY)
    .acl(Acl::SET.with(Acl::SORTEDSET).with(Acl::LIST).with(Acl::DANGEROUS))
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS)),
        KeySpec::unknown().flags(KeyFlags::RO.with(KeyFlags::ACCESS)).notes(
            "What BY and GET look up: the names of these keys are made from the elements, and so cannot be known beforehand",
        ),
    ])
    .find_keys(sort_ro_keys)
    .docs(Docs {
        summary: "Answers the elements of a list, set or sorted set in order.",
        since: "7.0.0",
        complexity: "O(N+M*log(M)) for N elements, M of which are answered; O(N) with a constant BY.",
        group: Group::Generic,
        args: &[
            Arg::key("key"),
            Arg::pattern("by-pattern").token("BY").display("pattern").optional(),
            Arg::block("limit", &[Arg::integer("offset"), Arg::integer("count")]).token("LIMIT").optional(),
            Arg::pattern("get-pattern").token("GET").display("pattern").optional().multiple().multiple_token(),
            Arg::one_of("order", &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")]).optional(),
            Arg::word("sorting", "ALPHA").optional(),
        ],
        ..Docs::NONE
    });

/// SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern …] [ASC|DESC] [ALPHA] → sorted elements.
fn sort_ro(ctx: &mut Ctx<'_>) -> CmdResult {
    let options = SortOptions::parse(ctx.args, false, reach(ctx))?;
    run(ctx, &options)
}

/// The keys of SORT that the request names: the sorted one, and the last destination.
fn sort_keys(args: &Args<'_>, found: &mut dyn FnMut(usize, KeyFlags)) -> bool {
    found(1, KeyFlags::RO.with(KeyFlags::ACCESS));
    let mut destination = None;
    let mut i = 2;
    while i < args.len() {
        if args.is(i, "limit") {
            i += 2;
        } else if args.is(i, "get") || args.is(i, "by") {
            i += 1;
        } else if args.is(i, "store") && i + 1 < args.len() {
            i += 1;
            destination = Some(i);
        }
        i += 1;
    }
    if let Some(i) = destination {
        found(i, KeyFlags::OW.with(KeyFlags::UPDATE));
    }
    true
}

/// The key of SORT_RO that the request names.
fn sort_ro_keys(_: &Args<'_>, found: &mut dyn FnMut(usize, KeyFlags)) -> bool {
    found(1, KeyFlags::RO.with(KeyFlags::ACCESS));
    true
}

// ---- the request ---------------------------------------------------------------------------------

/// The part of `text` before the first NUL.
fn up_to_nul(text: &[u8]) -> &[u8] {
    memchr::memchr(0, text).map_or(text, |end| &text[..end])
}

/// What an element is replaced by.
#[derive(Clone, Copy)]
enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// A pattern without `*` for the element: nothing.
    Nothing,
    /// The string at the key between `prefix` and `suffix`, or a field of the hash at that key.
    Lookup { prefix: &'a [u8], suffix: &'a [u8], field: Option<&'a [u8]> },
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a [u8]) -> Pattern<'a> {
        if text == b"#" {
            return Pattern::Element;
        }
        let Some(star) = memchr::memchr(b'*', up_to_nul(text)) else { return Pattern::Nothing };
        let (prefix, rest) = (&text[..star], &text[star + 1..]);
        let arrow = up_to_nul(rest).windows(2).position(|two| two == b"->");
        match arrow {
            // An arrow at the very end names no field and belongs to the key.
            Some(at) if up_to_nul(&rest[at + 2..]) != b"" => {
                Pattern::Lookup { prefix, suffix: &rest[..at], field: Some(&rest[at + 2..]) }
            }
            _ => Pattern::Lookup { prefix, suffix: rest, field: None },
        }
    }
}

struct SortOptions<'a> {
    /// Pattern of the weights; without it, the elements are their own weights.
    by: Option<Pattern<'a>>,
    /// Whether to sort at all: `BY` with a pattern without `*` disables sorting.
    ordered: bool,
    alpha: bool,
    descending: bool,
    /// Number of elements to skip, and number of elements in the reply (all if negative).
    offset: i64,
    count: i64,
    get: Vec<Pattern<'a>>,
    store: Option<Key<'a>>,
}

/// Which keys may be read that only the elements name.
#[derive(Clone, Copy)]
struct Reach {
    /// All, whatever their names.
    every_name: bool,
    /// In a cluster: those of the slot that the sorted key is in.
    slot: Option<Slot>,
}

fn reach(ctx: &Ctx<'_>) -> Reach {
    let slot = ctx.db.database().keys().is_by_slot().then(|| Slot::of(ctx.args.at(1)));
    Reach { every_name: ctx.reads_every_key(), slot }
}

impl Reach {
    /// Checks the pattern of an option.
    ///
    /// # Errors
    /// Keys that it names may not be read.
    fn check(self, option: &str, pattern: &[u8]) -> Result<(), Error> {
        if self.slot.is_some() && self.slot != pattern_slot(pattern) {
            return Err(Error::text(format!(
                "ERR {option} option of SORT denied in Cluster mode when keys formed by the pattern may be in \
                 different slots."
            )));
        }
        if !self.every_name {
            return Err(Error::text(format!(
                "ERR {option} option of SORT denied due to insufficient ACL permissions."
            )));
        }
        Ok(())
    }
}

impl<'a> SortOptions<'a> {
    /// Parses the options. `reach` says which keys may be read that only the elements name.
    fn parse(args: Args<'a>, may_store: bool, reach: Reach) -> Result<SortOptions<'a>, Error> {
        let mut options = SortOptions {
            by: None,
            ordered: true,
            alpha: false,
            descending: false,
            offset: 0,
            count: -1,
            get: Vec::new(),
            store: None,
        };
        let mut i = 2;
        while i < args.len() {
            let left = args.len() - i - 1;
            if args.is(i, "asc") {
                options.descending = false;
            } else if args.is(i, "desc") {
                options.descending = true;
            } else if args.is(i, "alpha") {
                options.alpha = true;
            } else if args.is(i, "limit") && left >= 2 {
                options.offset = args.int(i + 1)?;
                options.count = args.int(i + 2)?;
                i += 2;
            } else if args.is(i, "store") && left >= 1 && may_store {
                options.store = Some(args.key(i + 1));
                i += 1;
            } else if args.is(i, "by") && left >= 1 {
                let pattern = Pattern::parse(args.at(i + 1));
                if memchr::memchr(b'*', up_to_nul(args.at(i + 1))).is_some() {
                    reach.check("BY", args.at(i + 1))?;
                }
                options.ordered &= memchr::memchr(b'*', up_to_nul(args.at(i + 1))).is_some();
                options.by = Some(pattern);
                i += 1;
            } else if args.is(i, "get") && left >= 1 {
                if args.at(i + 1) != b"#" || !reach.every_name {
                    reach.check("GET", args.at(i + 1))?;
                }
                options.get.push(Pattern::parse(args.at(i + 1)));
                i += 1;
            } else {
                return Err(Error::Syntax);
            }
            i += 1;
        }
        Ok(options)
    }

    /// Indices of the wanted elements among `len`.
    fn window(&self, len: usize) -> Range<usize> {
        let clip = |n: i64| usize::try_from(n).unwrap_or(0).min(len);
        let start = clip(self.offset);
        let count = if self.count < 0 { len } else { clip(self.count) };
        start..start.saturating_add(count).min(len)
    }
}

// ---- the elements --------------------------------------------------------------------------------

/// Texts concatenated in one block, each followed by a NUL that is not part of it, so that no two texts begin at
/// the same offset, not even empty ones.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
}

/// Position of a text in its [`Texts`].
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    len: usize,
}

impl Texts {
    fn push(&mut self, text: &[u8]) -> Span {
        let span = Span { start: self.bytes.len(), len: text.len() };
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        span
    }

    fn push_item(&mut self, item: Item<'_>) -> Span {
        self.push(item.text(&mut itoa::Buffer::new()))
    }

    #[inline]
    fn get(&self, span: Span) -> &[u8] {
        &self.bytes[span.start..span.start + span.len]
    }
}

/// Parses a number as C's `strtod` does: an empty text is zero, leading white space is skipped. `None` if the text
/// is not a number, or is out of range for a double; a subnormal number is in range.
fn weight(text: &[u8]) -> Option<f64> {
    let text = up_to_nul(text);
    if text.is_empty() {
        return Some(0.0);
    }
    let start = text.iter().position(|&b| !matches!(b, b' ' | b'\t'..=b'\r'))?;
    num::parse_f64(&text[start..])
}

/// Calls `each` with the replacement of each element until `each` returns false.
///
/// A window of keys is prefetched before the first of them is looked up.
fn look_up<'a>(
    db: &mut Db<'_>,
    mut wanted: impl Iterator<Item = (Pattern<'a>, &'a [u8])>,
    mut each: impl FnMut(Option<&[u8]>) -> bool,
) {
    let mut names = Vec::new();
    let mut window = Vec::with_capacity(WINDOW);
    loop {
        names.clear();
        window.clear();
        for (pattern, element) in wanted.by_ref().take(WINDOW) {
            let start = names.len();
            if let Pattern::Lookup { prefix, suffix, .. } = pattern {
                names.extend_from_slice(prefix);
                names.extend_from_slice(element);
                names.extend_from_slice(suffix);
            }
            window.push((pattern, element, start..names.len()));
        }
        if window.is_empty() {
            return;
        }
        let mut keys = [Key::NONE; WINDOW];
        for (key, (pattern, _, name)) in keys.iter_mut().zip(&window) {
            if let Pattern::Lookup { .. } = pattern {
                *key = Key::new(&names[name.clone()]);
            }
        }
        let now = db.due_by();
        db.prefetch(&mut keys[..window.len()]);
        for (&key, &(pattern, element, _)) in keys.iter().zip(&window) {
            let go_on = match pattern {
                Pattern::Element => each(Some(element)),
                Pattern::Nothing => each(None),
                Pattern::Lookup { field: None, .. } => match db.read_string(key) {
                    Ok(Some(string)) => each(Some(string.text(&mut itoa::Buffer::new()))),
                    _ => each(None),
                },
                Pattern::Lookup { field: Some(field), .. } => match db.read_as::<Hash>(key) {
                    Ok(Some(hash)) => each(
                        hash.get(field, now)
                            .map(|item| item.text(&mut itoa::Buffer::new()).to_vec())
                            .as_deref(),
                    ),
                    _ => each(None),
                },
            };
            if !go_on {
                return;
            }
        }
    }
}

/// The rows in `window` after sorting all rows by `compare`, which finds no two equal.
fn arrange<T>(mut rows: Vec<T>, window: Range<usize>, compare: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if window.is_empty() {
        return Vec::new();
    }
    if window.end < rows.len() {
        rows.select_nth_unstable_by(window.end, &compare);
        rows.truncate(window.end);
    }
    if window.start > 0 {
        rows.select_nth_unstable_by(window.start, &compare);
        rows.drain(..window.start);
    }
    rows.sort_unstable_by(&compare);
    rows
}

/// The elements of a value, and the work that remains.
struct Elements {
    texts: Texts,
    rows: Vec<Span>,
    /// Window of rows to select after sorting; `None` if the rows are already the result.
    window: Option<Range<usize>>,
    /// Whether to sort by the elements themselves, whatever the options say.
    by_text: bool,
}

/// Reads the elements of the value to sort; none if the key is missing.
fn read_elements(ctx: &mut Ctx<'_>, options: &SortOptions<'_>) -> Result<Elements, Error> {
    let mut found = Elements { texts: Texts::default(), rows: Vec::new(), window: None, by_text: false };
    let from_script = ctx.from_script;
    let Some(entry) = ctx.db.read(ctx.args.key(1)) else { return Ok(found) };
    let Elements { texts, rows, window, by_text } = &mut found;
    // An unsorted result has the order of the value, or its reverse, and only the window is visited.
    let choose = |len: usize| {
        let window = options.window(len);
        if options.ordered { (0, len, Some(window)) } else { (window.start, window.len(), None) }
    };
    if let Some(list) = entry.collection::<List>() {
        let (start, count, wanted) = choose(list.len());
        let (end, first) = match !options.ordered && options.descending {
            true => (End::Tail, -(start as i64) - 1),
            false => (End::Head, start as i64),
        };
        rows.reserve(count);
        list.visit(first, end, count, |item| rows.push(texts.push_item(item)));
        *window = wanted;
    } else if let Some(zset) = entry.collection::<Zset>() {
        let (start, count, wanted) = choose(zset.len());
        let pairs = zset.from_rank(start, !options.ordered && options.descending);
        rows.reserve(count);
        rows.extend(pairs.take(count).map(|pair| texts.push_item(pair.member)));
        *window = wanted;
    } else if let Some(set) = entry.collection::<Set>() {
        // A stored result must be the same on every replica, where the set may have another order. So must what a script
        // goes by.
        *by_text = !options.ordered && (options.store.is_some() || from_script);
        let wanted = options.window(set.len());
        rows.reserve(set.len());
        rows.extend(set.iter().map(|item| texts.push_item(item)));
        if options.ordered || *by_text {
            *window = Some(wanted);
        } else {
            rows.truncate(wanted.end);
            rows.drain(..wanted.start);
        }
    } else {
        return Err(Error::WrongType);
    }
    Ok(found)
}

/// The rows in `window`, in the order given by `options`.
fn in_order(
    db: &mut Db<'_>,
    options: &SortOptions<'_>,
    texts: &Texts,
    rows: Vec<Span>,
    window: Range<usize>,
    by_text: bool,
) -> Result<Vec<Span>, Error> {
    let signed = |order: Ordering| if options.descending { order.reverse() } else { order };
    let earlier = |a: Span, b: Span| a.start.cmp(&b.start);
    // A stored result is compared by bytes, to be the same everywhere; a reply by the locale.
    let compare = |a: &[u8], b: &[u8]| {
        if options.store.is_some() { a.cmp(b) } else { up_to_nul(a).cmp(up_to_nul(b)) }
    };
    let by = if by_text { None } else { options.by };
    if options.alpha || by_text {
        let Some(pattern) = by else {
            return Ok(arrange(rows, window, |&a, &b| {
                signed(compare(texts.get(a), texts.get(b))).then_with(|| earlier(a, b))
            }));
        };
        let mut weights = Texts::default();
        let mut spans = Vec::with_capacity(rows.len());
        look_up(db, rows.iter().map(|&row| (pattern, texts.get(row))), |text| {
            spans.push(text.map(|text| weights.push(text)));
            true
        });
        let weighted = arrange(spans.into_iter().zip(rows).collect(), window, |&(x, a), &(y, b)| {
            let order = match (x, y) {
                (Some(x), Some(y)) => compare(weights.get(x), weights.get(y)),
                // Elements without a weight come first.
                (x, y) => x.is_some().cmp(&y.is_some()),
            };
            signed(order).then_with(|| earlier(a, b))
        });
        return Ok(weighted.into_iter().map(|(_, row)| row).collect());
    }
    let mut weights = Vec::with_capacity(rows.len());
    let pattern = by.unwrap_or(Pattern::Element);
    look_up(db, rows.iter().map(|&row| (pattern, texts.get(row))), |text| {
        // A missing weight is 0.
        let number = text.map_or(Some(0.0), weight);
        weights.extend(number);
        number.is_some()
    });
    if weights.len() < rows.len() {
        return Err(Error::text("ERR One or more scores can't be converted into double"));
    }
    let weighted = arrange(weights.into_iter().zip(rows).collect(), window, |&(x, a), &(y, b)| {
        let order: Ordering = f64::partial_cmp(&x, &y).expect("no weight is NaN");
        signed(order.then_with(|| texts.get(a).cmp(texts.get(b)))).then_with(|| earlier(a, b))
    });
    Ok(weighted.into_iter().map(|(_, row)| row).collect())
}

fn run(ctx: &mut Ctx<'_>, options: &SortOptions<'_>) -> CmdResult {
    let Elements { texts, mut rows, window, by_text } = read_elements(ctx, options)?;
    if let Some(window) = window {
        rows = in_order(&mut ctx.db, options, &texts, rows, window, by_text)?;
    }
    let gets: &[Pattern<'_>] = if options.get.is_empty() { &[Pattern::Element] } else { &options.get };
    let wanted = rows.iter().flat_map(|&row| gets.iter().map(move |&pattern| (pattern, row)));
    let wanted = wanted.map(|(pattern, row)| (pattern, texts.get(row)));
    let count = rows.len() * gets.len();
    let Some(destination) = options.store else {
        let Ctx { db, reply, .. } = ctx;
        let replied = reply.array(count);
        look_up(db, wanted, |text| {
            reply.bulk_or_null(text);
            !reply.is_dropping()
        });
        return Ok(replied);
    };
    if count == 0 {
        let lazily = ctx.db.space().lazy.server_del;
        if ctx.db.remove(destination, lazily) {
            ctx.db.changed(destination, Event::generic("del"), 1);
        }
        return Ok(ctx.reply.int(0));
    }
    let mut list = List::new();
    let limits = &ctx.limits.types;
    look_up(&mut ctx.db, wanted, |text| {
        let text = text.unwrap_or_default();
        list.prepare(1, text.len(), limits);
        list.push(End::Tail, text);
        true
    });
    ctx.db.set_collection(destination, list, None);
    ctx.db.changed(destination, Event::list("sortstore"), count);
    Ok(ctx.reply.int(count as i64))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::check;

    #[test]
    fn numbers_texts_and_windows() {
        check(
            "RPUSH l 3 10 2 1.5 -1
            SORT l
            SORT l DESC
            SORT l ALPHA
            SORT l LIMIT 1 2
            SORT l LIMIT -5 2
            SORT l LIMIT 2 9223372036854775807
            SORT l LIMIT 9223372036854775807 9223372036854775807
            SORT l BY nosort DESC LIMIT 1 2
            SORT l LIMIT x 1
            SORT l LIMIT 1
            SORT l STORE",
            "(integer) 5
            1) \"-1\"
            2) \"1.5\"
            3) \"2\"
            4) \"3\"
            5) \"10\"
            1) \"10\"
            2) \"3\"
            3) \"2\"
            4) \"1.5\"
            5) \"-1\"
            1) \"-1\"
            2) \"1.5\"
            3) \"10\"
            4) \"2\"
            5) \"3\"
            1) \"1.5\"
            2) \"2\"
            1) \"-1\"
            2) \"1.5\"
            1) \"2\"
            2) \"3\"
            3) \"10\"
            (empty array)
            1) \"1.5\"
            2) \"2\"
            (error) ERR value is not an integer or out of range
            (error) ERR syntax error
            (error) ERR syntax error",
        );
    }

    #[test]
    fn weights_and_values_from_other_keys() {
        check(
            "RPUSH l a b c d
            MSET w_a 3 w_b 1 w_c 2
            HSET h_a f 1 g x
            HSET h_c f 2
            SORT l BY w_*
            SORT l BY h_*->f DESC GET # GET h_*->g GET w_* GET const
            SORT l BY w_* ALPHA
            SET w_d x
            SORT l BY w_*
            SORT l BY h_*
            SORT l",
            "(integer) 4
            OK
            (integer) 2
            (integer) 1
            1) \"d\"
            2) \"b\"
            3) \"c\"
            4) \"a\"
             1) \"c\"
             2) (nil)
             3) \"2\"
             4) (nil)
             5) \"a\"
             6) \"x\"
             7) \"3\"
             8) (nil)
             9) \"d\"
            10) (nil)
            11) (nil)
            12) (nil)
            13) \"b\"
            14) (nil)
            15) \"1\"
            16) (nil)
            1) \"d\"
            2) \"b\"
            3) \"c\"
            4) \"a\"
            OK
            (error) ERR One or more scores can't be converted into double
            1) \"a\"
            2) \"b\"
            3) \"c\"
            4) \"d\"
            (error) ERR One or more scores can't be converted into double",
        );
    }

    #[test]
    fn what_is_stored() {
        check(
            "SADD s c b a
            SORT s BY nosort STORE l
            LRANGE l 0 -1
            SORT s BY nosort LIMIT 9 1 STORE l
            EXISTS l
            ZADD z 1 x 2 y 3 z
            SORT z BY nosort DESC LIMIT 0 2 GET # GET none_* STORE z
            LRANGE z 0 -1
            SORT none STORE z
            EXISTS z
            SET str 1
            SORT str
            SORT_RO s ALPHA LIMIT 0 1
            SORT_RO s ALPHA STORE l",
            "(integer) 3
            (integer) 3
            1) \"a\"
            2) \"b\"
            3) \"c\"
            (integer) 0
            (integer) 0
            (integer) 3
            (integer) 4
            1) \"z\"
            2) \"\"
            3) \"y\"
            4) \"\"
            (integer) 0
            (integer) 0
            OK
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            1) \"a\"
            (error) ERR syntax error",
        );
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        let cases: &[(&[u8], Option<f64>)] = &[
            (b"", Some(0.0)),
            (b"\x001", Some(0.0)),
            (b" \t\x0b5", Some(5.0)),
            (b"5\0x", Some(5.0)),
            (b" ", None),
            (b"5 ", None),
            (b"nan", None),
            (b"-inf", Some(f64::NEG_INFINITY)),
            (b"0x10", Some(16.0)),
            (b"1e999", None),
            (b"1e-310", Some(1e-310)),
        ];
        for (text, expected) in cases {
            assert_eq!(super::weight(text), *expected, "{}", text.escape_ascii());
        }
    }
}
