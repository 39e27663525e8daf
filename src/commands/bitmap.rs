//! Commands on strings as arrays of bits.
//!
//! Bit 0 is the highest bit of the first byte. Writing past the end extends the string; reading past the end gives
//! zeros.

use std::ops::Range;

use crate::config::Limits;
use crate::keyspace::{Event, Ttl};
use crate::resp::{Args, Error};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::num;
use crate::types::bits::{self, Field, Operation, Overflow};
use crate::types::string::{Text, clamp_range};

/// Table entries of the bitmap commands.
pub const COMMANDS: &[Spec] = &[BITCOUNT, BITFIELD, BITFIELD_RO, BITOP, BITPOS, GETBIT, SETBIT];

const SETBIT_EVENT: Event = Event::string("setbit");

// ---- single bits ---------------------------------------------------------------------------------

/// Parses a bit position, which counts units of `width` bits if it starts with `#`. The position is within the
/// longest possible string.
fn offset(text: &[u8], width: Option<usize>, limits: &Limits) -> Result<usize, Error> {
    let (digits, unit) = match (text, width) {
        ([b'#', digits @ ..], Some(width)) => (digits, width as i64),
        _ => (text, 1),
    };
    num::parse_i64(digits)
        .and_then(|n| n.checked_mul(unit))
        .filter(|&bit| bit >= 0 && (bit as u64 >> 3) < limits.proto_max_bulk_len)
        .map(|bit| bit as usize)
        .ok_or_else(|| Error::text("ERR bit offset is not an integer or out of range"))
}

const SETBIT: Spec = Spec::data("setbit", 4, setbit)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::BITMAP)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Writes one bit of a string, which grows if it must.",
        since: "2.2.0",
        complexity: "O(1), and O(N) for N bytes by which the string grows.",
        group: Group::Bitmap,
        args: &[Arg::key("key"), Arg::integer("offset"), Arg::integer("value")],
        ..Docs::NONE
    });

/// SETBIT key offset value → old value of the bit.
fn setbit(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let at = offset(ctx.args.at(2), None, ctx.limits)?;
    let on = match ctx.args.at(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(Error::text("ERR bit is not an integer or out of range")),
    };
    let string = ctx.db.string_mut(key)?;
    let missing = (at / 8 + 1).saturating_sub(string.len());
    string.append_zeros(missing);
    let was = bits::set(string, at, on);
    ctx.db.changed(key, SETBIT_EVENT, usize::from(missing > 0 || was != on));
    Ok(ctx.reply.int(i64::from(was)))
}

const GETBIT: Spec = Spec::data("getbit", 3, getbit)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::BITMAP)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Reads one bit of a string.",
        since: "2.2.0",
        complexity: "O(1)",
        group: Group::Bitmap,
        args: &[Arg::key("key"), Arg::integer("offset")],
        ..Docs::NONE
    });

/// GETBIT key offset → value of the bit.
fn getbit(ctx: &mut Ctx<'_>) -> CmdResult {
    let at = offset(ctx.args.at(2), None, ctx.limits)?;
    let mut digits = itoa::Buffer::new();
    let text = ctx.db.read_string(ctx.args.key(1))?;
    let bit = text.is_some_and(|text| bits::get(text.text(&mut digits), at));
    Ok(ctx.reply.int(i64::from(bit)))
}

// ---- ranges of bits ------------------------------------------------------------------------------

const UNIT: Arg =
    Arg::one_of("unit", &[Arg::word("byte", "BYTE"), Arg::word("bit", "BIT")]).since("7.0.0").optional();

const UNITS_SINCE: &[(&str, &str)] = &[("7.0.0", "The range can be given in `BIT`s as well as in `BYTE`s.")];

/// Whether argument `i` gives the range in bits; without the argument it is in bytes.
fn in_bits(args: Args<'_>, i: usize) -> Result<bool, Error> {
    match args.len() {
        len if len <= i => Ok(false),
        len if len == i + 1 && args.is(i, "BIT") => Ok(true),
        len if len == i + 1 && args.is(i, "BYTE") => Ok(false),
        _ => Err(Error::Syntax),
    }
}

