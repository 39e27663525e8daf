//! INCREX: adding to a number within bounds, and setting the expiry of its key, at once.

use super::expiry::Expiry;
use crate::keyspace::{Event, Ttl};
use crate::resp::{Args, Error};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::clock::UnixMillis;
use crate::stdx::long_double::LongDouble;
use crate::stdx::num;
use crate::types::Value;
use crate::types::string::StringRef;

/// Table entry of the command.
pub const COMMANDS: &[Spec] = &[INCREX];

const INCREX: Spec = Spec::data("increx", -2, increx)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Adds to a number within bounds, and sets the expiry of its key.",
        since: "8.8.0",
        complexity: "O(1)",
        group: Group::String,
        args: &[
            Arg::key("key"),
            Arg::one_of(
                "increment",
                &[Arg::double("float").token("BYFLOAT"), Arg::integer("integer").token("BYINT")],
            )
            .optional(),
            Arg::word("saturate", "SATURATE")
                .summary("A sum beyond a bound becomes that bound. Otherwise nothing is added.")
                .optional(),
            Arg::string("lowerbound").token("LBOUND").optional(),
            Arg::string("upperbound").token("UBOUND").optional(),
            Arg::one_of(
                "expiration",
                &[
                    Arg::integer("seconds").token("EX"),
                    Arg::integer("milliseconds").token("PX"),
                    Arg::unix_time("unix-time-seconds").token("EXAT"),
                    Arg::unix_time("unix-time-milliseconds").token("PXAT"),
                    Arg::word("persist", "PERSIST"),
                ],
            )
            .optional(),
            Arg::word("enx", "ENX").summary("Sets the expiry only if the key has none.").optional(),
        ],
        ..Docs::NONE
    });

/// The options, not validated as numbers yet.
#[derive(Default)]
struct Options<'a> {
    /// The increment, and whether it is a decimal number.
    increment: Option<(&'a [u8], bool)>,
    lower: Option<&'a [u8]>,
    upper: Option<&'a [u8]>,
    saturate: bool,
    expiry: Option<Expiry<'a>>,
    persist: bool,
    /// The expiry is set only where there is none.
    only_first: bool,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>) -> Result<Self, Error> {
        let mut options = Options::default();
        let mut i = 2;
        while i < args.len() {
            let value = args.get(i + 1);
            let once = |place: &mut Option<&'a [u8]>| match place.replace(value.ok_or(Error::Syntax)?) {
                Some(_) => Err(Error::Syntax),
                None => Ok(()),
            };
            let float = args.is(i, "BYFLOAT");
            if float || args.is(i, "BYINT") {
                if options.increment.replace((value.ok_or(Error::Syntax)?, float)).is_some() {
                    return Err(Error::Syntax);
                }
                i += 1;
            } else if args.is(i, "LBOUND") {
                once(&mut options.lower)?;
                i += 1;
            } else if args.is(i, "UBOUND") {
                once(&mut options.upper)?;
                i += 1;
            } else if args.is(i, "SATURATE") {
                options.saturate = true;
            } else if args.is(i, "PERSIST") {
                options.persist = true;
            } else if args.is(i, "ENX") {
                options.only_first = true;
            } else {
                let expiry = Expiry::at(args, i).ok_or(Error::Syntax)?;
                if options.expiry.replace(expiry).is_some() {
                    return Err(Error::Syntax);
                }
                i += 1;
            }
            i += 1;
        }
        if options.persist && (options.expiry.is_some() || options.only_first) {
            return Err(Error::Syntax);
        }
        if options.only_first && options.expiry.is_none() {
            return Err(Error::text("ERR ENX flag requires an expiration"));
        }
        Ok(options)
    }
}

/// A number before and after, or what it would have been.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Sum<T> {
    /// The new value.
    value: T,
    /// What was added.
    added: T,
    /// Whether the key is set.
    applies: bool,
}

fn bounds_cross() -> Error {
    Error::text("ERR LBOUND must be less than or equal to UBOUND")
}

