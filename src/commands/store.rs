//! Storing of results, as in `SINTERSTORE`.

use crate::keyspace::Event;
use crate::server::command::{CmdResult, Ctx};
use crate::stdx::hash::Key;
use crate::types::Collection;

/// Stores `result` under `key`, replacing any value; an empty result removes the key. Replies with the number of
/// elements and counts one change. O(1) plus freeing the old value.
pub fn store<T: Collection>(ctx: &mut Ctx<'_>, key: Key<'_>, result: T, event: Event) -> CmdResult {
    store_counting(ctx, key, result, event, 1)
}

/// As [`store`], but counts `changes` if the result is not empty.
pub fn store_counting<T: Collection>(
    ctx: &mut Ctx<'_>,
    key: Key<'_>,
    result: T,
    event: Event,
    changes: usize,
) -> CmdResult {
    let len = result.len();
    if len > 0 {
        ctx.db.set_collection(key, result, None);
        ctx.db.changed(key, event, changes);
    } else {
        let lazily = ctx.db.space().lazy.server_del;
        if ctx.db.remove_for_empty_result(key, lazily) {
            ctx.db.changed(key, Event::generic("del"), 1);
        }
    }
    Ok(ctx.reply.int(len as i64))
}
