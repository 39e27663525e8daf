//! Commands on strings.

use std::sync::Arc;

use crate::keyspace::{Event, Ttl};
use crate::server::command::{CmdResult, Ctx, Flags, KeyFlags, KeySpec, Spec};
use crate::stdx::num;
use crate::types::Value;
use crate::types::string::StringRef;

pub const COMMANDS: &[Spec] = &[GET, SET];

const GET: Spec = Spec::data("get", 2, get)
    .flags(Flags::READONLY.with(Flags::FAST))
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))]);

/// GET key → the string, or null.
fn get(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    Ok(match ctx.db.read_string(key)? {
        None => ctx.reply.null(),
        Some(StringRef::Bytes(bytes)) => ctx.reply.bulk(bytes),
        Some(StringRef::Int(n)) => ctx.reply.bulk_int(n),
    })
}

const SET: Spec = Spec::data("set", -3, set)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::UPDATE))]);

/// SET key value → OK.
fn set(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    let value = value_arg(ctx, 2);
    ctx.db.set_string(key, value, Ttl::Clear);
    ctx.db.changed(key, Event::string("set"), 1);
    Ok(ctx.reply.ok())
}

/// Argument `i` as a value: an integer where the text is one, shared where it was received apart.
fn value_arg<'a>(ctx: &Ctx<'a>, i: usize) -> Value<'a> {
    let bytes = ctx.args.at(i);
    if let Some(shared) = ctx.args.shared(i) {
        return Value::Shared(Arc::clone(shared));
    }
    match num::parse_i64(bytes) {
        Some(n) => Value::Int(n),
        None => Value::Bytes(bytes),
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::check;

    #[test]
    fn get_answers_what_was_set() {
        check(
            r#"
            SET k hello
            GET k
            SET k 12
            GET k
            GET nosuch
            SET k
            "#,
            r#"
            OK
            "hello"
            OK
            "12"
            (nil)
            (error) ERR wrong number of arguments for 'set' command
            "#,
        );
    }
}
