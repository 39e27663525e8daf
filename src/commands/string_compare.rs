//! Commands that compare a string before they change its key, and the digests that save sending a long one.
//!
//! The digest of a string is its 64-bit XXH3 in sixteen hexadecimal digits, so that clients can compute it without
//! asking. What is propagated is the outcome, not the comparison: servers that know no comparison understand it.

use crate::keyspace::Event;
use crate::resp::{Args, Error};
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::hash::Key;
use crate::stdx::xxh3::xxh3_64;
use crate::types::string::StringRef;

/// Table entries of the commands that compare, except SET.
pub const COMMANDS: &[Spec] = &[DELEX, DELIFEQ, DIGEST];

/// Digits of a digest.
const DIGITS: usize = 16;

/// The digest of a string, as text.
fn digest(text: &StringRef<'_>) -> [u8; DIGITS] {
    let mut hash = xxh3_64(text.text(&mut itoa::Buffer::new()));
    let mut digits = [0; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(hash & 15) as usize];
        hash >>= 4;
    }
    digits
}

/// A condition on the string under a key: that it equals an argument, or has the digest that an argument is, or the
/// opposite.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Index of the argument.
    pub at: usize,
    by_digest: bool,
    negated: bool,
}

impl Comparison {
    /// The comparison that argument `i` names, with the argument behind it; `None` if that is missing, or the word is
    /// another.
    pub(super) fn at(args: &Args<'_>, i: usize) -> Option<Comparison> {
        const WORDS: [(&str, bool, bool); 4] =
            [("IFEQ", false, false), ("IFNE", false, true), ("IFDEQ", true, false), ("IFDNE", true, true)];
        let (_, by_digest, negated) = WORDS.into_iter().find(|(word, ..)| args.is(i, word))?;
        (i + 1 < args.len()).then_some(Comparison { at: i + 1, by_digest, negated })
    }

    /// # Errors
    /// If the argument is no digest where it should be one.
    pub(super) fn validate(self, args: &Args<'_>) -> Result<(), Error> {
        let text = args.at(self.at);
        if self.by_digest && (text.len() != DIGITS || !text.iter().all(u8::is_ascii_hexdigit)) {
            return Err(Error::text("ERR must be exactly 16 hexadecimal characters"));
        }
        Ok(())
    }

    /// Whether the string under `key` meets the condition. A missing one differs from every string.
    ///
    /// # Errors
    /// If the value is no string.
    pub(super) fn holds(self, ctx: &mut Ctx<'_>, key: Key<'_>) -> Result<bool, Error> {
        let expected = ctx.args.at(self.at);
        let Some(text) = ctx.db.find_string(key)? else { return Ok(self.negated) };
        let same = if self.by_digest {
            digest(&text).eq_ignore_ascii_case(expected)
        } else {
            text.text(&mut itoa::Buffer::new()) == expected
        };
        Ok(same != self.negated)
    }
}

/// The alternatives of a condition, for documentation.
pub(super) const COMPARISONS: [Arg; 4] = [
    Arg::string("ifeq-value").token("IFEQ").since("8.4.0").summary("The present string equals this one."),
    Arg::string("ifne-value")
        .token("IFNE")
        .since("8.4.0")
        .summary("The present string differs from this one."),
    Arg::string("ifdeq-digest").token("IFDEQ").since("8.4.0").summary("The present string has this digest."),
    Arg::string("ifdne-digest")
        .token("IFDNE")
        .since("8.4.0")
        .summary("The present string has another digest."),
];

const DIGEST: Spec = Spec::data("digest", 2, digest_of)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .docs(Docs {
        summary: "Answers the digest of a string.",
        since: "8.4.0",
        complexity: "O(N) for N bytes.",
        group: Group::String,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// DIGEST key → sixteen hexadecimal digits, or null.
fn digest_of(ctx: &mut Ctx<'_>) -> CmdResult {
    let Some(text) = ctx.db.read_string(ctx.args.key(1))? else { return Ok(ctx.reply.null()) };
    Ok(ctx.reply.bulk(&digest(&text)))
}

const DELEX: Spec = Spec::data("delex", -2, delex)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::DELETE).with(KeyFlags::VARIABLE_FLAGS))])
    .find_keys(delex_keys)
    .docs(Docs {
        summary: "Removes a key, perhaps only if its string or the digest of it is the expected one.",
        since: "8.4.0",
        complexity: "O(N) for N bytes to compare.",
        group: Group::String,
        args: &[
            Arg::key("key"),
            Arg::one_of("condition", &[COMPARISONS[0], COMPARISONS[1], COMPARISONS[2], COMPARISONS[3]])
                .optional(),
        ],
        ..Docs::NONE
    });

/// Finds the key of a DELEX, which is read only with a condition.
fn delex_keys(args: &Args<'_>, f: &mut dyn FnMut(usize, KeyFlags)) -> bool {
    let access = if args.len() > 2 { KeyFlags::RW | KeyFlags::ACCESS } else { KeyFlags::RM };
    f(1, access | KeyFlags::DELETE);
    true
}