/// Adds integers. A sum beyond a bound, or beyond 64 bits, becomes the bound if it saturates, else it is not made.
fn add_integers(old: i64, increment: i64, lower: i64, upper: i64, saturate: bool) -> Result<Sum<i64>, Error> {
    let wanted = i128::from(old) + i128::from(increment);
    let value = wanted.clamp(lower.into(), upper.into()) as i64;
    if i128::from(value) != wanted && !saturate {
        return Ok(Sum { value: old, added: 0, applies: false });
    }
    let added = value.checked_sub(old).ok_or(Error::Overflow)?;
    Ok(Sum { value, added, applies: true })
}

/// Adds decimal numbers, in the same way.
fn add_decimals(
    old: LongDouble,
    increment: LongDouble,
    lower: LongDouble,
    upper: LongDouble,
    saturate: bool,
) -> Result<Sum<LongDouble>, Error> {
    if old.is_infinite() || increment.is_infinite() {
        return Err(Error::NanOrInfinity);
    }
    let wanted = old + increment;
    let bound = if wanted.is_below(lower) {
        lower
    } else if upper.is_below(wanted) {
        upper
    } else {
        return Ok(Sum { value: wanted, added: increment, applies: true });
    };
    if !saturate {
        return Ok(Sum { value: old, added: LongDouble::ZERO, applies: false });
    }
    let added = bound - old;
    if bound.is_infinite() || added.is_infinite() || added.is_nan() {
        return Err(Error::NanOrInfinity);
    }
    Ok(Sum { value: bound, added, applies: true })
}

/// INCREX key [BYINT n | BYFLOAT x] [LBOUND n] [UBOUND n] [SATURATE] [EX s | PX ms | EXAT s | PXAT ms | PERSIST] [ENX]
/// → the new value and what was added, which is nothing if a bound forbade it.
fn increx(ctx: &mut Ctx<'_>) -> CmdResult {
    let options = Options::parse(ctx.args)?;
    let expiry = options.expiry.map(|expiry| expiry.instant(ctx.now, ctx.name)).transpose()?;
    match options.increment {
        Some((increment, true)) => by_decimal(ctx, &options, increment, expiry),
        increment => by_integer(ctx, &options, increment.map(|(text, _)| text), expiry),
    }
}

fn by_integer(
    ctx: &mut Ctx<'_>,
    options: &Options<'_>,
    increment: Option<&[u8]>,
    expiry: Option<UnixMillis>,
) -> CmdResult {
    let number = |text: Option<&[u8]>, default| {
        text.map_or(Ok(default), |text| num::parse_i64(text).ok_or(Error::NotInteger))
    };
    let increment = number(increment, 1)?;
    let (lower, upper) = (number(options.lower, i64::MIN)?, number(options.upper, i64::MAX)?);
    if lower > upper {
        return Err(bounds_cross());
    }
    let old = match ctx.db.write_string(ctx.args.key(1))? {
        None => 0,
        Some(text) => text.int().ok_or(Error::NotInteger)?,
    };
    let sum = add_integers(old, increment, lower, upper, options.saturate)?;
    if sum.applies {
        let mut digits = itoa::Buffer::new();
        let event = Event::string("incrby");
        store(ctx, options, expiry, Value::Int(sum.value), digits.format(sum.value).as_bytes(), event);
    }
    let replied = ctx.reply.array(2);
    ctx.reply.int(sum.value);
    ctx.reply.int(sum.added);
    Ok(replied)
}

