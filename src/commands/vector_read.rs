//! Vector sets: what is known about the set and about its elements.

use std::ops::Bound;

use crate::resp::{Error, Reply};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::num;
use crate::stdx::rng::Rng;
use crate::types::vector_set::{ElementRef, Quantization};
use crate::types::{Describe, VectorSet};

/// Table entries of the commands that read.
pub const COMMANDS: &[Spec] = &[VCARD, VDIM, VEMB, VGETATTR, VINFO, VISMEMBER, VLINKS, VRANDMEMBER, VRANGE];

const READ_KEY: &[KeySpec] = &[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))];

/// The entry of a command that reads, with these arguments behind the key.
const fn reader(
    name: &'static str,
    arity: i16,
    handler: fn(&mut Ctx<'_>) -> CmdResult,
    summary: &'static str,
    complexity: &'static str,
    args: &'static [Arg],
) -> Spec {
    Spec::data(name, arity, handler)
        .flags(Flags::READONLY.with(Flags::FAST))
        .acl(Acl::NONE)
        .keys(READ_KEY)
        .docs(Docs { summary, since: "8.0.0", complexity, group: Group::VectorSet, args, ..Docs::NONE })
}

const KEY: &[Arg] = &[Arg::key("key")];
const KEY_ELEMENT: &[Arg] = &[Arg::key("key"), Arg::string("element")];
const LOGARITHMIC: &str = "O(log(N)) for N elements.";

const VCARD: Spec = reader("vcard", 2, vcard, "Counts the elements of a vector set.", "O(1)", KEY);

/// VCARD key → number of elements.
fn vcard(ctx: &mut Ctx<'_>) -> CmdResult {
    let len = ctx.db.read_as::<VectorSet>(ctx.args.key(1))?.map_or(0, Describe::len);
    Ok(ctx.reply.int(len as i64))
}

const VDIM: Spec = reader("vdim", 2, vdim, "Tells how many components stored vectors have.", "O(1)", KEY);

/// VDIM key → number of components, after a projection.
fn vdim(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.db.read_as::<VectorSet>(ctx.args.key(1))?;
    let set = set.ok_or_else(|| Error::text("ERR key does not exist"))?;
    Ok(ctx.reply.int(set.dim() as i64))
}

const VEMB: Spec = reader(
    "vemb",
    -3,
    vemb,
    "Gives the vector of an element.",
    "O(N) for N components.",
    &[Arg::key("key"), Arg::string("element"), Arg::word("raw", "RAW").optional()],
);

/// Name of a quantization in replies.
fn name_of(how: Quantization) -> &'static str {
    match how {
        Quantization::Full => "f32",
        Quantization::Bytes => "int8",
        Quantization::Signs => "bin",
    }
}

/// VEMB key element → the components, as far as they can be told from what is stored, or null.
/// VEMB key element RAW → name of the quantization, the stored bytes, the vector's length, and with bytes the range.
fn vemb(ctx: &mut Ctx<'_>) -> CmdResult {
    let raw = ctx.args.len() > 3;
    if raw && !(ctx.args.len() == 4 && ctx.args.is(3, "RAW")) {
        return Err(Error::text("ERR invalid option"));
    }
    let set = ctx.db.read_as::<VectorSet>(ctx.args.key(1))?;
    let Some((how, element)) = set.and_then(|set| Some((set.quantization(), set.get(ctx.args.at(2))?)))
    else {
        return Ok(ctx.reply.null());
    };
    let (code, reply) = (element.code(), &mut ctx.reply);
    if !raw {
        let vector = code.decode();
        let replied = reply.array(vector.len());
        vector.iter().for_each(|&x| _ = reply.double(x.into()));
        return Ok(replied);
    }
    let replied = reply.array(3 + usize::from(code.range().is_some()));
    reply.simple(name_of(how));
    let mut bytes = Vec::new();
    code.write_bytes(&mut bytes);
    reply.bulk(&bytes);
    reply.double(code.norm().into());
    if let Some(range) = code.range() {
        reply.double(range.into());
    }
    Ok(replied)
}

const VGETATTR: Spec =
    reader("vgetattr", 3, vgetattr, "Gives the attributes of an element.", LOGARITHMIC, KEY_ELEMENT);

/// VGETATTR key element → the attributes, or null.
fn vgetattr(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.db.read_as::<VectorSet>(ctx.args.key(1))?;
    let element = set.and_then(|set| set.get(ctx.args.at(2)));
    Ok(ctx.reply.bulk_or_null(element.and_then(ElementRef::attributes)))
}

const VINFO: Spec = reader("vinfo", 2, vinfo, "Describes a vector set and its graph.", "O(1)", KEY);

/// VINFO key → pairs of names and values, or null.
fn vinfo(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.db.read_as::<VectorSet>(ctx.args.key(1))?;
    let reply = &mut ctx.reply;
    let Some(set) = set else { return Ok(reply.null_array()) };
    let numbers = [
        ("hnsw-m", set.links() as i64),
        ("vector-dim", set.dim() as i64),
        ("projection-input-dim", set.projection().map_or(0, |projection| projection.input() as i64)),
        ("size", set.len() as i64),
        ("max-level", set.max_level() as i64),
        ("attributes-count", set.with_attributes() as i64),
        ("vset-uid", set.uid() as i64),
        ("hnsw-max-node-uid", set.last_id() as i64),
    ];
    let replied = reply.map(1 + numbers.len());
    reply.simple("quant-type");
    reply.simple(name_of(set.quantization()));
    for (name, number) in numbers {
        reply.simple(name);
        reply.int(number);
    }
    Ok(replied)
}