/// DELEX key [IFEQ value | IFNE value | IFDEQ digest | IFDNE digest] → 1 if the key was removed, else 0.
fn delex(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let removes = match ctx.args.len() {
        2 => ctx.db.contains(key),
        4 => {
            let comparison = Comparison::at(&ctx.args, 2).ok_or(Error::Syntax)?;
            comparison.validate(&ctx.args)?;
            comparison.holds(ctx, key)? && ctx.db.contains(key)
        }
        _ => return Err(Error::arity(ctx.name)),
    };
    if removes {
        let lazily = ctx.db.space().lazy.user_del;
        ctx.db.remove(key, lazily);
        ctx.db.changed(key, Event::generic("del"), 1);
        ctx.feed.instead(&[b"DEL", key.bytes]);
    }
    Ok(ctx.reply.int(i64::from(removes)))
}

const DELIFEQ: Spec = Spec::data("delifeq", 3, delifeq)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RM.with(KeyFlags::DELETE))])
    .docs(Docs {
        summary: "Removes a key whose string equals the given one.",
        since: "9.0.0",
        complexity: "O(1)",
        group: Group::String,
        args: &[Arg::key("key"), Arg::string("value")],
        ..Docs::NONE
    });

/// DELIFEQ key value → 1 if the key was removed, else 0.
fn delifeq(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let equal = Comparison { at: 2, by_digest: false, negated: false }.holds(ctx, key)?;
    if equal {
        ctx.db.remove(key, false);
        ctx.db.changed(key, Event::generic("del"), 1);
        ctx.feed.instead(&[b"DEL", key.bytes]);
    }
    Ok(ctx.reply.int(i64::from(equal)))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::check;

    #[test]
    fn removing_what_is_as_expected() {
        check(
            r#"
            SET k "Hello world"
            DIGEST k
            DELEX k IFEQ x
            DELEX k IFNE "Hello world"
            DELEX k IFDEQ 0000000000000000
            DELEX k IFDNE B6ACB9D84A38FF74
            DELEX k IFDEQ B6acB9D84A38FF74
            EXISTS k
            DIGEST k
            DELEX k IFNE x
            DELEX k IFDNE 0000000000000000
            SET n 12
            DIGEST n
            DELEX n IFNE 12
            DELEX n IFEQ 12
            RPUSH l a
            DELEX l IFEQ a
            DIGEST l
            DELEX l
            DELEX l
            SET k v
            DELEX k IFEQ
            DELEX k IFEQ v x
            DELEX k EX v
            DELEX k IFDEQ 123
            DELEX k IFDEQ xxxxxxxxxxxxxxxx
            DELIFEQ k w
            DELIFEQ k v
            DELIFEQ k v
            COMMAND GETKEYSANDFLAGS DELEX k
            COMMAND GETKEYSANDFLAGS DELEX k IFEQ v
            "#,
            r#"
            OK
            "b6acb9d84a38ff74"
            (integer) 0
            (integer) 0
            (integer) 0
            (integer) 0
            (integer) 1
            (integer) 0
            (nil)
            (integer) 0
            (integer) 0
            OK
            "7ecd2e572c949f74"
            (integer) 0
            (integer) 1
            (integer) 1
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (integer) 1
            (integer) 0
            OK
            (error) ERR wrong number of arguments for 'delex' command
            (error) ERR wrong number of arguments for 'delex' command
            (error) ERR syntax error
            (error) ERR must be exactly 16 hexadecimal characters
            (error) ERR must be exactly 16 hexadecimal characters
            (integer) 0
            (integer) 1
            (integer) 0
            1) 1) "k"
               2) 1) RM
                  2) delete
            1) 1) "k"
               2) 1) RW
                  2) access
                  3) delete
            "#,
        );
    }

    #[test]
    fn storing_over_what_is_as_expected() {
        check(
            r#"
            SET k a
            SET k b IFEQ a
            SET k c IFEQ a
            SET k c IFEQ a GET
            SET k c IFEQ b GET
            SET k d IFNE c
            SET k d IFNE x
            SET new d IFNE x GET
            SET none d IFEQ x
            SET none d IFDEQ 0000000000000000
            SET none d IFDNE 0000000000000000
            DIGEST k
            SET k e IFDEQ 55B9FC9CDCD54F4D
            SET k e IFDNE 0000000000000000 EX 100
            TTL k
            SET k f IFNE e KEEPTTL
            SET k f IFNE x KEEPTTL
            TTL k
            GET k
            SET k d IFEQ c NX
            SET k d XX IFNE c
            SET k d IFEQ c IFNE d
            SET k d IFEQ
            SET k d IFDEQ c
            RPUSH list a
            SET list x IFNE a
            SET list x IFDEQ 0000000000000000
            COMMAND GETKEYSANDFLAGS SET k v
            COMMAND GETKEYSANDFLAGS SET k v IFEQ w
            "#,
            r#"
            OK
            OK
            (nil)
            "b"
            "b"
            (nil)
            OK
            (nil)
            (nil)
            (nil)
            OK
            "45f80274c9c7a7ca"
            (nil)
            OK
            (integer) 100
            (nil)
            OK
            (integer) 100
            "f"
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR must be exactly 16 hexadecimal characters
            (integer) 1
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            1) 1) "k"
               2) 1) OW
                  2) update
            1) 1) "k"
               2) 1) RW
                  2) access
                  3) update
            "#,
        );
    }
}
