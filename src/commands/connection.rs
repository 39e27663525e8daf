//! Commands on the connection itself: authentication, protocol, selected database.

use super::module_list::write_modules;
use crate::clients::{ClientFlags, ClientKey, ReplyMode};
use crate::resp::{Args, Error, Protocol};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Databases, Docs, Flags, Group, Spec};
use crate::stdx::num;

/// Table entries of the connection commands.
pub const COMMANDS: &[Spec] = &[AUTH, ECHO, HELLO, PING, QUIT, RESET, SELECT];

/// Commands that work whatever state the server is in, before authentication too.
const ALWAYS: Flags = Flags::NOSCRIPT
    .with(Flags::LOADING)
    .with(Flags::STALE)
    .with(Flags::FAST)
    .with(Flags::NO_AUTH)
    .with(Flags::ALLOW_BUSY);

const AUTH: Spec =
    Spec::admin("auth", -2, auth).flags(ALWAYS).acl(Acl::CONNECTION).secrets(auth_secrets).docs(Docs {
        summary: "Proves the connection's identity with a password.",
        since: "1.0.0",
        complexity: "O(N), N being the number of passwords the user has.",
        group: Group::Connection,
        history: &[("6.0.0", "A user name may come before the password.")],
        args: &[Arg::string("username").since("6.0.0").optional(), Arg::string("password")],
        ..Docs::NONE
    });

/// Marks all arguments about the identity of the client as secret.
fn auth_secrets(args: &Args<'_>, secret: &mut dyn FnMut(usize)) {
    (1..args.len()).for_each(secret);
}

/// AUTH [username] password → OK.
fn auth(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    match args.len() {
        2 => server.authenticate(key, None, args.at(1), args.at(0))?,
        3 => server.authenticate(key, Some(args.at(1)), args.at(2), args.at(0))?,
        _ => return Err(Error::Syntax),
    }
    Ok(server.reply(key).ok())
}

const ECHO: Spec = Spec::data("echo", 2, echo)
    .flags(Flags::LOADING.with(Flags::STALE).with(Flags::FAST))
    .acl(Acl::CONNECTION)
    .docs(Docs {
        summary: "Answers with its argument.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Connection,
        args: &[Arg::string("message")],
        ..Docs::NONE
    });

/// ECHO message → the message.
fn echo(ctx: &mut Ctx<'_>) -> CmdResult {
    Ok(ctx.reply.bulk(ctx.args.at(1)))
}

const HELLO: Spec =
    Spec::admin("hello", -1, hello).flags(ALWAYS).acl(Acl::CONNECTION).secrets(hello_secrets).docs(Docs {
        summary: "Agrees on a protocol version and tells about the server.",
        since: "6.0.0",
        complexity: "O(1)",
        group: Group::Connection,
        history: &[("6.2.0", "Without arguments it only tells about the server and the connection.")],
        args: &[Arg::block(
            "arguments",
            &[
                Arg::integer("protover"),
                Arg::block("auth", &[Arg::string("username"), Arg::string("password")])
                    .token("AUTH")
                    .optional(),
                Arg::string("clientname").token("SETNAME").optional(),
            ],
        )
        .optional()],
        ..Docs::NONE
    });

/// Marks the user and password after each AUTH as secret.
fn hello_secrets(args: &Args<'_>, secret: &mut dyn FnMut(usize)) {
    let mut i = 2;
    while i < args.len() {
        if args.is(i, "AUTH") {
            (i + 1..args.len().min(i + 3)).for_each(&mut *secret);
            i += 3;
        } else {
            i += 2;
        }
    }
}

