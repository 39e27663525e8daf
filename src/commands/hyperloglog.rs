//! Commands that estimate numbers of distinct elements. The value is a string.

use crate::keyspace::Event;
use crate::resp::Error;
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::rng::Rng;
use crate::types::hyperloglog::{self, Corrupt, Registers};
use crate::types::string::StringRef;

/// Table entries of the HyperLogLog commands.
pub const COMMANDS: &[Spec] = &[PFADD, PFCOUNT, PFDEBUG, PFMERGE, PFSELFTEST];

impl From<Corrupt> for Error {
    #[cold]
    fn from(_: Corrupt) -> Error {
        Error::text("INVALIDOBJ Corrupted HLL object detected")
    }
}

/// The bytes of a string, if it is a valid HyperLogLog.
fn valid(string: StringRef<'_>) -> Result<&[u8], Error> {
    match string {
        StringRef::Bytes(bytes) if hyperloglog::is_valid(bytes) => Ok(bytes),
        _ => Err(Error::text("WRONGTYPE Key is not a valid HyperLogLog string value.")),
    }
}

const PFADD: Spec = Spec::data("pfadd", -2, pfadd)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::HYPERLOGLOG)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::INSERT))])
    .docs(Docs {
        summary: "Counts elements in a HyperLogLog, and creates it if need be.",
        since: "2.8.9",
        complexity: "O(1) for each element.",
        group: Group::HyperLogLog,
        args: &[Arg::key("key"), Arg::string("element").optional().multiple()],
        ..Docs::NONE
    });

/// PFADD key [element …] → 1 if a register was changed or the key created, else 0.
fn pfadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, sparse_max) = (ctx.args.key(1), ctx.limits.types.hll_sparse_max_bytes);
    if let Some(entry) = ctx.db.inspect(key) {
        valid(entry.string().ok_or(Error::WrongType)?)?;
    }
    let string = ctx.db.string_mut(key)?;
    let mut changed = 0;
    // A new key: no valid HyperLogLog is empty.
    if string.is_empty() {
        string.append(hyperloglog::EMPTY);
        changed += 1;
    }
    let mut result = Ok(());
    for element in ctx.args.rest(2).iter() {
        match hyperloglog::add(string, element, sparse_max) {
            Ok(raised) => changed += usize::from(raised),
            Err(corrupt) => {
                result = Err(corrupt);
                break;
            }
        }
    }
    if changed > 0 {
        hyperloglog::forget_count(string);
    }
    // Elements before the one at which the value turned out to be corrupt have been added.
    ctx.db.changed(key, Event::string("pfadd"), changed);
    result?;
    Ok(ctx.reply.int(i64::from(changed > 0)))
}

const PFCOUNT: Spec = Spec::data("pfcount", -2, pfcount)
    .flags(Flags::READONLY.with(Flags::MAY_REPLICATE))
    .acl(Acl::HYPERLOGLOG)
    .keys(&[KeySpec::at(1)
        .range(-1, 1, 0)
        .flags(KeyFlags::RW.with(KeyFlags::ACCESS))
        .notes("RW because the count is kept in the value, and goes to replicas with it")])
    .docs(Docs {
        summary: "Estimates how many different elements were counted.",
        since: "2.8.9",
        complexity: "O(1) for one key, seldom more than a few steps; O(N) for N keys, with many steps each.",
        group: Group::HyperLogLog,
        args: &[Arg::key("key").multiple()],
        ..Docs::NONE
    });

/// PFCOUNT key [key …] → estimated number of distinct elements in the union.
fn pfcount(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = ctx.args.rest(1);
    if keys.len() > 1 {
        let mut registers = Registers::default();
        for i in 0..keys.len() {
            if let Some(string) = ctx.db.read_string(keys.key(i))? {
                registers.merge(valid(string)?)?;
            }
        }
        return Ok(ctx.reply.int(registers.count() as i64));
    }
    let key = ctx.args.key(1);
    let Some(string) = ctx.db.read_string(key)? else {
        return Ok(ctx.reply.int(0));
    };
    let bytes = valid(string)?;
    let count = match hyperloglog::known_count(bytes) {
        Some(count) => count,
        None => {
            let count = hyperloglog::count(bytes)?;
            hyperloglog::keep_count(ctx.db.string_mut(key)?.as_mut_slice(), count);
            ctx.db.changed(key, Event::SILENT, 1);
            count
        }
    };
    Ok(ctx.reply.int(count as i64))
}

