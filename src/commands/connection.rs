//! Commands about the connection itself.

use crate::server::command::{CmdResult, Ctx, Flags, Spec};

pub const COMMANDS: &[Spec] = &[PING];

const PING: Spec = Spec::data("ping", -1, ping).flags(Flags::FAST);

/// PING [message] → PONG, or the message.
fn ping(ctx: &mut Ctx<'_>) -> CmdResult {
    Ok(match ctx.args.get(1) {
        None => ctx.reply.simple("PONG"),
        Some(message) => ctx.reply.bulk(message),
    })
}