fn by_decimal(
    ctx: &mut Ctx<'_>,
    options: &Options<'_>,
    increment: &[u8],
    expiry: Option<UnixMillis>,
) -> CmdResult {
    let number = |text: &[u8]| LongDouble::parse(text).ok_or(Error::NotFloat);
    let increment = number(increment)?;
    let lower = options.lower.map_or(Ok(-LongDouble::MAX), number)?;
    let upper = options.upper.map_or(Ok(LongDouble::MAX), number)?;
    if upper.is_below(lower) {
        return Err(bounds_cross());
    }
    let old = match ctx.db.write_string(ctx.args.key(1))? {
        None => LongDouble::ZERO,
        Some(StringRef::Int(n)) => LongDouble::from(n),
        Some(StringRef::Bytes(bytes)) => number(bytes)?,
    };
    let sum = add_decimals(old, increment, lower, upper, options.saturate)?;
    let (mut value, mut added) = (Vec::with_capacity(40), Vec::with_capacity(40));
    sum.value.fmt_human(&mut value);
    sum.added.fmt_human(&mut added);
    if sum.applies {
        store(ctx, options, expiry, Value::Bytes(&value), &value, Event::string("incrbyfloat"));
    }
    let replied = ctx.reply.array(2);
    ctx.reply.double_text(&value);
    ctx.reply.double_text(&added);
    Ok(replied)
}