const PFMERGE: Spec = Spec::data("pfmerge", -2, pfmerge)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::HYPERLOGLOG)
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::INSERT)),
        KeySpec::at(2).range(-1, 1, 0).flags(KeyFlags::RO.with(KeyFlags::ACCESS)),
    ])
    .docs(Docs {
        summary: "Puts what several HyperLogLogs counted into one.",
        since: "2.8.9",
        complexity: "O(N) for N keys, with many steps each.",
        group: Group::HyperLogLog,
        args: &[Arg::key("destkey"), Arg::key("sourcekey").key_spec(1).optional().multiple()],
        ..Docs::NONE
    });

/// PFMERGE destkey [sourcekey …] → OK. The elements of the destination are kept.
fn pfmerge(ctx: &mut Ctx<'_>) -> CmdResult {
    let keys = ctx.args.rest(1);
    let (mut registers, mut dense) = (Registers::default(), false);
    for i in 0..keys.len() {
        if let Some(string) = ctx.db.read_string(keys.key(i))? {
            let bytes = valid(string)?;
            dense |= hyperloglog::is_dense(bytes);
            registers.merge(bytes)?;
        }
    }
    let key = ctx.args.key(1);
    let string = ctx.db.string_mut(key)?;
    if string.is_empty() {
        string.append(hyperloglog::EMPTY);
    }
    registers.store(string, dense, ctx.limits.types.hll_sparse_max_bytes)?;
    ctx.db.changed(key, Event::string("pfadd"), 1);
    Ok(ctx.reply.ok())
}