const VISMEMBER: Spec = reader(
    "vismember",
    3,
    vismember,
    "Tells whether an element is in a vector set.",
    LOGARITHMIC,
    KEY_ELEMENT,
)
.flags(Flags::READONLY);

/// VISMEMBER key element → whether the element is there.
fn vismember(ctx: &mut Ctx<'_>) -> CmdResult {
    let element = ctx.args.at(2);
    let there = ctx.db.read_as::<VectorSet>(ctx.args.key(1))?.is_some_and(|set| set.get(element).is_some());
    Ok(ctx.reply.bool(there))
}

const VLINKS: Spec = reader(
    "vlinks",
    -3,
    vlinks,
    "Gives the elements that an element is linked with in each layer of the graph.",
    "O(1)",
    &[Arg::key("key"), Arg::string("element"), Arg::word("withscores", "WITHSCORES").optional()],
);

/// VLINKS key element [WITHSCORES] → for each layer, from the highest one of the element on, the linked elements, or null.
fn vlinks(ctx: &mut Ctx<'_>) -> CmdResult {
    let with_scores = ctx.args.is(3, "WITHSCORES");
    if ctx.args.len() > 3 + usize::from(with_scores) {
        return Err(Error::arity(ctx.name));
    }
    let set = ctx.db.read_as::<VectorSet>(ctx.args.key(1))?;
    let reply = &mut ctx.reply;
    let Some(element) = set.and_then(|set| set.get(ctx.args.at(2))) else { return Ok(reply.null()) };
    let layers = element.links();
    let replied = reply.array(layers.len());
    for hits in layers.rev() {
        _ = if with_scores { reply.map(hits.len()) } else { reply.array(hits.len()) };
        for hit in hits {
            reply.bulk(hit.element.name());
            if with_scores {
                reply.double(hit.similarity);
            }
        }
    }
    Ok(replied)
}

const VRANDMEMBER: Spec = reader(
    "vrandmember",
    -2,
    vrandmember,
    "Gives random elements of a vector set.",
    "O(1) without a count, else O(N) for N elements.",
    &[Arg::key("key"), Arg::integer("count").optional()],
)
.flags(Flags::READONLY)
.tips(&["nondeterministic_output"]);

/// VRANDMEMBER key → a random element, or null.
/// VRANDMEMBER key count → `count` distinct random elements; with a negative count, elements may repeat.
fn vrandmember(ctx: &mut Ctx<'_>) -> CmdResult {
    let count = match ctx.args.len() {
        2 => None,
        3 => {
            let count = num::parse_i64(ctx.args.at(2)).filter(|&count| count != i64::MIN);
            Some(count.ok_or_else(|| Error::text("ERR COUNT value is not an integer"))?)
        }
        _ => return Err(Error::arity(ctx.name)),
    };
    let mut rng = Rng::new(ctx.db.rng().next_u64());
    let set = ctx.db.read_as::<VectorSet>(ctx.args.key(1))?;
    let reply = &mut ctx.reply;
    let Some(count) = count else {
        return Ok(reply.bulk_or_null(set.and_then(|set| set.random(&mut rng)).map(ElementRef::name)));
    };
    let Some(set) = set else { return Ok(reply.array(0)) };
    let n = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        let replied = reply.array(n);
        reply.repeat(n, |reply| _ = reply.bulk_or_null(set.random(&mut rng).map(ElementRef::name)));
        return Ok(replied);
    }
    let replied = reply.array(n.min(set.len()));
    set.random_distinct(n, &mut rng, |element| {
        reply.bulk(element.name());
        reply.proceed()
    });
    Ok(replied)
}

const VRANGE: Spec = reader(
    "vrange",
    -4,
    vrange,
    "Gives elements in the order of their names.",
    "O(log(N)+M) for N elements, of which M are answered.",
    &[Arg::key("key"), Arg::string("start"), Arg::string("end"), Arg::integer("count").optional()],
)
.flags(Flags::READONLY);

/// A bound of a range of names: `-` and `+` for none, otherwise a name behind `[` or `(`.
fn bound(text: &[u8], open: u8) -> Result<Bound<&[u8]>, Error> {
    match text {
        [sign] if *sign == open => Ok(Bound::Unbounded),
        [b'[', name @ ..] => Ok(Bound::Included(name)),
        [b'(', name @ ..] => Ok(Bound::Excluded(name)),
        _ => Err(Error::text(
            "ERR invalid start or end range item: must start with '[' or '(', or be '-' or '+'",
        )),
    }
}

/// VRANGE key start end [count] → the names between two, in order; with a negative count all of them.
fn vrange(ctx: &mut Ctx<'_>) -> CmdResult {
    let (from, to) = (bound(ctx.args.at(2), b'-')?, bound(ctx.args.at(3), b'+')?);
    let count = match ctx.args.len() {
        4 => -1,
        5 => {
            let count = num::parse_i64(ctx.args.at(4));
            count.ok_or_else(|| Error::text("ERR invalid COUNT value"))?
        }
        _ => return Err(Error::arity(ctx.name)),
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let set = ctx.db.read_as::<VectorSet>(ctx.args.key(1))?;
    let reply = &mut ctx.reply;
    let Some(set) = set else { return Ok(reply.array(0)) };
    Ok(bulks(reply, set.range(from, to).take(count)))
}

/// Writes the names of elements.
fn bulks<'a>(reply: &mut Reply<'_>, elements: impl Iterator<Item = ElementRef<'a>>) -> crate::resp::Replied {
    let start = reply.defer();
    let mut n = 0;
    for element in elements {
        reply.bulk(element.name());
        n += 1;
    }
    reply.end_array(start, n)
}