/// HELLO [version [AUTH user password] [SETNAME name]] → a map describing the server and the connection.
fn hello(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let protocol = match args.get(1).map(num::parse_i64) {
        None => None,
        Some(Some(2)) => Some(Protocol::Resp2),
        Some(Some(3)) => Some(Protocol::Resp3),
        Some(Some(_)) => return Err(Error::text("NOPROTO unsupported protocol version")),
        Some(None) => return Err(Error::text("ERR Protocol version is not an integer or out of range")),
    };
    let (mut credentials, mut name) = (None, None);
    let mut i = 2;
    while i < args.len() {
        if args.is(i, "AUTH") && i + 2 < args.len() {
            credentials = Some((args.at(i + 1), args.at(i + 2)));
            i += 3;
        } else if args.is(i, "SETNAME") && i + 1 < args.len() {
            name = Some(args.at(i + 1));
            super::client::check_name(args.at(i + 1))?;
            i += 2;
        } else {
            return Err(Error::quoting(&[b"ERR Syntax error in HELLO option '", args.at(i), b"'"]));
        }
    }
    if let Some((user, password)) = credentials {
        server.authenticate(key, Some(user), password, args.at(0))?;
    }
    if !server.clients[key].flags.has(ClientFlags::AUTHENTICATED) {
        return Err(Error::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    let client = &mut server.clients[key];
    if let Some(name) = name {
        client.names.name = name.into();
    }
    client.protocol = protocol.unwrap_or(client.protocol);
    let (id, protocol) = (client.id, client.protocol);
    let is_sentinel = server.sentinel.is_some();
    let mode: &[u8] = match (is_sentinel, server.cluster.is_some()) {
        (true, _) => b"sentinel",
        (_, true) => b"cluster",
        _ => b"standalone",
    };
    let role: &[u8] = if server.replication.is_replica() { b"replica" } else { b"master" };
    let compat = server.config.limits.compat_version;
    let (name, version) = compat.server();
    let mut reply = server.reply(key);
    // A Sentinel has no role in replication.
    reply.map(if is_sentinel { 6 } else { 7 });
    reply.bulk(b"server");
    reply.bulk(name.as_bytes());
    reply.bulk(b"version");
    reply.bulk(version.as_bytes());
    reply.bulk(b"proto");
    reply.int(protocol as i64);
    reply.bulk(b"id");
    reply.int(id as i64);
    reply.bulk(b"mode");
    reply.bulk(mode);
    if !is_sentinel {
        reply.bulk(b"role");
        reply.bulk(role);
    }
    reply.bulk(b"modules");
    Ok(write_modules(&mut reply, compat))
}

const PING: Spec = Spec::admin("ping", -1, ping)
    .flags(Flags::FAST.with(Flags::RUNS_SUBSCRIBED).with(Flags::SHOWS_HEALTH))
    .acl(Acl::CONNECTION)
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .docs(Docs {
        summary: "Shows that the server is there.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Connection,
        args: &[Arg::string("message").optional()],
        ..Docs::NONE
    });

/// PING [message] → PONG, or the message. A subscribed RESP2 client receives it as a message.
fn ping(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if args.len() > 2 {
        return Err(Error::arity("ping"));
    }
    let subscribed = server.clients[key].flags.has(ClientFlags::SUBSCRIBED);
    let mut reply = server.reply(key);
    if subscribed && !reply.resp3() {
        reply.array(2);
        reply.bulk(b"pong");
        return Ok(reply.bulk(args.get(1).unwrap_or_default()));
    }
    Ok(match args.get(1) {
        None => reply.simple("PONG"),
        Some(message) => reply.bulk(message),
    })
}

const QUIT: Spec = Spec::admin("quit", -1, quit)
    .flags(ALWAYS.with(Flags::RUNS_IN_MULTI).with(Flags::LEAVES_MULTI).with(Flags::RUNS_SUBSCRIBED))
    .acl(Acl::CONNECTION)
    .docs(Docs {
        summary: "Ends the connection.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Connection,
        deprecated_since: "7.2.0",
        replaced_by: "closing the connection",
        ..Docs::NONE
    });

/// QUIT → OK, and the connection closes.
fn quit(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let replied = server.reply(key).ok();
    server.close_after_reply(key);
    Ok(replied)
}

const RESET: Spec = Spec::admin("reset", 1, reset)
    .flags(ALWAYS.with(Flags::RUNS_IN_MULTI).with(Flags::LEAVES_MULTI).with(Flags::RUNS_SUBSCRIBED))
    .acl(Acl::CONNECTION)
    .docs(Docs {
        summary: "Puts the connection back to how it began.",
        since: "6.2.0",
        complexity: "O(1)",
        group: Group::Connection,
        ..Docs::NONE
    });

/// RESET → RESET. Ends transaction, subscriptions and key tracking, and resets name, database, protocol, modes and
/// authentication. The client's library name and version are kept.
fn reset(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.end_transaction(key);
    server.act_as_default(key);
    server.stop_monitoring(key);
    server.unsubscribe_all(key);
    if server.clients[key].tracking.is_some() {
        server.untrack(key);
    }
    let client = &mut server.clients[key];
    client.flags.set(ClientFlags::NO_EVICT, false);
    client.flags.set(ClientFlags::NO_TOUCH, false);
    client.flags.set(ClientFlags::ASKING.with(ClientFlags::READS_COPIES), false);
    // A reply that the client has asked to skip stays away.
    if client.reply_mode != ReplyMode::Skip {
        client.io.output.unmute();
    }
    client.reply_mode = ReplyMode::On;
    client.protocol = Protocol::Resp2;
    client.db = 0;
    client.names.name = Box::default();
    Ok(server.reply(key).simple("RESET"))
}

const SELECT: Spec = Spec::admin("select", 2, select)
    .flags(Flags::LOADING.with(Flags::STALE).with(Flags::FAST).with(Flags::LOGGED))
    .acl(Acl::CONNECTION)
    .databases(Databases::Selects(1))
    .docs(Docs {
        summary: "Chooses the database the connection uses.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Connection,
        args: &[Arg::integer("index")],
        ..Docs::NONE
    });

/// SELECT index → OK.
fn select(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let index = args.int(1)?;
    if i32::try_from(index).is_err() {
        return Err(Error::text("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }
    let databases = server.keyspace.databases().len() as u32;
    if server.cluster.is_some() && databases == 1 && index != 0 {
        return Err(Error::text("ERR SELECT is not allowed in cluster mode"));
    }
    let index = u32::try_from(index).ok().filter(|&index| index < databases);
    server.clients[key].db = index.ok_or_else(|| Error::text("ERR DB index is out of range"))?;
    Ok(server.reply(key).ok())
}

#[cfg(test)]
mod tests {
    use crate::clients::ClientFlags;
    use crate::commands::testing::{Harness, check, check_with};
    use crate::config::Config;

    #[test]
    fn small_ones() {
        check(
            r#"
            PING
            PING "a b"
            PING a b
            ECHO x
            SELECT 15
            SET k 15
            SELECT 0
            GET k
            SELECT 16
            SELECT -1
            SELECT 1.0
            SELECT 2147483648
            "#,
            r#"
            PONG
            "a b"
            (error) ERR wrong number of arguments for 'ping' command
            "x"
            OK
            OK
            OK
            (nil)
            (error) ERR DB index is out of range
            (error) ERR DB index is out of range
            (error) ERR value is not an integer or out of range
            (error) ERR value is out of range, value must between -2147483648 and 2147483647
            "#,
        );
    }

    #[test]
    fn hello_negotiates() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            r#"
            HELLO 4
            HELLO x
            HELLO 2 SETNAME
            HELLO 2 AUTH default
            HELLO 3 SETNAME "a b"
            HELLO 3 SETNAME me AUTH default any
            CLIENT GETNAME
            HELLO 3 AUTH nobody any
            CLIENT TRACKINGINFO
            RESET
            CLIENT GETNAME
            "#,
            r#"
            (error) NOPROTO unsupported protocol version
            (error) ERR Protocol version is not an integer or out of range
            (error) ERR Syntax error in HELLO option 'SETNAME'
            (error) ERR Syntax error in HELLO option 'AUTH'
            (error) ERR Client names cannot contain spaces, newlines or special characters.
             1) "server"
             2) "redis"
             3) "version"
             4) "7.2.4"
             5) "proto"
             6) (integer) 3
             7) "id"
             8) (integer) 1
             9) "mode"
            10) "standalone"
            11) "role"
            12) "master"
            13) "modules"
            14) (empty array)
            "me"
            (error) WRONGPASS invalid username-password pair or user is disabled.
            1) "flags"
            2) 1) "off"
            3) "redirect"
            4) (integer) -1
            5) "prefixes"
            6) (empty array)
            RESET
            (nil)
            "#,
        );
        assert_eq!(harness.raw(&[b"HELLO"])[..4], *b"*14\r");
        assert_eq!(harness.raw(&[b"HELLO", b"3"])[..3], *b"%7\r");
    }

    #[test]
    fn a_password_is_asked_for() {
        let mut config = Config::default();
        config.security.requirepass = b"pw".to_vec();
        let mut harness = Harness::new(config);
        let client = harness.client;
        harness.server.clients[client].flags.set(ClientFlags::AUTHENTICATED, false);
        check_with(
            &mut harness,
            r#"
            PING
            NOSUCH
            GET
            HELLO 3
            AUTH p
            AUTH pw2
            AUTH other pw
            AUTH a b c
            AUTH pw
            PING
            RESET
            PING
            AUTH default pw
            PING
            "#,
            r#"
            (error) NOAUTH Authentication required.
            (error) ERR unknown command 'NOSUCH', with args beginning with:
            (error) ERR wrong number of arguments for 'get' command
            (error) NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time
            (error) WRONGPASS invalid username-password pair or user is disabled.
            (error) WRONGPASS invalid username-password pair or user is disabled.
            (error) WRONGPASS invalid username-password pair or user is disabled.
            (error) ERR syntax error
            OK
            PONG
            RESET
            (error) NOAUTH Authentication required.
            OK
            PONG
            "#,
        );
        assert_eq!(harness.server.acl.denials.logins, 3);
    }

    #[test]
    fn no_password_is_set() {
        check(
            "AUTH x\nAUTH default x\nAUTH other x",
            r#"
            (error) ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?
            OK
            (error) WRONGPASS invalid username-password pair or user is disabled.
            "#,
        );
    }

    #[test]
    fn quit_is_the_last_command() {
        let mut harness = Harness::default();
        assert_eq!(harness.run("QUIT now"), "OK");
        assert!(harness.server.clients[harness.client].is_closing());
    }
}
