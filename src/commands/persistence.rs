//! SAVE, BGSAVE, LASTSAVE, BGREWRITEAOF: writing the data to files on demand.

use crate::clients::ClientKey;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, Group, Spec};
use crate::server::durability::child::Task;

/// Table entries of the persistence commands.
pub const COMMANDS: &[Spec] = &[BGREWRITEAOF, BGSAVE, LASTSAVE, SAVE];

const SAVE: Spec = Spec::admin("save", 1, save)
    .flags(Flags::NO_ASYNC_LOADING.with(Flags::ADMIN).with(Flags::NOSCRIPT).with(Flags::NO_MULTI))
    .docs(Docs {
        summary: "Takes a snapshot while everybody waits.",
        since: "1.0.0",
        complexity: "O(N) for N keys in all databases",
        group: Group::Server,
        ..Docs::NONE
    });

/// SAVE → OK, once the snapshot is on disk.
fn save(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.scripts.refuse_while_running()?;
    if server.children.any_for(Task::Rdb) {
        return Err(in_progress());
    }
    server.save_now().map_err(|_| Error::text("ERR"))?;
    Ok(server.reply(key).ok())
}

fn in_progress() -> Error {
    Error::text("ERR Background save already in progress")
}

const BGSAVE: Spec = Spec::admin("bgsave", -1, bgsave)
    .flags(Flags::NO_ASYNC_LOADING.with(Flags::ADMIN).with(Flags::NOSCRIPT))
    .docs(Docs {
        summary: "Takes a snapshot in the background.",
        since: "1.0.0",
        complexity: "O(1), but for the copy of the page tables",
        group: Group::Server,
        history: &[("3.2.2", "Added the option `SCHEDULE`.")],
        args: &[Arg::word("schedule", "SCHEDULE").since("3.2.2").optional()],
        ..Docs::NONE
    });

/// BGSAVE [SCHEDULE] → a status: a child process has started, or will start after the running one.
fn bgsave(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let schedule = match args.len() {
        1 => false,
        2 if args.is(1, "SCHEDULE") => true,
        _ => return Err(Error::Syntax),
    };
    if server.children.any_for(Task::Rdb) {
        return Err(in_progress());
    }
    // A transaction is not interrupted for a fork, which takes its time.
    let in_exec = server.execution.depth > 0;
    if server.children.any() || in_exec {
        if !schedule && !in_exec {
            return Err(Error::text(
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to \
                 schedule a BGSAVE whenever possible.",
            ));
        }
        server.persistence.scheduled = true;
        return Ok(server.reply(key).simple("Background saving scheduled"));
    }
    server.save_in_background().map_err(|_| Error::text("ERR"))?;
    Ok(server.reply(key).simple("Background saving started"))
}

const BGREWRITEAOF: Spec = Spec::admin("bgrewriteaof", 1, bgrewriteaof)
    .flags(Flags::NO_ASYNC_LOADING.with(Flags::ADMIN).with(Flags::NOSCRIPT))
    .docs(Docs {
        summary: "Writes the append-only file anew, in the background.",
        since: "1.0.0",
        complexity: "O(1), but for the copy of the page tables",
        group: Group::Server,
        ..Docs::NONE
    });

/// BGREWRITEAOF → a status: a child process has started, or will start after the running one.
fn bgrewriteaof(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    if server.children.any_for(Task::Aof) {
        return Err(Error::text("ERR Background append only file rewriting already in progress"));
    }
    if server.children.any() || server.execution.depth > 0 {
        // Asked for by hand, it need not wait until failures are forgotten.
        server.aof.forget_failures();
        server.aof.rewrite_scheduled = true;
        return Ok(server.reply(key).simple("Background append only file rewriting scheduled"));
    }
    server.rewrite_aof().map_err(|_| {
        Error::text(
            "ERR Can't execute an AOF background rewriting. Please check the server logs for more information.",
        )
    })?;
    Ok(server.reply(key).simple("Background append only file rewriting started"))
}

const LASTSAVE: Spec = Spec::admin("lastsave", 1, lastsave)
    .flags(Flags::LOADING.with(Flags::STALE).with(Flags::FAST))
    .acl(Acl::ADMIN.with(Acl::DANGEROUS))
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Tells when the data were last saved.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// LASTSAVE → Unix time of the last snapshot, or of the start if there is none.
fn lastsave(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let at = server.persistence.saved_at.as_secs();
    Ok(server.reply(key).int(at))
}