const BITCOUNT: Spec = Spec::data("bitcount", -2, bitcount)
    .flags(Flags::READONLY)
    .acl(Acl::BITMAP)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Counts the bits of a string that are 1.",
        since: "2.6.0",
        complexity: "O(N) for N bytes looked at.",
        group: Group::Bitmap,
        history: UNITS_SINCE,
        args: &[
            Arg::key("key"),
            Arg::block("range", &[Arg::integer("start"), Arg::integer("end"), UNIT]).optional(),
        ],
        ..Docs::NONE
    });

/// A range of a string, both ends included; negative positions count from the end.
#[derive(Clone, Copy)]
struct BitRange {
    start: i64,
    end: i64,
    in_bits: bool,
}

impl BitRange {
    /// The bits of the range in a string of `len` bytes.
    fn within(self, len: usize) -> Range<usize> {
        if self.in_bits {
            clamp_range(self.start, self.end, len * 8)
        } else {
            let range = clamp_range(self.start, self.end, len);
            range.start * 8..range.end * 8
        }
    }
}

/// BITCOUNT key [start end [BYTE | BIT]] → number of bits set.
fn bitcount(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let range = match args.len() {
        2 => BitRange { start: 0, end: -1, in_bits: false },
        3 if ctx.limits.compat_version.is_valkey() => {
            BitRange { start: args.int(2)?, end: -1, in_bits: false }
        }
        4 | 5 => BitRange { start: args.int(2)?, end: args.int(3)?, in_bits: in_bits(args, 4)? },
        _ => return Err(Error::Syntax),
    };
    let Some(text) = ctx.db.read_string(args.key(1))? else {
        return Ok(ctx.reply.int(0));
    };
    let BitRange { start, end, .. } = range;
    if start < 0 && end < 0 && start > end {
        return Ok(ctx.reply.int(0));
    }
    let mut digits = itoa::Buffer::new();
    let bytes = text.text(&mut digits);
    Ok(ctx.reply.int(bits::count_in(bytes, range.within(bytes.len())) as i64))
}

const BITPOS: Spec = Spec::data("bitpos", -3, bitpos)
    .flags(Flags::READONLY)
    .acl(Acl::BITMAP)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Finds the first bit of a string that is 1, or 0.",
        since: "2.8.7",
        complexity: "O(N) for N bytes looked at.",
        group: Group::Bitmap,
        history: UNITS_SINCE,
        args: &[
            Arg::key("key"),
            Arg::integer("bit"),
            Arg::block(
                "range",
                &[
                    Arg::integer("start"),
                    Arg::block("end-unit-block", &[Arg::integer("end"), UNIT]).optional(),
                ],
            )
            .optional(),
        ],
        ..Docs::NONE
    });

/// BITPOS key bit [start [end [BYTE | BIT]]] → position of the first bit with this value, or −1.
///
/// Without an end, the string is followed by endless zeros, so a 0 is always found.
fn bitpos(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let bit = match args.int(2)? {
        0 => false,
        1 => true,
        _ => return Err(Error::text("ERR The bit argument must be 1 or 0.")),
    };
    if args.len() > 6 {
        return Err(Error::Syntax);
    }
    let start = if args.len() > 3 { args.int(3)? } else { 0 };
    // The unit is checked before the end that it applies to.
    let in_bits = in_bits(args, 5)?;
    let end = if args.len() > 4 { Some(args.int(4)?) } else { None };
    let Some(text) = ctx.db.read_string(args.key(1))? else {
        return Ok(ctx.reply.int(if bit { -1 } else { 0 }));
    };
    let mut digits = itoa::Buffer::new();
    let bytes = text.text(&mut digits);
    let range = BitRange { start, end: end.unwrap_or(-1), in_bits }.within(bytes.len());
    let beyond = !bit && end.is_none() && !range.is_empty();
    let found = bits::find(bytes, bit, range).or(beyond.then_some(bytes.len() * 8));
    Ok(ctx.reply.int(found.map_or(-1, |at| at as i64)))
}

// ---- whole strings -------------------------------------------------------------------------------

