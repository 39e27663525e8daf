//! CLIENT PAUSE and CLIENT UNPAUSE: delaying requests for some time.

use crate::clients::ClientKey;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, Group, Spec};
use crate::server::execution::pause::Extent;
use crate::stdx::clock::UnixMillis;
use crate::stdx::num;

const FLAGS: Flags =
    Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE).with(Flags::KEEPS_CACHING);

/// Table entry of CLIENT PAUSE.
pub const PAUSE: Spec = Spec::admin("client|pause", -3, pause).flags(FLAGS).acl(Acl::CONNECTION).docs(Docs {
    summary: "Keeps requests of clients for a while instead of running them.",
    since: "3.0.0",
    complexity: "O(1)",
    group: Group::Connection,
    history: &[("6.2.0", "The mode, and with it a pause of writes only.")],
    args: &[
        Arg::integer("timeout"),
        Arg::one_of("mode", &[Arg::word("write", "WRITE"), Arg::word("all", "ALL")])
            .since("6.2.0")
            .optional(),
    ],
    ..Docs::NONE
});

/// CLIENT PAUSE milliseconds [WRITE | ALL] → OK. Requests wait, beginning with the next one.
fn pause(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let extent = match args.len() {
        3 => Extent::All,
        4 if args.is(3, "WRITE") => Extent::Writes,
        4 if args.is(3, "ALL") => Extent::All,
        4 => return Err(Error::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => {
            return Err(Error::quoting(&[
                b"ERR unknown subcommand or wrong number of arguments for '",
                args.at(1),
                b"'. Try CLIENT HELP.",
            ]));
        }
    };
    let timeout_ms = num::parse_i64(args.at(2))
        .ok_or_else(|| Error::text("ERR timeout is not an integer or out of range"))?;
    if timeout_ms < 0 {
        return Err(Error::text("ERR timeout is negative"));
    }
    let until = UnixMillis::now().checked_add(timeout_ms);
    server.pause_clients(until.ok_or_else(|| Error::text("ERR timeout is out of range"))?, extent);
    Ok(server.reply(key).ok())
}

/// Table entry of CLIENT UNPAUSE.
pub const UNPAUSE: Spec =
    Spec::admin("client|unpause", 2, unpause).flags(FLAGS).acl(Acl::CONNECTION).docs(Docs {
        summary: "Ends a pause.",
        since: "6.2.0",
        complexity: "O(N) for N requests that were kept",
        group: Group::Connection,
        ..Docs::NONE
    });

/// CLIENT UNPAUSE → OK. The delayed requests run.
fn unpause(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.unpause_clients();
    Ok(server.reply(key).ok())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check, check_with};

    #[test]
    fn errors() {
        check(
            r#"
            CLIENT PAUSE
            CLIENT PAUSE x
            CLIENT PAUSE -1
            CLIENT PAUSE 10 foo
            CLIENT PAUSE x foo
            CLIENT pause 10 write more
            CLIENT PAUSE 9223372036854775807
            CLIENT UNPAUSE now
            CLIENT UNPAUSE
            "#,
            r#"
            (error) ERR wrong number of arguments for 'client|pause' command
            (error) ERR timeout is not an integer or out of range
            (error) ERR timeout is negative
            (error) ERR CLIENT PAUSE mode must be WRITE or ALL
            (error) ERR CLIENT PAUSE mode must be WRITE or ALL
            (error) ERR unknown subcommand or wrong number of arguments for 'pause'. Try CLIENT HELP.
            (error) ERR timeout is out of range
            (error) ERR wrong number of arguments for 'client|unpause' command
            OK
            "#,
        );
    }

    #[test]
    fn writes_wait_and_reads_do_not() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            "SET k before\nCLIENT PAUSE 100000 WRITE\nGET k\nPING\nSET k\nMULTI\nGET k\nEXEC",
            r#"
            OK
            OK
            "before"
            PONG
            (error) ERR wrong number of arguments for 'set' command
            OK
            QUEUED
            1) "before"
            "#,
        );
        assert_eq!(harness.raw(&[b"SET", b"k", b"after"]), b"");
        assert_eq!(harness.raw(&[b"GET", b"k"]), b"");
        assert_eq!(harness.server.pause.waiting(), 1);
        harness.server.unpause_clients();
        harness.server.end_pause_if_due();
        assert_eq!(harness.take_output(), b"+OK\r\n$5\r\nafter\r\n");
        assert_eq!(harness.server.pause.waiting(), 0);
        check_with(&mut harness, "GET k", "\"after\"");
    }

    #[test]
    fn a_pause_of_all_lasts_until_its_end() {
        let mut harness = Harness::default();
        check_with(&mut harness, "CLIENT PAUSE 100000 ALL", "OK");
        assert_eq!(harness.raw(&[b"CLIENT", b"PAUSE", b"0", b"WRITE"]), b"");
        assert_eq!(harness.raw(&[b"CLIENT", b"UNPAUSE"]), b"");
        harness.server.end_pause_if_due();
        assert_eq!(harness.take_output(), b"");
        harness.server.unpause_clients();
        harness.server.end_pause_if_due();
        // The shorter pause, which was waiting, ends at once.
        assert_eq!(harness.take_output(), b"+OK\r\n+OK\r\n");
        harness.server.end_pause_if_due();
        check_with(&mut harness, "PING", "PONG");
    }

    #[test]
    fn the_stricter_and_longer_pause_wins() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            "MULTI\nCLIENT PAUSE 100000 ALL\nCLIENT PAUSE 0 WRITE\nSET k v\nEXEC",
            r#"
            OK
            QUEUED
            QUEUED
            QUEUED
            1) OK
            2) OK
            3) OK
            "#,
        );
        harness.server.end_pause_if_due();
        assert_eq!(harness.raw(&[b"GET", b"k"]), b"");
        harness.server.unpause_clients();
        harness.server.end_pause_if_due();
        assert_eq!(harness.take_output(), b"$1\r\nv\r\n");
    }

    #[test]
    fn transactions_that_write_wait_as_a_whole() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            "MULTI\nSET k v\nCLIENT PAUSE 100000 WRITE\nEXEC\nMULTI\nPING",
            "OK\nQUEUED\nQUEUED\n1) OK\n2) OK\nOK\nQUEUED",
        );
        assert_eq!(harness.raw(&[b"SET", b"k", b"w"]), b"");
        harness.server.unpause_clients();
        harness.server.end_pause_if_due();
        assert_eq!(harness.take_output(), b"+QUEUED\r\n");
        harness.server.pause_clients(crate::stdx::clock::UnixMillis(i64::MAX), super::Extent::Writes);
        assert_eq!(harness.raw(&[b"EXEC"]), b"");
        harness.server.unpause_clients();
        harness.server.end_pause_if_due();
        assert_eq!(harness.take_output(), b"*2\r\n+PONG\r\n+OK\r\n");
    }

    #[test]
    fn due_keys_are_hidden_and_stay() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            "MULTI\nSET k v PXAT 1\nSET k v PX 1\nCLIENT PAUSE 100000 WRITE\nEXEC",
            "OK\nQUEUED\nQUEUED\nQUEUED\n1) OK\n2) OK\n3) OK",
        );
        std::thread::sleep(std::time::Duration::from_millis(3));
        let expired = harness.server.keyspace.stats.expired;
        check_with(&mut harness, "GET k\nDBSIZE", "(nil)\n(integer) 1");
        assert_eq!(harness.server.keyspace.stats.expired, expired);
        harness.server.unpause_clients();
        check_with(&mut harness, "GET k\nDBSIZE", "(nil)\n(integer) 0");
    }

    #[test]
    fn due_collections_are_hidden_from_every_reader() {
        let mut harness = Harness::default();
        let keys = ["l", "s", "h", "z", "x"];
        for line in ["RPUSH l 1", "SADD s 1", "HSET h f 1", "GEOADD z 1 1 a", "XADD x 1-0 f v", "SADD t 1"] {
            harness.run(line);
        }
        harness.run("MULTI");
        keys.iter().for_each(|key| drop(harness.run(&format!("PEXPIRE {key} 1"))));
        harness.run("CLIENT PAUSE 100000 WRITE");
        assert!(!harness.run("EXEC").contains("error"));
        std::thread::sleep(std::time::Duration::from_millis(3));
        check_with(
            &mut harness,
            "LRANGE l 0 -1
            LLEN l
            SORT_RO l
            SMEMBERS s
            SUNION s s
            SINTER s t
            SINTERCARD 2 s t
            SDIFF t s
            HGETALL h
            ZRANGE z 0 -1
            ZUNION 2 z s
            ZINTER 1 z
            ZDIFF 2 t z
            GEOSEARCH z FROMLONLAT 1 1 BYRADIUS 1 km
            XRANGE x - +
            XREAD STREAMS x 0
            XREAD STREAMS x x 0 +
            XLEN x
            TYPE x
            DBSIZE",
            "(empty array)
            (integer) 0
            (empty array)
            (empty array)
            (empty array)
            (empty array)
            (integer) 0
            1) \"1\"
            (empty array)
            (empty array)
            (empty array)
            (empty array)
            1) \"1\"
            (empty array)
            (empty array)
            (nil)
            (nil)
            (integer) 0
            none
            (integer) 6",
        );
    }
}
