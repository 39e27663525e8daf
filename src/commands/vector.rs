//! Vector sets: elements with vectors, and what is known about each.
//!
//! Replies and errors are those of Redis 8.2.3, where vector sets are a module: booleans in RESP3, null where there is no
//! element. Unlike there, components must be finite, a vector has at most 2^20 of them, the matrix of a projection
//! has at most 2^24 elements, and a vector set can be copied.

use super::vector_args::VectorArg;
use crate::keyspace::Event;
use crate::resp::Error;
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::num;
use crate::types::VectorSet;
use crate::types::vector_set::{LINKS, Projection, Quantization};

/// Table entries of the commands that add, change and remove elements.
pub const COMMANDS: &[Spec] = &[VADD, VREM, VSETATTR];

/// Nodes that a search for the neighbours of a new element keeps in view.
const DEFAULT_EF: usize = 200;
/// The most that clients can ask for.
const MAX_EF: i64 = 1_000_000;
const DEFAULT_LINKS: usize = 16;

const VADD: Spec = Spec::data("vadd", -5, vadd)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::NONE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Adds an element with its vector to a vector set, or changes its vector.",
        since: "8.0.0",
        complexity: "O(log(N)) for N elements.",
        group: Group::VectorSet,
        args: &[
            Arg::key("key"),
            Arg::integer("dim").token("REDUCE").summary("Components after a random projection.").optional(),
            VECTOR,
            Arg::string("element"),
            Arg::word("cas", "CAS")
                .summary("Accepted. Elements are always added before the reply.")
                .optional(),
            Arg::one_of(
                "quantization",
                &[Arg::word("noquant", "NOQUANT"), Arg::word("q8", "Q8"), Arg::word("bin", "BIN")],
            )
            .optional(),
            Arg::integer("build-exploration-factor").token("EF").optional(),
            Arg::string("attributes").token("SETATTR").optional(),
            Arg::integer("numlinks").token("M").optional(),
        ],
        ..Docs::NONE
    });

/// A vector as an argument, for documentation.
pub(super) const VECTOR: Arg = Arg::one_of(
    "vector",
    &[
        Arg::string("blob").token("FP32").summary("Floats of four bytes, little-endian."),
        Arg::block("values", &[Arg::integer("num").token("VALUES"), Arg::double("value").multiple()]),
    ],
);

/// The options of VADD.
struct AddOptions<'a> {
    how: Quantization,
    ef: usize,
    attributes: Option<&'a [u8]>,
    links: usize,
}

impl<'a> AddOptions<'a> {
    fn parse(ctx: &Ctx<'a>, from: usize) -> Result<AddOptions<'a>, Error> {
        let args = ctx.args;
        let mut options =
            AddOptions { how: Quantization::Bytes, ef: DEFAULT_EF, attributes: None, links: DEFAULT_LINKS };
        let mut i = from;
        while i < args.len() {
            let value = args.get(i + 1);
            let number = |what: &'static str, range: std::ops::RangeInclusive<i64>| {
                let n = value.and_then(num::parse_i64).filter(|n| range.contains(n));
                n.map(|n| n as usize).ok_or(Error::text(what))
            };
            if args.is(i, "CAS") {
            } else if args.is(i, "NOQUANT") {
                options.how = Quantization::Full;
            } else if args.is(i, "Q8") {
                options.how = Quantization::Bytes;
            } else if args.is(i, "BIN") {
                options.how = Quantization::Signs;
            } else if args.is(i, "EF") && value.is_some() {
                options.ef = number("ERR invalid EF", 1..=MAX_EF)?;
                i += 1;
            } else if args.is(i, "M") && value.is_some() {
                options.links = number("ERR invalid M", *LINKS.start() as i64..=*LINKS.end() as i64)?;
                i += 1;
            } else if args.is(i, "SETATTR") && value.is_some() {
                options.attributes = value;
                i += 1;
            } else {
                return Err(Error::text("ERR invalid option after element"));
            }
            i += 1;
        }
        Ok(options)
    }
}