/// Stores the value with the resulting expiry, and propagates just that.
fn store(
    ctx: &mut Ctx<'_>,
    options: &Options<'_>,
    expiry: Option<UnixMillis>,
    value: Value<'_>,
    text: &[u8],
    event: Event,
) {
    let key = ctx.args.key(1);
    let before = ctx.db.expires(key);
    let ttl = match expiry {
        Some(at) if before.is_none() || !options.only_first => Ttl::At(at),
        None if options.persist => Ttl::Clear,
        _ => Ttl::Keep,
    };
    ctx.db.update_string(key, value, ttl);
    ctx.db.changed(key, event, 1);
    let mut digits = itoa::Buffer::new();
    match ttl {
        Ttl::At(at) => {
            ctx.db.event_only(key, Event::generic("expire"));
            ctx.feed.instead(&[b"SET", key.bytes, text, b"PXAT", digits.format(at.0).as_bytes()]);
        }
        Ttl::Keep => ctx.feed.instead(&[b"SET", key.bytes, text, b"KEEPTTL"]),
        Ttl::Clear => {
            if before.is_some() {
                ctx.db.event_only(key, Event::generic("persist"));
            }
            ctx.feed.instead(&[b"SET", key.bytes, text]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::check;

    #[test]
    fn adding_within_bounds() {
        check(
            r#"
            INCREX n
            INCREX n BYINT 5
            INCREX n BYINT -10 LBOUND -3
            INCREX n BYINT -10 LBOUND -3 SATURATE
            INCREX n BYINT 200 UBOUND 100
            GET n
            INCREX n UBOUND -10
            INCREX n UBOUND -10 SATURATE
            SET n 9223372036854775807
            INCREX n
            INCREX n SATURATE
            INCREX n SATURATE UBOUND -9223372036854775808
            INCREX nosuch BYINT 3 UBOUND 2
            EXISTS nosuch
            INCREX nosuch BYINT 0
            EXISTS nosuch
            SET s x
            INCREX s
            RPUSH l a
            INCREX l
            INCREX l BYFLOAT 1
            INCREX n LBOUND 2 UBOUND 1
            INCREX n LBOUND x
            INCREX n BYINT 1.5
            INCREX n BYINT 1 BYFLOAT 1
            INCREX n BYINT
            INCREX n UBOUND 1 UBOUND 2
            INCREX n NX
            "#,
            r#"
            1) (integer) 1
            2) (integer) 1
            1) (integer) 6
            2) (integer) 5
            1) (integer) 6
            2) (integer) 0
            1) (integer) -3
            2) (integer) -9
            1) (integer) -3
            2) (integer) 0
            "-3"
            1) (integer) -3
            2) (integer) 0
            1) (integer) -10
            2) (integer) -7
            OK
            1) (integer) 9223372036854775807
            2) (integer) 0
            1) (integer) 9223372036854775807
            2) (integer) 0
            (error) ERR increment or decrement would overflow
            1) (integer) 0
            2) (integer) 0
            (integer) 0
            1) (integer) 0
            2) (integer) 0
            (integer) 1
            OK
            (error) ERR value is not an integer or out of range
            (integer) 1
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) ERR LBOUND must be less than or equal to UBOUND
            (error) ERR value is not an integer or out of range
            (error) ERR value is not an integer or out of range
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            "#,
        );
    }

    #[test]
    fn adding_decimals_within_bounds() {
        check(
            r#"
            SET f 1.5
            INCREX f BYFLOAT 0.25
            INCREX f BYFLOAT 10 UBOUND 2.5
            INCREX f BYFLOAT 10 UBOUND 2.5 SATURATE
            INCREX f
            INCREX f BYFLOAT -5 LBOUND -1
            INCREX f BYFLOAT inf
            INCREX f BYFLOAT x
            INCREX f BYFLOAT 1 LBOUND 2 UBOUND 1
            SET n 10
            INCREX n BYFLOAT 0.5
            INCREX n BYFLOAT -0.5
            OBJECT ENCODING n
            "#,
            r#"
            OK
            1) "1.75"
            2) "0.25"
            1) "1.75"
            2) "0"
            1) "2.5"
            2) "0.75"
            (error) ERR value is not an integer or out of range
            1) "2.5"
            2) "0"
            (error) ERR increment would produce NaN or Infinity
            (error) ERR value is not a valid float
            (error) ERR LBOUND must be less than or equal to UBOUND
            OK
            1) "10.5"
            2) "0.5"
            1) "10"
            2) "-0.5"
            "embstr"
            "#,
        );
    }

    #[test]
    fn the_expiry_is_set_kept_or_removed() {
        check(
            r#"
            INCREX n EX 100 ENX
            TTL n
            INCREX n EX 200 ENX
            TTL n
            INCREX n
            TTL n
            INCREX n EXAT 9999999999
            EXPIRETIME n
            INCREX n UBOUND 0 EX 10
            EXPIRETIME n
            INCREX n UBOUND 0 SATURATE PXAT 9999999999001
            PEXPIRETIME n
            INCREX n PERSIST
            TTL n
            INCREX n ENX
            INCREX n PERSIST ENX
            INCREX n PERSIST EX 10
            INCREX n EX 10 PX 10
            INCREX n EX 0
            INCREX n EX x
            "#,
            r#"
            1) (integer) 1
            2) (integer) 1
            (integer) 100
            1) (integer) 2
            2) (integer) 1
            (integer) 100
            1) (integer) 3
            2) (integer) 1
            (integer) 100
            1) (integer) 4
            2) (integer) 1
            (integer) 9999999999
            1) (integer) 4
            2) (integer) 0
            (integer) 9999999999
            1) (integer) 0
            2) (integer) -4
            (integer) 9999999999001
            1) (integer) 1
            2) (integer) 1
            (integer) -1
            (error) ERR ENX flag requires an expiration
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR invalid expire time in 'increx' command
            (error) ERR value is not an integer or out of range
            "#,
        );
    }

    #[test]
    fn sums_at_the_limits() {
        let add = |old, increment, saturate| add_integers(old, increment, i64::MIN, i64::MAX, saturate);
        let unchanged = |value| Ok(Sum { value, added: 0, applies: false });
        assert_eq!(add(i64::MIN, -1, false), unchanged(i64::MIN));
        assert_eq!(add(i64::MIN, -1, true), Ok(Sum { value: i64::MIN, added: 0, applies: true }));
        assert_eq!(add(1, i64::MAX, true), Ok(Sum { value: i64::MAX, added: i64::MAX - 1, applies: true }));
        let max = LongDouble::MAX;
        let limits = |old, increment, saturate| add_decimals(old, increment, -max, max, saturate);
        assert_eq!(limits(max, max, true), Ok(Sum { value: max, added: LongDouble::ZERO, applies: true }));
        assert_eq!(limits(max, max, false), Ok(Sum { value: max, added: LongDouble::ZERO, applies: false }));
        assert_eq!(limits(max, -max, false), Ok(Sum { value: LongDouble::ZERO, added: -max, applies: true }));
    }
}