const PFDEBUG: Spec = Spec::data("pfdebug", 3, pfdebug)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::ADMIN))
    .acl(Acl::HYPERLOGLOG)
    .keys(&[KeySpec::at(2).flags(KeyFlags::RW.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Shows what a HyperLogLog looks like inside.",
        since: "2.8.9",
        complexity: "N/A",
        group: Group::HyperLogLog,
        args: &[Arg::string("subcommand"), Arg::key("key")],
        internal: true,
        ..Docs::NONE
    });

/// PFDEBUG GETREG key → all registers. Makes the encoding dense.
///
/// PFDEBUG DECODE key → runs of a sparse HyperLogLog: `z` and `Z` for zeros, `v` for a value.
///
/// PFDEBUG ENCODING key → `dense` or `sparse`.
///
/// PFDEBUG TODENSE key → 1 if the encoding was sparse before, else 0.
fn pfdebug(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(2);
    let Some(string) = ctx.db.read_string(key)? else {
        return Err(Error::text("ERR The specified key does not exist"));
    };
    let bytes = valid(string)?;
    if ctx.args.is(1, "GETREG") {
        let mut registers = Registers::default();
        registers.merge(bytes)?;
        to_dense(ctx)?;
        let replied = ctx.reply.array(hyperloglog::REGISTERS);
        for value in registers.iter() {
            ctx.reply.int(i64::from(value));
        }
        Ok(replied)
    } else if ctx.args.is(1, "DECODE") {
        if hyperloglog::is_dense(bytes) {
            return Err(Error::text("ERR HLL encoding is not sparse"));
        }
        let text = hyperloglog::runs(bytes).map_while(Result::ok).map(|run| match (run.value, run.bytes) {
            (0, 1) => format!("z:{}", run.len),
            (0, _) => format!("Z:{}", run.len),
            (value, _) => format!("v:{value},{}", run.len),
        });
        Ok(ctx.reply.bulk(text.collect::<Vec<_>>().join(" ").as_bytes()))
    } else if ctx.args.is(1, "ENCODING") {
        Ok(ctx.reply.simple(if hyperloglog::is_dense(bytes) { "dense" } else { "sparse" }))
    } else if ctx.args.is(1, "TODENSE") {
        let changed = to_dense(ctx)?;
        Ok(ctx.reply.int(i64::from(changed)))
    } else {
        Err(Error::quoting(&[b"ERR Unknown PFDEBUG subcommand '", ctx.args.at(1), b"'"]))
    }
}

/// Makes the value at argument 2 dense and returns whether it was sparse.
fn to_dense(ctx: &mut Ctx<'_>) -> Result<bool, Error> {
    let key = ctx.args.key(2);
    let changed = hyperloglog::make_dense(ctx.db.string_mut(key)?)?;
    ctx.db.changed(key, Event::SILENT, usize::from(changed));
    Ok(changed)
}

const PFSELFTEST: Spec =
    Spec::data("pfselftest", 1, pfselftest).flags(Flags::ADMIN).acl(Acl::HYPERLOGLOG).docs(Docs {
        summary: "Tests whether HyperLogLogs count as well as they should.",
        since: "2.8.9",
        complexity: "N/A",
        group: Group::HyperLogLog,
        internal: true,
        ..Docs::NONE
    });

/// PFSELFTEST → OK, or a description of the failure.
fn pfselftest(ctx: &mut Ctx<'_>) -> CmdResult {
    match hyperloglog::self_test(&mut Rng::new(ctx.db.rng().next_u64())) {
        Ok(()) => Ok(ctx.reply.ok()),
        Err(what) => Err(Error::text(format!("TESTFAILED {what}"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::check;

    #[test]
    fn counting() {
        check(
            r#"
            PFADD h
            PFADD h
            GET h
            PFADD h "" a ab abc abcd abcde abcdef abcdefg abcdefgh abcdefghi abcdefghijklmnop
            PFADD h a
            GET h
            PFDEBUG DECODE h
            PFCOUNT h
            STRLEN h
            GETRANGE h 8 15
            PFADD h2 a b c d
            PFCOUNT h h2 nothing
            PFMERGE h3 h h2 nothing
            PFDEBUG ENCODING h3
            PFCOUNT h3
            PFDEBUG TODENSE h3
            PFDEBUG TODENSE h3
            PFCOUNT h3
            STRLEN h3
            PFDEBUG DECODE h3
            PFMERGE h h3
            PFDEBUG ENCODING h
            PFMERGE h4
            GET h4
            PFCOUNT nothing
            CONFIG SET hll-sparse-max-bytes 20
            PFADD h2 e
            PFDEBUG ENCODING h2
            PFCOUNT h2
            PFSELFTEST
            "#,
            r#"
            (integer) 1
            (integer) 0
            "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xff"
            (integer) 1
            (integer) 0
            "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80B\xce\x80B\x96\x80I%\x8cGr\x84A.\x84C\xc3\x80Iw\x80@\x90\x80F:\x9cFg\x84C\xa6\x84J\xaf"
            "Z:719 v:1,1 Z:663 v:1,1 Z:2342 v:4,1 Z:1907 v:2,1 Z:303 v:2,1 Z:964 v:1,1 Z:2424 v:1,1 Z:145 v:1,1 Z:1595 v:8,1 Z:1640 v:2,1 Z:935 v:2,1 Z:2736"
            (integer) 11
            (integer) 51
            "\x0b\x00\x00\x00\x00\x00\x00\x00"
            (integer) 1
            (integer) 14
            OK
            sparse
            (integer) 14
            (integer) 1
            (integer) 0
            (integer) 14
            (integer) 12304
            (error) ERR HLL encoding is not sparse
            OK
            dense
            OK
            "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xff"
            (integer) 0
            OK
            (integer) 1
            dense
            (integer) 5
            OK
            "#,
        );
    }

    #[test]
    fn other_values_are_refused() {
        check(
            r#"
            SET s x
            SET n 123456789012345678
            RPUSH l a
            PFADD s a
            PFADD n a
            PFADD l a
            PFCOUNT s
            PFCOUNT l
            PFCOUNT nothing l
            PFMERGE s
            PFMERGE nothing s
            EXISTS nothing
            PFDEBUG GETREG nothing
            PFDEBUG GETREG s
            PFADD h a b c
            PFDEBUG nonsense h
            APPEND h hello
            PFCOUNT h
            PFCOUNT h h
            PFMERGE nothing h
            PFDEBUG TODENSE h
            PFDEBUG GETREG h
            SETRANGE h 0 0123
            PFCOUNT h
            "#,
            r#"
            OK
            OK
            (integer) 1
            (error) WRONGTYPE Key is not a valid HyperLogLog string value.
            (error) WRONGTYPE Key is not a valid HyperLogLog string value.
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Key is not a valid HyperLogLog string value.
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Key is not a valid HyperLogLog string value.
            (error) WRONGTYPE Key is not a valid HyperLogLog string value.
            (integer) 0
            (error) ERR The specified key does not exist
            (error) WRONGTYPE Key is not a valid HyperLogLog string value.
            (integer) 1
            (error) ERR Unknown PFDEBUG subcommand 'nonsense'
            (integer) 32
            (error) INVALIDOBJ Corrupted HLL object detected
            (error) INVALIDOBJ Corrupted HLL object detected
            (error) INVALIDOBJ Corrupted HLL object detected
            (error) INVALIDOBJ Corrupted HLL object detected
            (error) INVALIDOBJ Corrupted HLL object detected
            (integer) 32
            (error) WRONGTYPE Key is not a valid HyperLogLog string value.
            "#,
        );
    }
}
