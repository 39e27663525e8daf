//! VSIM: the elements of a vector set that are most similar to a vector.

use super::vector::{VECTOR, other_dimension, other_input};
use super::vector_args::VectorArg;
use crate::resp::{Args, Error};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::num;
use crate::types::VectorSet;
use crate::types::vector_set::{ElementRef, Filter, SearchOptions};

/// Table entry of the command.
pub const COMMANDS: &[Spec] = &[VSIM];

const DEFAULT_COUNT: usize = 10;
/// Nodes that a search keeps in view, if it is not asked for more elements.
const DEFAULT_EF: usize = 150;
/// Elements on which a filter is tried, for each element asked for.
const TRIED_PER_RESULT: usize = 100;

const VSIM: Spec = Spec::data("vsim", -4, vsim)
    .flags(Flags::READONLY)
    .acl(Acl::NONE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Gives the elements of a vector set that are most similar to a vector.",
        since: "8.0.0",
        complexity: "O(log(N)) for N elements; O(N) with TRUTH.",
        group: Group::VectorSet,
        history: &[("8.2.0", "The option `WITHATTRIBS`, and `EPSILON`.")],
        args: &[
            Arg::key("key"),
            Arg::one_of("query", &[Arg::string("element").token("ELE"), VECTOR]),
            Arg::word("withscores", "WITHSCORES").optional(),
            Arg::word("withattribs", "WITHATTRIBS").since("8.2.0").optional(),
            Arg::integer("num").token("COUNT").optional(),
            Arg::double("max-distance").token("EPSILON").since("8.2.0").optional(),
            Arg::integer("search-exploration-factor").token("EF").optional(),
            Arg::string("expression").token("FILTER").optional(),
            Arg::integer("max-filtering-effort").token("FILTER-EF").optional(),
            Arg::word("truth", "TRUTH").summary("Compares the vector with all elements.").optional(),
            Arg::word("nothread", "NOTHREAD")
                .summary("Accepted. Searches use no thread of their own.")
                .optional(),
        ],
        ..Docs::NONE
    });

/// The options of VSIM.
struct Options {
    with_scores: bool,
    with_attributes: bool,
    count: usize,
    ef: usize,
    epsilon: f64,
    filter: Option<Filter>,
    filter_ef: Option<usize>,
    exhaustive: bool,
}

impl Options {
    fn parse(args: &Args<'_>, from: usize) -> Result<Options, Error> {
        let mut options = Options {
            with_scores: false,
            with_attributes: false,
            count: DEFAULT_COUNT,
            ef: DEFAULT_EF,
            epsilon: 2.0,
            filter: None,
            filter_ef: None,
            exhaustive: false,
        };
        let mut i = from;
        while i < args.len() {
            let value = args.get(i + 1);
            let number = |what: &'static str| {
                let n = value.and_then(num::parse_i64).and_then(|n| usize::try_from(n).ok());
                n.filter(|&n| n > 0).ok_or(Error::text(what))
            };
            if args.is(i, "WITHSCORES") {
                options.with_scores = true;
            } else if args.is(i, "WITHATTRIBS") {
                options.with_attributes = true;
            } else if args.is(i, "TRUTH") {
                options.exhaustive = true;
            } else if args.is(i, "NOTHREAD") {
            } else {
                let Some(value) = value else { return Err(wrong_option()) };
                if args.is(i, "COUNT") {
                    options.count = number("ERR invalid COUNT")?;
                } else if args.is(i, "EPSILON") {
                    let epsilon = num::parse_f64(value).filter(|&epsilon| epsilon > 0.0);
                    options.epsilon = epsilon.ok_or(Error::text("ERR invalid EPSILON"))?;
                } else if args.is(i, "EF") {
                    options.ef = number("ERR invalid EF")?;
                } else if args.is(i, "FILTER-EF") {
                    options.filter_ef = Some(number("ERR invalid FILTER-EF")?);
                } else if args.is(i, "FILTER") {
                    options.filter = Some(Filter::parse(value).map_err(|at| wrong_filter(&value[at..]))?);
                } else {
                    return Err(wrong_option());
                }
                i += 1;
            }
            i += 1;
        }
        Ok(options)
    }
}

fn wrong_option() -> Error {
    Error::text("ERR syntax error in VSIM command")
}

fn wrong_filter(rest: &[u8]) -> Error {
    Error::quoting(&[b"ERR syntax error in FILTER expression near: ", rest])
}

/// VSIM key ELE element|FP32 blob|VALUES n value … [WITHSCORES] [WITHATTRIBS] [COUNT n] [EPSILON distance] [EF n] [FILTER
/// expression] [FILTER-EF n] [TRUTH] [NOTHREAD] → elements, most similar first, with what was asked for.
fn vsim(ctx: &mut Ctx<'_>) -> CmdResult {
    let (query, next) = VectorArg::to_search(&ctx.args, 2)?;
    let options = Options::parse(&ctx.args, next)?;
    let set = ctx.db.read_as::<VectorSet>(ctx.args.key(1))?;
    let reply = &mut ctx.reply;
    let Some(set) = set else { return Ok(reply.array(0)) };
    let vector = vector_of(set, query)?;
    let search = SearchOptions {
        count: options.count,
        ef: options.ef,
        filter: options.filter.as_ref(),
        filter_ef: options.filter_ef.unwrap_or(options.count.saturating_mul(TRIED_PER_RESULT)),
        least: 1.0 - options.epsilon,
        exhaustive: options.exhaustive,
    };
    let hits = set.search(&vector, &search);
    let attributes = ElementRef::attributes;
    let replied = match (options.with_scores, options.with_attributes) {
        (false, false) => reply.array(hits.len()),
        // In RESP3 both belong to a key of the map, so that they are in an array.
        (true, true) if !reply.resp3() => reply.array(3 * hits.len()),
        _ => reply.map(hits.len()),
    };
    for hit in hits {
        reply.bulk(hit.element.name());
        if options.with_scores && options.with_attributes && reply.resp3() {
            reply.array(2);
        }
        if options.with_scores {
            reply.double(hit.similarity);
        }
        if options.with_attributes {
            reply.bulk_or_null(attributes(hit.element));
        }
    }
    Ok(replied)
}

/// The vector to search for, with as many components as those of the set.
fn vector_of(set: &VectorSet, query: VectorArg<'_>) -> Result<Vec<f32>, Error> {
    let vector = match query {
        VectorArg::Element(name) => {
            let element = set.get(name).ok_or_else(|| Error::text("ERR element not found in set"))?;
            return Ok(element.code().decode());
        }
        VectorArg::Components(vector) => vector,
    };
    match set.projection() {
        _ if vector.len() == set.dim() => Ok(vector),
        Some(projection) if vector.len() == projection.input() => Ok(projection.apply(&vector)),
        Some(projection) => Err(other_input(vector.len(), projection)),
        None => Err(other_dimension(vector.len(), set)),
    }
}