const BITOP: Spec = Spec::data("bitop", -4, bitop)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::BITMAP)
    .keys(&[
        KeySpec::at(2).flags(KeyFlags::OW.with(KeyFlags::UPDATE)),
        KeySpec::at(3).range(-1, 1, 0).flags(KeyFlags::RO.with(KeyFlags::ACCESS)),
    ])
    .docs(Docs {
        summary: "Combines strings bit by bit and stores the outcome.",
        since: "2.6.0",
        complexity: "O(N) for N bytes in all.",
        group: Group::Bitmap,
        args: &[
            Arg::one_of(
                "operation",
                &[
                    Arg::word("and", "AND"),
                    Arg::word("or", "OR"),
                    Arg::word("xor", "XOR"),
                    Arg::word("not", "NOT"),
                    Arg::word("diff", "DIFF").since("8.2.0"),
                    Arg::word("diff1", "DIFF1").since("8.2.0"),
                    Arg::word("andor", "ANDOR").since("8.2.0"),
                    Arg::word("one", "ONE").since("8.2.0"),
                ],
            ),
            Arg::key("destkey"),
            Arg::key("key").key_spec(1).multiple(),
        ],
        ..Docs::NONE
    });

/// The operations by name, and whether servers had them before Redis 8.2.
const OPERATIONS: [(&str, Operation, bool); 8] = [
    ("AND", Operation::And, true),
    ("OR", Operation::Or, true),
    ("XOR", Operation::Xor, true),
    ("NOT", Operation::Not, true),
    ("DIFF", Operation::Diff, false),
    ("DIFF1", Operation::Diff1, false),
    ("ANDOR", Operation::AndOr, false),
    ("ONE", Operation::One, false),
];

/// BITOP AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE destkey key [key …] → length of the stored string.
fn bitop(ctx: &mut Ctx<'_>) -> CmdResult {
    let args = ctx.args;
    let (name, operation, known_to_all) =
        OPERATIONS.into_iter().find(|(name, ..)| args.is(1, name)).ok_or(Error::Syntax)?;
    if operation == Operation::Not && args.len() != 4 {
        return Err(Error::text("ERR BITOP NOT must be called with a single source key."));
    }
    if matches!(operation, Operation::Diff | Operation::Diff1 | Operation::AndOr) && args.len() < 5 {
        return Err(Error::text(format!("ERR BITOP {name} must be called with at least two source keys.")));
    }
    let dest = args.key(2);
    let mut texts: Vec<Text> = Vec::with_capacity(args.len() - 3);
    for i in 3..args.len() {
        texts.push(ctx.db.read_text(args.key(i))?.unwrap_or_default());
    }
    let sources: Vec<&[u8]> = texts.iter().map(|text| &**text).collect();
    let result = bits::combine(operation, &sources);
    drop(texts);
    let len = result.len();
    if len > 0 {
        if !known_to_all {
            ctx.feed.instead(&[b"SET", dest.bytes, result.as_slice()]);
        }
        ctx.db.set_raw_string(dest, result, Ttl::Clear);
        ctx.db.changed(dest, Event::string("set"), 1);
    } else if ctx.db.remove_for_empty_result(dest, false) {
        if !known_to_all {
            ctx.feed.instead(&[b"DEL", dest.bytes]);
        }
        ctx.db.changed(dest, Event::generic("del"), 1);
    }
    Ok(ctx.reply.int(len as i64))
}

// ---- integers ------------------------------------------------------------------------------------

const BITFIELD: Spec = Spec::data("bitfield", -2, bitfield)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::BITMAP)
    .keys(&[KeySpec::at(1)
        .flags(KeyFlags::RW.with(KeyFlags::UPDATE).with(KeyFlags::ACCESS).with(KeyFlags::VARIABLE_FLAGS))
        .notes("The key is only read when every operation is a `GET`")])
    .find_keys(bitfield_keys)
    .docs(Docs {
        summary: "Reads and writes integers of any width in a string.",
        since: "3.2.0",
        complexity: "O(1) per operation.",
        group: Group::Bitmap,
        args: &[
            Arg::key("key"),
            Arg::one_of(
                "operation",
                &[
                    GET_OPERATION,
                    Arg::block(
                        "write",
                        &[
                            Arg::one_of(
                                "overflow-block",
                                &[
                                    Arg::word("wrap", "WRAP"),
                                    Arg::word("sat", "SAT"),
                                    Arg::word("fail", "FAIL"),
                                ],
                            )
                            .token("OVERFLOW")
                            .optional(),
                            Arg::one_of(
                                "write-operation",
                                &[
                                    Arg::block(
                                        "set-block",
                                        &[
                                            Arg::string("encoding"),
                                            Arg::integer("offset"),
                                            Arg::integer("value"),
                                        ],
                                    )
                                    .token("SET"),
                                    Arg::block(
                                        "incrby-block",
                                        &[
                                            Arg::string("encoding"),
                                            Arg::integer("offset"),
                                            Arg::integer("increment"),
                                        ],
                                    )
                                    .token("INCRBY"),
                                ],
                            ),
                        ],
                    ),
                ],
            )
            .optional()
            .multiple(),
        ],
        ..Docs::NONE
    });

