//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! Between MULTI and EXEC, requests are checked and queued; EXEC runs them one after the other with nothing in
//! between. After an error while queueing, EXEC runs nothing; an error while running does not stop the rest.

use std::sync::Arc;

use crate::clients::watch::WATCH_BYTES;
use crate::clients::{ClientFlags, ClientKey};
use crate::keyspace::Listeners;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::server::execution::feed::Feed;
use crate::stdx::hash::Key;

/// Table entries of the transaction commands.
pub const COMMANDS: &[Spec] = &[DISCARD, EXEC, MULTI, UNWATCH, WATCH];

const ANYTIME: Flags = Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::ALLOW_BUSY);

const MULTI: Spec = Spec::admin("multi", 1, multi)
    .flags(ANYTIME.with(Flags::FAST).with(Flags::RUNS_IN_MULTI).with(Flags::LOGGED))
    .acl(Acl::TRANSACTION)
    .docs(Docs {
        summary: "Begins a transaction.",
        since: "1.2.0",
        complexity: "O(1)",
        group: Group::Transactions,
        ..Docs::NONE
    });

/// MULTI → OK. Queues the following requests for EXEC.
fn multi(server: &mut Server, key: ClientKey, _args: Args<'_>) -> CmdResult {
    let client = &mut server.clients[key];
    if client.flags.has(ClientFlags::IN_MULTI) {
        return Err(Error::text("ERR MULTI calls can not be nested"));
    }
    client.flags.set(ClientFlags::IN_MULTI, true);
    client.transaction = Some(Arc::default());
    Ok(server.reply(key).ok())
}

const DISCARD: Spec = Spec::admin("discard", 1, discard)
    .flags(ANYTIME.with(Flags::FAST).with(Flags::RUNS_IN_MULTI).with(Flags::LEAVES_MULTI))
    .acl(Acl::TRANSACTION)
    .docs(Docs {
        summary: "Gives a transaction up.",
        since: "2.0.0",
        complexity: "O(N) for N queued commands.",
        group: Group::Transactions,
        ..Docs::NONE
    });

/// DISCARD → OK. Drops the queue and the watches.
fn discard(server: &mut Server, key: ClientKey, _args: Args<'_>) -> CmdResult {
    if !server.clients[key].flags.has(ClientFlags::IN_MULTI) {
        return Err(Error::text("ERR DISCARD without MULTI"));
    }
    server.end_transaction(key);
    Ok(server.reply(key).ok())
}

const EXEC: Spec = Spec::admin("exec", 1, exec)
    .flags(
        Flags::NOSCRIPT
            .with(Flags::LOADING)
            .with(Flags::STALE)
            .with(Flags::SKIP_SLOWLOG)
            .with(Flags::RUNS_IN_MULTI)
            .with(Flags::ENDS_MULTI)
            .with(Flags::LOGGED)
            .with(Flags::BARRIER)
            .with(Flags::LEAVES_MULTI),
    )
    .acl(Acl::TRANSACTION)
    .docs(Docs {
        summary: "Runs the commands of a transaction.",
        since: "1.2.0",
        complexity: "That of the commands.",
        group: Group::Transactions,
        ..Docs::NONE
    });

/// EXEC → replies of the queued requests, or null if a watched key has changed.
fn exec(server: &mut Server, key: ClientKey, _args: Args<'_>) -> CmdResult {
    if !server.clients[key].flags.has(ClientFlags::IN_MULTI) {
        return Err(Error::text("ERR EXEC without MULTI"));
    }
    let watch_broken = server.watch_is_broken(key);
    let Some(transaction) = server.clients[key].transaction.clone() else {
        return Err(Error::text("ERR EXEC without MULTI"));
    };
    if transaction.broken {
        server.end_transaction(key);
        return Err(Error::text("EXECABORT Transaction discarded because of previous errors."));
    }
    if watch_broken {
        server.end_transaction(key);
        return Ok(server.reply(key).null_array());
    }
    // The queued commands may change the watched keys.
    server.unwatch(key);
    let replied = server.reply(key).array(transaction.len());
    server.run_transaction(key, &transaction);
    server.end_transaction(key);
    // Its commands are passed on; it is not.
    server.execution.feed = Feed::Nothing;
    Ok(replied)
}

const WATCH: Spec = Spec::admin("watch", -2, watch)
    .flags(ANYTIME.with(Flags::FAST).with(Flags::RUNS_IN_MULTI))
    .acl(Acl::TRANSACTION)
    .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KeyFlags::RO)])
    .docs(Docs {
        summary: "Makes the next transaction depend on keys staying as they are.",
        since: "2.2.0",
        complexity: "O(1) per key.",
        group: Group::Transactions,
        args: &[Arg::key("key").multiple()],
        ..Docs::NONE
    });

/// WATCH key [key …] → OK.
fn watch(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if server.clients[key].flags.has(ClientFlags::IN_MULTI) {
        return Err(Error::text("ERR WATCH inside MULTI is not allowed"));
    }
    // A broken watch stays broken.
    if !server.clients[key].flags.has(ClientFlags::WATCH_BROKEN) {
        let db = server.clients[key].db;
        for watched in args.rest(1).iter() {
            let existed = server.keyspace.db(db as usize).exists_now(Key::new(watched));
            if server.clients.watches.add(key, db, watched, existed) {
                let client = &mut server.clients[key];
                client.watched.push((db, watched.into()));
                client.watched_bytes += WATCH_BYTES + 2 * watched.len();
            }
        }
        server.keyspace.ledger.listeners.set(Listeners::WATCH, true);
    }
    Ok(server.reply(key).ok())
}

