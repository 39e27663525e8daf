//! MIGRATE: moves keys to another server.
//!
//! Each key is sent as a RESTORE with the payload of DUMP, all in one pipeline, and is removed here once the other
//! server has acknowledged it.

use std::time::Duration;

use crate::clients::{ClientFlags, ClientKey};
use crate::keyspace::Event;
use crate::persistence::rdb;
use crate::persistence::rdb::save::{Version, version_for_redis};
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::server::migrate::{MigrateError, Step, Target};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;

/// Table entry of the MIGRATE command.
pub const COMMANDS: &[Spec] = &[MIGRATE];

const MOVED: KeyFlags = KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE);

const MIGRATE: Spec = Spec::admin("migrate", -6, migrate)
    .flags(Flags::WRITE.with(Flags::IN_OPEN_SLOT))
    .acl(Acl::KEYSPACE.with(Acl::DANGEROUS))
    .keys(&[
        KeySpec::at(3).flags(MOVED),
        KeySpec::after("KEYS", -2).range(-1, 1, 0).flags(MOVED.with(KeyFlags::INCOMPLETE)),
    ])
    .find_keys(find_keys)
    .secrets(secrets)
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Moves keys to another server.",
        since: "2.6.0",
        complexity: "That of DUMP and DEL here and of RESTORE there, and O(N) for sending N bytes",
        group: Group::Generic,
        history: &[
            ("3.0.0", "Added the options `COPY` and `REPLACE`."),
            ("3.0.6", "Added the option `KEYS`."),
            ("4.0.7", "Added the option `AUTH`."),
            ("6.0.0", "Added the option `AUTH2`."),
        ],
        args: &[
            Arg::string("host"),
            Arg::integer("port"),
            Arg::one_of("key-selector", &[Arg::key("key"), Arg::word("empty-string", "\"\"")]),
            Arg::integer("destination-db"),
            Arg::integer("timeout"),
            Arg::word("copy", "COPY").since("3.0.0").optional(),
            Arg::word("replace", "REPLACE").since("3.0.0").optional(),
            Arg::one_of(
                "authentication",
                &[
                    Arg::string("auth").token("AUTH").since("4.0.7").display("password"),
                    Arg::block("auth2", &[Arg::string("username"), Arg::string("password")])
                        .token("AUTH2")
                        .since("6.0.0"),
                ],
            )
            .optional(),
            Arg::key("keys").key_spec(1).token("KEYS").since("3.0.6").display("key").optional().multiple(),
        ],
        ..Docs::NONE
    });

/// Index of the first option.
const OPTIONS: usize = 6;

/// Number of operands of the option at `i`; `None` for all remaining arguments.
fn operands(args: &Args<'_>, i: usize) -> Option<usize> {
    if args.is(i, "KEYS") {
        None
    } else if args.is(i, "AUTH") {
        Some(1)
    } else if args.is(i, "AUTH2") {
        Some(2)
    } else {
        Some(0)
    }
}

fn find_keys(args: &Args<'_>, key: &mut dyn FnMut(usize, KeyFlags)) -> bool {
    let mut i = OPTIONS;
    while i < args.len() {
        match operands(args, i) {
            Some(n) => i += 1 + n,
            None if !args.at(3).is_empty() => return false,
            None if i + 1 == args.len() => break,
            None => {
                (i + 1..args.len()).for_each(|at| key(at, MOVED));
                return true;
            }
        }
    }
    key(3, MOVED);
    true
}

/// Marks passwords and user names as secret.
fn secrets(args: &Args<'_>, secret: &mut dyn FnMut(usize)) {
    let mut i = OPTIONS;
    while i < args.len()
        && let Some(n) = operands(args, i)
    {
        (i + 1..args.len().min(i + 1 + n)).for_each(&mut *secret);
        i += 1 + n;
    }
}