/// VADD key [REDUCE dim] FP32 blob|VALUES n value … element [CAS] [NOQUANT|Q8|BIN] [EF n] [SETATTR text] [M n] → whether
/// the element is new.
fn vadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let (vector, reduced, next) = VectorArg::to_add(&ctx.args, 2)?;
    let element = ctx.args.get(next).ok_or_else(|| Error::arity(ctx.name))?;
    let options = AddOptions::parse(ctx, next + 1)?;
    let key = ctx.args.key(1);
    let dim = vector.len();
    let projected = match ctx.db.write_as::<VectorSet>(key)? {
        Some(set) => {
            check_options(set, &options)?;
            check_dimensions(set, dim, reduced)?;
            set.projection().map(|projection| projection.apply(&vector))
        }
        None => {
            let projection = match reduced {
                None => None,
                Some(output) => Some(Projection::new(dim, output).ok_or_else(VectorArg::invalid)?),
            };
            let projected = projection.as_ref().map(|projection| projection.apply(&vector));
            let set = VectorSet::new(reduced.unwrap_or(dim), options.links, options.how, projection);
            ctx.db.write_or_insert(key, || set)?;
            projected
        }
    };
    let set = ctx.db.write_as::<VectorSet>(key)?.expect("it was there or has been created");
    let vector = projected.as_deref().unwrap_or(&vector);
    let new = set.add(element, vector, options.ef, options.attributes);
    ctx.db.changed(key, Event::SILENT, 1);
    Ok(ctx.reply.bool(new))
}

/// # Errors
/// If the options ask for another kind of set than there is. What is not named is asked for by default.
fn check_options(set: &VectorSet, options: &AddOptions<'_>) -> Result<(), Error> {
    if options.how != set.quantization() {
        return Err(Error::text("ERR asked quantization mismatch with existing vector set"));
    }
    if options.links != set.links() {
        return Err(Error::text("ERR asked M value mismatch with existing vector set"));
    }
    Ok(())
}

/// # Errors
/// If a vector of `dim` components, to be reduced as is asked, does not fit the set.
fn check_dimensions(set: &VectorSet, dim: usize, reduced: Option<usize>) -> Result<(), Error> {
    match (set.projection(), reduced) {
        (None, None) if dim == set.dim() => return Ok(()),
        (None, Some(_)) if dim == set.dim() => {
            return Err(Error::text("ERR cannot add projection to existing set without projection"));
        }
        (Some(projection), Some(output)) if output == set.dim() => {
            if dim == projection.input() {
                return Ok(());
            }
            return Err(other_input(dim, projection));
        }
        _ => {}
    }
    Err(other_dimension(dim, set))
}

/// The error for a vector that has not as many components as those of the set.
pub(super) fn other_dimension(dim: usize, set: &VectorSet) -> Error {
    Error::text(format!("ERR Vector dimension mismatch - got {dim} but set has {}", set.dim()))
}

/// The error for a vector that has not as many components as the projection expects.
pub(super) fn other_input(dim: usize, projection: &Projection) -> Error {
    let expected = projection.input();
    Error::text(format!(
        "ERR Input dimension mismatch for projection - got {dim} but projection expects {expected}"
    ))
}

const VREM: Spec = Spec::data("vrem", 3, vrem)
    .flags(Flags::WRITE)
    .acl(Acl::NONE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Removes an element from a vector set; a set without elements is deleted.",
        since: "8.0.0",
        complexity: "O(log(N)) for N elements.",
        group: Group::VectorSet,
        args: &[Arg::key("key"), Arg::string("element")],
        ..Docs::NONE
    });

/// VREM key element → whether the element was there.
fn vrem(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let element = ctx.args.at(2);
    let removed = ctx.db.write_as::<VectorSet>(key)?.is_some_and(|set| set.remove(element));
    if removed {
        ctx.db.changed(key, Event::SILENT, 1);
        ctx.db.settle::<VectorSet>(key);
    }
    Ok(ctx.reply.bool(removed))
}

const VSETATTR: Spec = Spec::data("vsetattr", 4, vsetattr)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::NONE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Sets the attributes of an element of a vector set. An empty text removes them.",
        since: "8.0.0",
        complexity: "O(log(N)) for N elements.",
        group: Group::VectorSet,
        args: &[Arg::key("key"), Arg::string("element"), Arg::string("attributes")],
        ..Docs::NONE
    });

/// VSETATTR key element text → whether the element is there.
fn vsetattr(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let (element, text) = (ctx.args.at(2), ctx.args.at(3));
    let set = ctx.db.write_as::<VectorSet>(key)?.is_some_and(|set| set.set_attributes(element, text));
    if set {
        ctx.db.changed(key, Event::SILENT, 1);
    }
    Ok(ctx.reply.bool(set))
}