const UNWATCH: Spec =
    Spec::admin("unwatch", 1, unwatch).flags(ANYTIME.with(Flags::FAST)).acl(Acl::TRANSACTION).docs(Docs {
        summary: "Forgets all watched keys.",
        since: "2.2.0",
        complexity: "O(1)",
        group: Group::Transactions,
        ..Docs::NONE
    });

/// UNWATCH → OK.
fn unwatch(server: &mut Server, key: ClientKey, _args: Args<'_>) -> CmdResult {
    server.unwatch(key);
    Ok(server.reply(key).ok())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::commands::testing::{Harness, check, check_with};
    use crate::config::Config;
    use crate::config::value::DebugAccess;

    #[test]
    fn a_transaction_is_refused_where_one_of_its_commands_would_be() {
        let mut harness = Harness::default();
        let other = harness.connect();
        assert_eq!(harness.run("CONFIG SET replica-serve-stale-data no"), "OK");
        let requests =
            [("PING", false), ("GET k", false), ("EVAL \"return 1\" 0", false), ("INFO server", true)];
        for (queued, ends) in requests {
            assert_eq!(harness.run("MULTI"), "OK");
            assert_eq!(harness.run(queued), "QUEUED");
            assert_eq!(harness.run_as(other, "REPLICAOF 127.0.0.1 1"), "OK");
            let reply = harness.run("EXEC");
            const REFUSED: &str = "(error) EXECABORT Transaction discarded because of: MASTERDOWN Link with MASTER is \
                                   down and replica-serve-stale-data is set to 'no'.";
            assert_eq!(reply != REFUSED, ends, "{queued}: {reply}");
            assert_eq!(harness.run_as(other, "REPLICAOF NO ONE"), "OK");
        }
    }

    #[test]
    fn replies_come_together() {
        check(
            "MULTI\nSET a 1\nGET a\nEXEC\nGET a",
            r#"
            OK
            QUEUED
            QUEUED
            1) OK
            2) "1"
            "1"
            "#,
        );
    }

    #[test]
    fn an_error_while_queueing_stops_all_and_one_while_running_stops_nothing() {
        check(
            "MULTI\nSET a 1\nNOSUCH\nEXEC\nGET a\nEXEC\nDISCARD",
            r#"
            OK
            QUEUED
            (error) ERR unknown command 'NOSUCH', with args beginning with:
            (error) EXECABORT Transaction discarded because of previous errors.
            (nil)
            (error) ERR EXEC without MULTI
            (error) ERR DISCARD without MULTI
            "#,
        );
    }

    #[test]
    fn a_key_that_was_due_when_the_watch_began_may_go() {
        let mut harness = Harness::default();
        harness.server.expire.paused = true;
        for (command, expected) in
            [("SINTERSTORE k a", "(empty array)"), ("DEL k", "(empty array)"), ("SET k v", "(nil)")]
        {
            check_with(&mut harness, "SET k v PX 1", "OK");
            std::thread::sleep(Duration::from_millis(3));
            harness.run("WATCH k");
            harness.run(command);
            check_with(&mut harness, "MULTI\nEXEC", &format!("OK\n{expected}"));
        }
    }

    #[test]
    fn time_stands_still_in_a_transaction() {
        let mut config = Config::default();
        config.security.enable_debug_command = DebugAccess::Local;
        let mut harness = Harness::new(config);
        check_with(
            &mut harness,
            "MULTI\nSET k v PX 5\nDEBUG SLEEP 0.02\nGET k\nEXEC\nGET k",
            r#"
            OK
            QUEUED
            QUEUED
            QUEUED
            1) OK
            2) OK
            3) "v"
            (nil)
            "#,
        );
    }

    #[test]
    fn a_changed_key_breaks_the_watch() {
        check(
            "WATCH a\nSET a 2\nMULTI\nGET a\nEXEC\nMULTI\nGET a\nEXEC\nWATCH a\nUNWATCH\nSET a 3\nMULTI\nGET a\nEXEC",
            r#"
            OK
            OK
            OK
            QUEUED
            (nil)
            OK
            QUEUED
            1) "2"
            OK
            OK
            OK
            OK
            QUEUED
            1) "3"
            "#,
        );
    }

    #[test]
    fn a_transaction_that_runs_is_seen_as_one() {
        let mut harness = Harness::default();
        check_with(&mut harness, "MULTI\nPING\nCLIENT INFO", "OK\nQUEUED\nQUEUED");
        let ran = harness.run("EXEC");
        assert!(
            ran.contains(" flags=xU ") && ran.contains(" multi=2 ") && ran.contains(" cmd=exec "),
            "{ran}"
        );
        let after = harness.run("CLIENT INFO");
        assert!(after.contains(" flags=U ") && after.contains(" multi=-1 "), "{after}");
    }

    #[test]
    fn what_will_not_run_is_not_kept() {
        let mut harness = Harness::default();
        harness.run("WATCH k");
        harness.run("MULTI");
        harness.run("GET k");
        harness.run("NOSUCH");
        check_with(&mut harness, "GET k", "QUEUED");
        let kept = harness.server.clients[harness.client].transaction.as_ref().map(|kept| kept.len());
        assert_eq!(kept, Some(1));
        check_with(
            &mut harness,
            "EXEC x",
            "(error) EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
        );
        assert!(harness.server.clients[harness.client].watched.is_empty());
    }
}