const GET_OPERATION: Arg =
    Arg::block("get-block", &[Arg::string("encoding"), Arg::integer("offset")]).token("GET");

/// Finds the key of a BITFIELD, which is only read if well-formed GETs are the only operations.
fn bitfield_keys(args: &Args<'_>, f: &mut dyn FnMut(usize, KeyFlags)) -> bool {
    let mut flags = KeyFlags::RO | KeyFlags::ACCESS;
    let mut i = 2;
    while i < args.len() {
        if args.is(i, "GET") && i + 2 < args.len() {
            i += 3;
        } else if args.is(i, "OVERFLOW") && i + 1 < args.len() {
            i += 2;
        } else {
            flags = KeyFlags::RW | KeyFlags::ACCESS | KeyFlags::UPDATE;
            break;
        }
    }
    f(1, flags);
    true
}

/// What an operation does to its field.
#[derive(Clone, Copy)]
enum Change {
    None,
    Set(i64),
    Add(i64),
}

/// One operation of BITFIELD.
#[derive(Clone, Copy)]
struct FieldOperation {
    field: Field,
    at: usize,
    change: Change,
    overflow: Overflow,
}

/// The operations of a request, parsed on each iteration: once to check them, once to run them, without storing
/// them in between.
struct Operations<'a> {
    args: Args<'a>,
    limits: &'a Limits,
    next: usize,
    overflow: Overflow,
}

impl<'a> Operations<'a> {
    fn new(ctx: &Ctx<'a>) -> Self {
        Operations { args: ctx.args, limits: ctx.limits, next: 2, overflow: Overflow::Wrap }
    }

    /// The operation whose name is argument `i`.
    fn read(&mut self, i: usize) -> Result<FieldOperation, Error> {
        let args = self.args;
        let gets = args.is(i, "GET");
        let adds = args.is(i, "INCRBY");
        let operands = match () {
            () if gets => 2,
            () if adds || args.is(i, "SET") => 3,
            () => return Err(Error::Syntax),
        };
        if i + operands >= args.len() {
            return Err(Error::Syntax);
        }
        self.next = i + operands + 1;
        let field = Field::parse(args.at(i + 1)).ok_or_else(|| {
            Error::text(
                "ERR Invalid bitfield type. Use something like i16 u8. \
                 Note that u64 is not supported but i64 is.",
            )
        })?;
        let at = offset(args.at(i + 2), Some(field.bits()), self.limits)?;
        let change = match () {
            () if gets => Change::None,
            () if adds => Change::Add(args.int(i + 3)?),
            () => Change::Set(args.int(i + 3)?),
        };
        Ok(FieldOperation { field, at, change, overflow: self.overflow })
    }

    /// The overflow behaviour named by argument `i`.
    fn overflow(&mut self, i: usize) -> Result<Overflow, Error> {
        let args = self.args;
        match () {
            () if i >= args.len() => Err(Error::Syntax),
            () if args.is(i, "WRAP") => Ok(Overflow::Wrap),
            () if args.is(i, "SAT") => Ok(Overflow::Saturate),
            () if args.is(i, "FAIL") => Ok(Overflow::Fail),
            () => Err(Error::text("ERR Invalid OVERFLOW type specified")),
        }
    }
}

impl Iterator for Operations<'_> {
    type Item = Result<FieldOperation, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next < self.args.len() {
            let i = self.next;
            if !self.args.is(i, "OVERFLOW") {
                return Some(self.read(i));
            }
            match self.overflow(i + 1) {
                Ok(overflow) => self.overflow = overflow,
                Err(error) => return Some(Err(error)),
            }
            self.next += 2;
        }
        None
    }
}

