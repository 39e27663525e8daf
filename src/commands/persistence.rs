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
    if server.children.any_for_snapshot() {
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
        history: &[("3.2.2", "Added the option `SCHEDULE`."), ("8.1.0", "Added the option `CANCEL`.")],
        args: &[Arg::one_of(
            "operation",
            &[Arg::word("schedule", "SCHEDULE").since("3.2.2"), Arg::word("cancel", "CANCEL").since("8.1.0")],
        )
        .optional()],
        ..Docs::NONE
    });

/// BGSAVE [SCHEDULE] → a status: a child process has started, or will start after the running one.
///
/// BGSAVE CANCEL → a status: the child process is told to end, or the scheduled one will not start.
fn bgsave(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let schedule = match args.len() {
        1 => false,
        2 if args.is(1, "CANCEL") => return cancel(server, key),
        2 if args.is(1, "SCHEDULE") => true,
        _ => return Err(Error::Syntax),
    };
    if server.children.any_for_snapshot() {
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

/// Ends the snapshot that is being written to a file, or forgets the scheduled one.
fn cancel(server: &mut Server, key: ClientKey) -> CmdResult {
    if server.children.any_for(Task::Rdb) {
        tracing::info!("Background saving will be aborted due to user request");
        server.terminate_child(Task::Rdb);
        return Ok(server.reply(key).simple("Background saving cancelled"));
    }
    if std::mem::take(&mut server.persistence.scheduled) {
        tracing::info!("Scheduled background saving will be cancelled due to user request");
        return Ok(server.reply(key).simple("Scheduled background saving cancelled"));
    }
    Err(Error::text("ERR Background saving is currently not in progress or scheduled"))
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

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use crate::commands::testing::Harness;
    use crate::persistence::rdb::output::Output;
    use crate::persistence::rdb::{LoadOptions, SaveOptions, save};
    use crate::server::durability::persistence::{LoadFailure, Pause};
    use crate::server::execution::admission::Conditions;

    const LIBRARY: &str = r#"FUNCTION LOAD "#;

    /// A server with these commands run, and a snapshot of it.
    fn snapshot(lines: &[&str]) -> Vec<u8> {
        let mut harness = Harness::default();
        for line in lines {
            let reply = harness.run(line);
            assert!(!reply.contains("error"), "{line}: {reply}");
        }
        let libraries: Vec<Vec<u8>> =
            harness.server.scripts.engine().library_texts().map(<[u8]>::to_vec).collect();
        let libraries: Vec<&[u8]> = libraries.iter().map(Vec::as_slice).collect();
        let mut bytes = Vec::new();
        let mut out = Output::to(&mut bytes, true, true);
        let options = SaveOptions::default();
        save(&harness.server.keyspace, &libraries, &options, &mut out, &mut |_| Ok(())).expect("no failure");
        out.end().expect("memory takes all");
        bytes
    }

    fn library(name: &str) -> String {
        let code = format!("#!lua name={name}\\nredis.register_function('{name}', function() return 1 end)");
        format!("{LIBRARY}\"{code}\"")
    }

    /// A source that gives 50 bytes at a time and would block in between.
    struct Slow(Vec<u8>, usize, bool);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.2 = !self.2;
            if self.2 && self.1 < self.0.len() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let n = buffer.len().min(50).min(self.0.len() - self.1);
            buffer[..n].copy_from_slice(&self.0[self.1..self.1 + n]);
            self.1 += n;
            Ok(n)
        }
    }

    fn new_data() -> Vec<u8> {
        snapshot(&[
            "SET new 1",
            "SET both new",
            "RPUSH list a b",
            "SELECT 1",
            "SADD set m",
            &library("lib2"),
            &library("lib3"),
        ])
    }

    /// A server with data of its own, whose client `watcher` is in a transaction that watches `new`, and whose client
    /// `waiting` waits for `list`.
    struct Old {
        harness: Harness,
        watcher: crate::clients::ClientKey,
        waiting: crate::clients::ClientKey,
    }

    fn old_data() -> Old {
        let mut harness = Harness::default();
        let (watcher, waiting) = (harness.connect(), harness.connect());
        for line in ["SET old x", "SET both old", &library("lib1"), &library("lib2")] {
            let reply = harness.run(line);
            assert!(!reply.contains("error"), "{line}: {reply}");
        }
        harness.run_as(watcher, "WATCH new");
        harness.run_as(watcher, "MULTI");
        harness.run_as(watcher, "PING");
        harness.run_as(waiting, "BLPOP list 0");
        Old { harness, watcher, waiting }
    }

    #[test]
    fn data_loaded_aside_take_the_place_of_those_served_in_one_step() {
        let Old { mut harness, watcher, waiting } = old_data();
        let mut pauses = Vec::new();
        let bytes = new_data();
        let size = bytes.len() as u64;
        let source = Box::new(Slow([&bytes[..], b"more"].concat(), 0, false));
        let loaded = harness.server.load_snapshot_aside(
            source,
            None,
            LoadOptions::default(),
            true,
            &mut |server, pause| {
                pauses.push(pause);
                assert!(server.persistence.async_loading.is_some() && server.persistence.loading.is_none());
                assert!(!server.conditions.has(Conditions::LOADING));
                assert!(server.conditions.has(Conditions::ASYNC_LOADING));
                let mut db = server.keyspace.db(0);
                let text = db.read_string(crate::keyspace::Key::new(b"both")).expect("a string");
                assert_eq!(text.map(|text| text.to_vec()), Some(b"old".to_vec()));
                assert_eq!(server.scripts.engine().libraries().counts().0, 2);
                Ok(())
            },
        );
        let loaded = loaded.expect("it is whole");
        assert_eq!((loaded.bytes, loaded.tally.loaded), (size, 4));
        assert!(b"more".starts_with(&loaded.unread));
        assert!(pauses.contains(&Pause::Starved));
        assert!(harness.server.persistence.async_loading.is_none());
        assert!(!harness.server.conditions.has(Conditions::ASYNC_LOADING));
        for (line, expected) in [
            ("GET old", "(nil)"),
            ("GET both", "\"new\""),
            ("DBSIZE", "(integer) 3"),
            ("FCALL lib3 0", "(integer) 1"),
            ("FCALL lib1 0", "(error) ERR Function not found"),
        ] {
            assert_eq!(harness.run(line), expected, "{line}");
        }
        assert_eq!(harness.run_as(watcher, "EXEC"), "(nil)");
        assert_eq!(harness.output_of(waiting), "1) \"list\"\n2) \"a\"");
        assert_eq!(harness.server.keyspace.databases()[1].len(), 1);
    }

    #[test]
    fn what_cannot_be_loaded_aside_leaves_everything_as_it_is() {
        let good = new_data();
        let mut bad_library = good.clone();
        let at = good.windows(3).position(|bytes| bytes == b"lua").expect("there is a library");
        bad_library[at] = b'x';
        // Without a checksum, so that the library is what is wrong.
        let end = bad_library.len() - 8;
        bad_library[end..].fill(0);
        let cut = good[..good.len() * 2 / 3].to_vec();
        for (bytes, fails_in_pause) in [(cut, false), (bad_library, false), (good, true)] {
            let Old { mut harness, watcher, waiting } = old_data();
            let source = Box::new(Slow(bytes, 0, false));
            let mut pauses = 0;
            let failure = harness
                .server
                .load_snapshot_aside(source, None, LoadOptions::default(), true, &mut |_, _| {
                    pauses += 1;
                    if fails_in_pause && pauses > 2 { Err(io::Error::other("gone")) } else { Ok(()) }
                })
                .expect_err("it cannot be loaded");
            assert!(matches!(failure, LoadFailure::Load(_)), "{failure}");
            assert!(harness.server.persistence.async_loading.is_none());
            assert_eq!(harness.server.conditions, Conditions::NONE);
            for (line, expected) in [
                ("GET old", "\"x\""),
                ("GET both", "\"old\""),
                ("GET new", "(nil)"),
                ("DBSIZE", "(integer) 2"),
                ("FCALL lib1 0", "(integer) 1"),
                ("FCALL lib3 0", "(error) ERR Function not found"),
            ] {
                assert_eq!(harness.run(line), expected, "{line}");
            }
            assert_eq!(harness.run_as(watcher, "EXEC"), "1) PONG");
            assert_eq!(harness.output_of(waiting), "");
        }
    }

    #[test]
    fn a_snapshot_is_loaded_into_the_emptied_keyspace() {
        let bytes = new_data();
        for len in [bytes.len(), bytes.len() - 3] {
            let Old { mut harness, .. } = old_data();
            harness.server.keyspace.flush(None, true);
            harness.server.scripts.forget_libraries();
            let source = Box::new(Slow(bytes[..len].to_vec(), 0, false));
            let size = Some(bytes.len() as u64);
            let loaded =
                harness.server.load_snapshot(source, size, LoadOptions::default(), &mut |server, _| {
                    assert!(
                        server.persistence.loading.as_ref().is_some_and(|loading| loading.total_bytes > 0)
                    );
                    assert!(server.conditions.has(Conditions::LOADING));
                    Ok(())
                });
            assert!(harness.server.persistence.loading.is_none());
            let whole = len == bytes.len();
            assert_eq!(loaded.is_ok(), whole);
            assert_eq!(harness.run("DBSIZE"), if whole { "(integer) 3" } else { "(integer) 0" });
            let found = if whole { "(integer) 1" } else { "(error) ERR Function not found" };
            assert_eq!(harness.run("FCALL lib3 0"), found);
        }
    }
}