/// What to move, where and how.
struct Plan<'a> {
    host: &'a [u8],
    port: &'a [u8],
    db: i64,
    timeout: Duration,
    copy: bool,
    replace: bool,
    /// Operands of AUTH or AUTH2; empty if no authentication is needed.
    login: Args<'a>,
    names: Args<'a>,
}

impl<'a> Plan<'a> {
    fn read(args: Args<'a>) -> Result<Plan<'a>, Error> {
        let (mut copy, mut replace) = (false, false);
        let (mut login, mut names) = (args.range(0..0), args.range(3..4));
        let mut i = OPTIONS;
        while i < args.len() {
            if args.is(i, "COPY") {
                copy = true;
            } else if args.is(i, "REPLACE") {
                replace = true;
            } else if let Some(n @ 1..) = operands(&args, i) {
                if i + n >= args.len() {
                    return Err(Error::Syntax);
                }
                login = args.range(i + 1..i + 1 + n);
                i += n;
            } else if args.is(i, "KEYS") {
                if !args.at(3).is_empty() {
                    return Err(Error::text(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                    ));
                }
                names = args.rest(i + 1);
                break;
            } else {
                return Err(Error::Syntax);
            }
            i += 1;
        }
        let timeout = args.int(5)?;
        let db = args.int(4)?;
        let timeout = u64::try_from(timeout).ok().filter(|&ms| ms > 0).unwrap_or(1000);
        Ok(Plan {
            host: args.at(1),
            port: args.at(2),
            db,
            // About 49 days, which is longer than anyone waits.
            timeout: Duration::from_millis(timeout.min(u64::from(u32::MAX))),
            copy,
            replace,
            login,
            names,
        })
    }
}

/// MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password | AUTH2 name password] [KEYS key …] → OK, or
/// NOKEY if none of the keys exists.
fn migrate(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let plan = Plan::read(args)?;
    let client = &server.clients[key];
    let (index, no_touch) = (client.db as usize, client.flags.has(ClientFlags::NO_TOUCH));
    let mut db = server.keyspace.db(index).without_touch(no_touch);
    let mut names: Vec<Key<'_>> = plan.names.iter().map(Key::new).collect();
    names.retain(|&name| db.read(name).is_some());
    if names.is_empty() {
        return Ok(server.reply(key).simple("NOKEY"));
    }
    let mut gone: Vec<&[u8]> = vec![b"DEL"];
    let mut outcome = send(server, index, &plan, &names, &mut gone);
    // The other server may have closed a cached connection for reasons of its own. But keys that it has
    // acknowledged are not sent again, and after a timeout there is no second attempt.
    if let Err(MigrateError { timed_out: false, .. }) = outcome
        && gone.len() == 1
    {
        outcome = send(server, index, &plan, &names, &mut gone);
    }
    if gone.len() > 1 {
        server.execution.feed.instead(&gone);
    }
    match outcome {
        Ok(None) => Ok(server.reply(key).ok()),
        Ok(Some(refusal)) => Err(Error::quoting(&[b"ERR Target instance replied with error: ", &refusal])),
        Err(error) => Err(Error::text(match error.step {
            Step::Connecting => "IOERR error or timeout connecting to the client",
            Step::Writing => "IOERR error or timeout writing to target instance",
            Step::Reading => "IOERR error or timeout reading to target instance",
        })),
    }
}

/// Sends the keys and removes those acknowledged, unless they are only copied; adds the names of the removed keys
/// to `gone`. Returns the first error reply of the other server.
fn send<'a>(
    server: &mut Server,
    index: usize,
    plan: &Plan<'_>,
    names: &[Key<'a>],
    gone: &mut Vec<&'a [u8]>,
) -> Result<Option<Vec<u8>>, MigrateError> {
    let mut target = match server.targets.take(plan.host, plan.port) {
        Some(kept) => kept,
        None => {
            // Keys move between the nodes of a cluster, which agree on this.
            let encryption = server.tls.connector().filter(|_| server.config.tls.cluster);
            Target::connect(plan.host, plan.port, plan.timeout, encryption)?
        }
    };
    target.set_timeout(plan.timeout);
    let mut preliminaries = 0;
    if plan.login.len() > 0 {
        let request: Vec<&[u8]> = [&b"AUTH"[..]].into_iter().chain(plan.login.iter()).collect();
        target.request(&request)?;
        preliminaries += 1;
    }
    if target.db != Some(plan.db) {
        target.request(&[b"SELECT", itoa::Buffer::new().format(plan.db).as_bytes()])?;
        preliminaries += 1;
    }
    let config = &server.config.persistence;
    let (version, compress) = (Version::newest(config.rdb_save_version), config.rdb_compression);
    let for_redis = !server.config.limits.compat_version.is_valkey();
    // The other node does not own the slot yet.
    let restore: &[u8] = if server.cluster.is_some() { b"RESTORE-ASKING" } else { b"RESTORE" };
    let tail: &[&[u8]] = if plan.replace { &[b"REPLACE"] } else { &[] };
    let mut sent = Vec::with_capacity(names.len());
    for &name in names {
        let mut db = server.keyspace.db(index);
        let Some(entry) = db.peek(name) else { continue };
        // A key that expires during the transfer is sent with the shortest expiry and vanishes there.
        let ttl = entry.expires().map_or(0, |at| (at.0 - UnixMillis::now().0).max(1));
        let version = if for_redis { version_for_redis(&entry, version) } else { version };
        let payload = rdb::dump(&entry, version, compress);
        let mut digits = itoa::Buffer::new();
        target.request_with(&[restore, name.bytes, digits.format(ttl).as_bytes()], &payload, tail)?;
        sent.push(name);
    }
    target.flush()?;

    let mut refusal = None;
    for _ in 0..preliminaries {
        if let Err(text) = target.reply()? {
            refusal.get_or_insert(text);
        }
    }
    // Otherwise the state of the connection is unknown.
    let settled = refusal.is_none();
    for name in sent {
        if let Err(text) = target.reply()? {
            refusal.get_or_insert(text);
        } else if settled && !plan.copy {
            let lazily = server.keyspace.lazy.server_del;
            let mut db = server.keyspace.db(index);
            if db.remove(name, lazily) {
                db.changed(name, Event::generic("del"), 1);
                gone.push(name.bytes);
            }
        }
    }
    target.db = refusal.is_none().then_some(plan.db);
    server.targets.keep(target);
    Ok(refusal)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    use crate::commands::testing::{Harness, check};

    /// What comes before there is silence: a request may arrive in several pieces.
    fn all_that_comes(stream: &mut TcpStream) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        stream.set_read_timeout(None).expect("it is no time of zero");
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            all.extend_from_slice(&buffer[..n]);
            stream.set_read_timeout(Some(Duration::from_millis(100))).expect("it is no time of zero");
        }
        assert!(!all.is_empty(), "something comes");
        all
    }

    /// A server that answers what it gets on each of its connections in turn, and tells what it got: text, with
    /// payloads left out.
    fn other(answers: &[&[&'static str]]) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("a listener has an address").port().to_string();
        let answers: Vec<Vec<&'static str>> = answers.iter().map(|answers| answers.to_vec()).collect();
        let thread = thread::spawn(move || {
            let mut all = Vec::new();
            for answers in answers {
                let (mut stream, _) = listener.accept().expect("somebody connects");
                for answer in answers {
                    let request = all_that_comes(&mut stream);
                    let words = request.split(|&byte| byte == b'\n');
                    let words = words.map(|line| line.trim_ascii_end()).filter(|line| {
                        line.is_ascii() && !line.is_empty() && !line.contains(&0) && !b"*$".contains(&line[0])
                    });
                    let words: Vec<_> = words.map(|word| String::from_utf8_lossy(word)).collect();
                    all.push(words.join(" "));
                    stream
                        .write_all(answer.replace(' ', "\r\n").replace('_', " ").as_bytes())
                        .expect("it is read");
                }
            }
            all
        });
        (port, thread)
    }

    #[test]
    fn requests_that_are_refused() {
        check(
            r#"
            SET a 1
            MIGRATE 127.0.0.1 1 a 0
            MIGRATE 127.0.0.1 1 a x 10
            MIGRATE 127.0.0.1 1 a 0 x
            MIGRATE 127.0.0.1 1 a 0 10 WHAT
            MIGRATE 127.0.0.1 1 a 0 10 AUTH
            MIGRATE 127.0.0.1 1 a 0 10 AUTH2 x
            MIGRATE 127.0.0.1 1 a x 10 KEYS b
            MIGRATE 127.0.0.1 1 "" 0 10 KEYS
            MIGRATE 127.0.0.1 1 nosuch 0 10 COPY
            MIGRATE 127.0.0.1 0 a 0 10
            MIGRATE "no such host" 1 a 0 10
            EXISTS a
            COMMAND GETKEYS MIGRATE h 1 "" 0 10 AUTH KEYS KEYS a KEYS b
            COMMAND GETKEYS MIGRATE h 1 a 0 10
            COMMAND GETKEYS MIGRATE h 1 "" 0 10 KEYS
            COMMAND GETKEYS MIGRATE h 1 a 0 10 KEYS b
            "#,
            r#"
            OK
            (error) ERR wrong number of arguments for 'migrate' command
            (error) ERR value is not an integer or out of range
            (error) ERR value is not an integer or out of range
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR When using MIGRATE KEYS option, the key argument must be set to the empty string
            NOKEY
            NOKEY
            (error) IOERR error or timeout writing to target instance
            (error) IOERR error or timeout connecting to the client
            (integer) 1
            1) "a"
            2) "KEYS"
            3) "b"
            1) "a"
            1) ""
            (error) ERR Invalid arguments specified for command
            "#,
        );
    }

    #[test]
    fn what_is_acknowledged_goes_and_the_rest_stays() {
        let (port, other) =
            other(&[&["+OK +OK ", "+OK -ERR_no +OK ", "+OK +OK +OK "], &["+OK -ERR_so +OK +OK "]]);
        let mut harness = Harness::default();
        harness.run("MSET a 1 b 2 c 3");
        assert_eq!(harness.run(&format!("MIGRATE 127.0.0.1 {port} a 9 1000")), "OK");
        assert_eq!(harness.run("EXISTS a"), "(integer) 0");
        assert_eq!(
            harness.run(&format!("MIGRATE 127.0.0.1 {port} '' 9 1000 REPLACE KEYS x b c b")),
            "(error) ERR Target instance replied with error: ERR no"
        );
        assert_eq!(harness.run("EXISTS b c"), "(integer) 1");
        // After a refusal, the database is selected again.
        assert_eq!(harness.run(&format!("MIGRATE 127.0.0.1 {port} c 9 1000 COPY AUTH2 user secret")), "OK");
        assert!(harness.run("INFO stats").contains("migrate_cached_sockets:1"));
        harness.run("SET b 2");
        // The other server has closed the connection by now. Keys that it does not accept are not removed.
        assert_eq!(
            harness.run(&format!("MIGRATE 127.0.0.1 {port} '' 8 1000 AUTH secret KEYS b c")),
            "(error) ERR Target instance replied with error: ERR so"
        );
        assert_eq!(harness.run("EXISTS b c"), "(integer) 2");
        assert_eq!(
            other.join().expect("no panic"),
            [
                "SELECT 9 RESTORE a 0",
                "RESTORE b 0 REPLACE RESTORE c 0 REPLACE RESTORE b 0 REPLACE",
                "AUTH user secret SELECT 9 RESTORE c 0",
                "AUTH secret SELECT 8 RESTORE b 0 RESTORE c 0"
            ]
        );
    }
}