/// BITFIELD key [GET type offset | [OVERFLOW WRAP | SAT | FAIL] SET type offset value | INCRBY type offset
/// increment …] → one integer per operation: the new one for INCRBY, the old one for SET; null if an overflow made
/// the operation fail.
fn bitfield(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let (mut count, mut bytes_needed) = (0, 0);
    for operation in Operations::new(ctx) {
        let FieldOperation { field, at, change, .. } = operation?;
        count += 1;
        if !matches!(change, Change::None) {
            bytes_needed = bytes_needed.max((at + field.bits()).div_ceil(8));
        }
    }
    if bytes_needed == 0 {
        return read_fields(ctx, count);
    }
    let operations = Operations::new(ctx);
    let string = ctx.db.string_mut(key)?;
    let missing = bytes_needed.saturating_sub(string.len());
    string.append_zeros(missing);
    let grown = missing > 0;
    let mut changes = 0;
    let replied = ctx.reply.array(count);
    for operation in operations {
        let FieldOperation { field, at, change, overflow } = operation?;
        let old = field.read(string, at);
        let (new, answer) = match change {
            Change::None => (Some(old), Some(old)),
            Change::Set(value) => {
                let new = field.assign(value, overflow);
                (new, new.map(|_| old))
            }
            Change::Add(increment) => {
                let new = field.add(old, increment, overflow);
                (new, new)
            }
        };
        if let (Some(new), Change::Set(_) | Change::Add(_)) = (new, change) {
            field.write(string, at, new);
            changes += usize::from(grown || new != old);
        }
        match answer {
            Some(n) => ctx.reply.int(n),
            None => ctx.reply.null(),
        };
    }
    // A string that was extended has changed, even if every operation failed.
    ctx.db.changed(key, SETBIT_EVENT, changes.max(usize::from(grown)));
    Ok(replied)
}

const BITFIELD_RO: Spec = Spec::data("bitfield_ro", -2, bitfield_ro)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::BITMAP)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Reads integers of any width in a string.",
        since: "6.0.0",
        complexity: "O(1) per operation.",
        group: Group::Bitmap,
        args: &[Arg::key("key"), GET_OPERATION.optional().multiple().multiple_token()],
        ..Docs::NONE
    });

/// BITFIELD_RO key [GET type offset …] → one integer per operation.
fn bitfield_ro(ctx: &mut Ctx<'_>) -> CmdResult {
    let (mut count, mut writes) = (0, false);
    for operation in Operations::new(ctx) {
        writes |= !matches!(operation?.change, Change::None);
        count += 1;
    }
    if writes {
        return Err(Error::text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_fields(ctx, count)
}

/// Answers the `count` operations of a request, all of which are GETs.
fn read_fields(ctx: &mut Ctx<'_>, count: usize) -> CmdResult {
    let operations = Operations::new(ctx);
    let mut digits = itoa::Buffer::new();
    let text = ctx.db.read_string(ctx.args.key(1))?;
    let bytes = text.as_ref().map_or(&[][..], |text| text.text(&mut digits));
    let replied = ctx.reply.array(count);
    for operation in operations {
        let FieldOperation { field, at, .. } = operation?;
        ctx.reply.int(field.read(bytes, at));
    }
    Ok(replied)
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check};

    #[test]
    fn single_bits() {
        check(
            r#"
            SETBIT k 7 1
            SETBIT k 7 0
            GETBIT k 7
            SETBIT k 100 1
            STRLEN k
            GETBIT k 100
            GETBIT k 4000000000
            GETBIT nosuch 1
            SETBIT k -1 1
            SETBIT k 4294967296 1
            SETBIT k 1 2
            SET n 1
            SETBIT n 6 1
            GET n
            OBJECT ENCODING n
            RPUSH list a
            SETBIT list 0 1
            GETBIT list 0
            "#,
            r#"
            (integer) 0
            (integer) 1
            (integer) 0
            (integer) 0
            (integer) 13
            (integer) 1
            (integer) 0
            (integer) 0
            (error) ERR bit offset is not an integer or out of range
            (error) ERR bit offset is not an integer or out of range
            (error) ERR bit is not an integer or out of range
            OK
            (integer) 0
            "3"
            "raw"
            (integer) 1
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            "#,
        );
    }

    #[test]
    fn ranges_of_bits() {
        check(
            r#"
            SET k foobar
            BITCOUNT k
            BITCOUNT k 0 0
            BITCOUNT k 5 30 BIT
            BITCOUNT k 1 -2 BYTE
            BITCOUNT k -2 -4 FOO
            BITCOUNT k 0 1 FOO
            BITCOUNT k 0
            BITCOUNT nosuch 0 1
            SET k "\xff\xf0\x00"
            BITPOS k 0
            BITPOS k 1 2
            BITPOS k 1 0 -1 BIT
            BITPOS k 0 13 -1 BIT
            BITPOS k 2
            BITPOS k 1 0 x FOO
            SET k "\xff\xff"
            BITPOS k 0
            BITPOS k 0 0 -1
            BITPOS k 0 5
            BITPOS nosuch 0
            BITPOS nosuch 1
            SET e ""
            BITPOS e 0
            RPUSH list a
            BITCOUNT list
            BITPOS list 1
            "#,
            r#"
            OK
            (integer) 26
            (integer) 4
            (integer) 17
            (integer) 18
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            (integer) 0
            OK
            (integer) 12
            (integer) -1
            (integer) 0
            (integer) 13
            (error) ERR The bit argument must be 1 or 0.
            (error) ERR syntax error
            OK
            (integer) 16
            (integer) -1
            (integer) -1
            (integer) 0
            (integer) -1
            OK
            (integer) -1
            (integer) 1
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            "#,
        );
    }

    /// Invalid arguments are an error whatever the key holds.
    #[test]
    fn ranges_are_judged_before_the_key() {
        let mut harness = Harness::default();
        harness.run("RPUSH list a");
        harness.run("SET text abc");
        for key in ["list", "text", "nosuch"] {
            for (request, error) in [
                ("BITCOUNT {} a b", "value is not an integer or out of range"),
                ("BITCOUNT {} 0 b", "value is not an integer or out of range"),
                ("BITCOUNT {} 0", "syntax error"),
                ("BITCOUNT {} 0 1 FOO", "syntax error"),
                ("BITCOUNT {} 0 1 BIT x", "syntax error"),
                ("BITCOUNT {} -1 -2 FOO", "syntax error"),
                ("BITPOS {} 2", "The bit argument must be 1 or 0."),
                ("BITPOS {} 1 a", "value is not an integer or out of range"),
                ("BITPOS {} 1 0 b", "value is not an integer or out of range"),
                ("BITPOS {} 1 0 b FOO", "syntax error"),
                ("BITPOS {} 1 a 1 FOO", "value is not an integer or out of range"),
                ("BITPOS {} 1 0 1 BIT 3", "syntax error"),
                ("BITPOS {} 1 a 1 BIT 3", "syntax error"),
            ] {
                let request = request.replace("{}", key);
                assert_eq!(harness.run(&request), format!("(error) ERR {error}"), "{request}");
            }
        }
    }

    #[test]
    fn the_first_string_against_the_others() {
        check(
            r#"
            MSET x "\x0f\xff" y "\x03" z "\x06\x80\x01"
            BITOP DIFF r x y z
            GET r
            BITOP DIFF1 r x y z
            GET r
            BITOP ANDOR r x y z
            GET r
            BITOP ONE r x y z
            GET r
            BITOP one r y
            GET r
            BITOP DIFF r x
            BITOP diff1 r x
            BITOP ANDOR r x
            BITOP DIFF r nosuch none
            EXISTS r
            "#,
            r#"
            OK
            (integer) 3
            "\b\x7f\x00"
            (integer) 3
            "\x00\x00\x01"
            (integer) 3
            "\a\x80\x00"
            (integer) 3
            "\b\x7f\x01"
            (integer) 1
            "\x03"
            (error) ERR BITOP DIFF must be called with at least two source keys.
            (error) ERR BITOP DIFF1 must be called with at least two source keys.
            (error) ERR BITOP ANDOR must be called with at least two source keys.
            (integer) 0
            (integer) 0
            "#,
        );
    }

    #[test]
    fn combining_strings() {
        check(
            r#"
            MSET a "\x01\x02\xff" b "\x03"
            BITOP AND r a b
            GET r
            BITOP OR r a b nosuch
            GET r
            BITOP XOR r a b
            GET r
            BITOP NOT a a
            GET a
            SET n 5
            BITOP OR n n
            OBJECT ENCODING n
            BITOP NOT r a b
            BITOP FOO r a
            BITOP AND r nosuch
            EXISTS r
            RPUSH list a
            BITOP AND r list
            BITOP AND list nosuch
            EXISTS list
            "#,
            r#"
            OK
            (integer) 3
            "\x01\x00\x00"
            (integer) 3
            "\x03\x02\xff"
            (integer) 3
            "\x02\x02\xff"
            (integer) 3
            "\xfe\xfd\x00"
            OK
            (integer) 1
            "raw"
            (error) ERR BITOP NOT must be called with a single source key.
            (error) ERR syntax error
            (integer) 0
            (integer) 0
            (integer) 1
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (integer) 0
            (integer) 0
            "#,
        );
    }

    #[test]
    fn integers_in_strings() {
        check(
            r#"
            BITFIELD k INCRBY i5 100 1 GET u4 0
            BITFIELD k SET u8 #0 65 SET u8 #1 66 GET u16 0
            GET k
            BITFIELD k INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 5
            BITFIELD k OVERFLOW FAIL INCRBY u2 102 1 SET u2 102 4
            BITFIELD k OVERFLOW SAT SET i8 0 -9223372036854775808 GET i8 0
            BITFIELD k GET i64 4000000000
            BITFIELD k
            BITFIELD k GET u64 0
            BITFIELD k GET u8 -1
            BITFIELD k GET u8 #536870912
            BITFIELD k SET u8 0 x
            BITFIELD k OVERFLOW x
            BITFIELD k GET u8
            BITFIELD_RO k GET u8 0 GET u8 #1
            BITFIELD_RO k SET u8 0 1
            BITFIELD new OVERFLOW FAIL INCRBY u2 0 10
            STRLEN new
            RPUSH list a
            BITFIELD list
            BITFIELD list SET u8 0 1
            BITFIELD_RO list GET u8 0
            "#,
            r#"
            1) (integer) 1
            2) (integer) 0
            1) (integer) 0
            2) (integer) 0
            3) (integer) 16706
            "AB\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80"
            1) (integer) 1
            2) (integer) 3
            1) (nil)
            2) (nil)
            1) (integer) 65
            2) (integer) 127
            1) (integer) 0
            (empty array)
            (error) ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
            (error) ERR bit offset is not an integer or out of range
            (error) ERR bit offset is not an integer or out of range
            (error) ERR value is not an integer or out of range
            (error) ERR Invalid OVERFLOW type specified
            (error) ERR syntax error
            1) (integer) 127
            2) (integer) 66
            (error) ERR BITFIELD_RO only supports the GET subcommand
            1) (nil)
            (integer) 1
            (integer) 1
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            "#,
        );
    }

    #[test]
    fn only_a_difference_counts_as_a_change() {
        let mut harness = Harness::default();
        let mut dirty = |line: &str| {
            let before = harness.server.keyspace.ledger.dirty;
            harness.run(line);
            harness.server.keyspace.ledger.dirty - before
        };
        assert_eq!(dirty("SETBIT k 0 0"), 1);
        assert_eq!(dirty("SETBIT k 0 0"), 0);
        assert_eq!(dirty("SETBIT k 0 1"), 1);
        assert_eq!(dirty("SETBIT k 90 0"), 1);
        assert_eq!(dirty("BITFIELD f SET i5 0 0"), 1);
        assert_eq!(dirty("BITFIELD f SET i5 0 0"), 0);
        assert_eq!(dirty("BITFIELD f SET i5 0 1 INCRBY i5 0 1"), 2);
        assert_eq!(dirty("BITFIELD f SET i5 90 0"), 1);
        assert_eq!(dirty("BITFIELD f OVERFLOW FAIL INCRBY u1 200 2"), 1);
        assert_eq!(dirty("BITFIELD f OVERFLOW FAIL INCRBY u1 200 2"), 0);
        assert_eq!(dirty("BITFIELD f GET i5 0"), 0);
    }
}
