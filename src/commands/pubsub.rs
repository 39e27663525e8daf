//! Publish/subscribe: messages to current listeners of a channel. No message is stored.

use crate::clients::ClientKey;
use crate::clients::pubsub::Scope;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Arg, ChannelSpec, CmdResult, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::glob;

/// Table entries of the publish/subscribe commands.
pub const COMMANDS: &[Spec] =
    &[PSUBSCRIBE, PUBLISH, PUBSUB, PUNSUBSCRIBE, SPUBLISH, SSUBSCRIBE, SUBSCRIBE, SUNSUBSCRIBE, UNSUBSCRIBE];

/// Flags of commands that begin or end a subscription.
const LISTEN: Flags =
    Flags::PUBSUB.with(Flags::NOSCRIPT).with(Flags::LOADING).with(Flags::STALE).with(Flags::RUNS_SUBSCRIBED);
/// Flags of commands that send a message.
const SEND: Flags =
    Flags::PUBSUB.with(Flags::LOADING).with(Flags::STALE).with(Flags::FAST).with(Flags::MAY_REPLICATE);
/// Flags of commands that show subscriptions.
const ASK: Flags = Flags::PUBSUB.with(Flags::LOADING).with(Flags::STALE);

const DOCS: Docs = Docs { group: Group::PubSub, ..Docs::NONE };

/// Shard channels are located in cluster slots as keys are.
const SLOTTED: KeySpec = KeySpec::at(1).flags(KeyFlags::NOT_KEY);

// ---- listening --------------------------------------------------------------------------------

const SUBSCRIBE: Spec =
    Spec::admin("subscribe", -2, subscribe).flags(LISTEN).channels(ChannelSpec::SUBSCRIBE).docs(Docs {
        summary: "Listens to channels.",
        since: "2.0.0",
        complexity: "O(1) per channel.",
        args: &[Arg::string("channel").multiple()],
        ..DOCS
    });

/// SUBSCRIBE channel [channel …] → for each channel: name and number of subscriptions.
fn subscribe(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    listen(server, key, args, Scope::Channel)
}

const PSUBSCRIBE: Spec = Spec::admin("psubscribe", -2, psubscribe)
    .flags(LISTEN)
    .channels(ChannelSpec::SUBSCRIBE.patterns())
    .docs(Docs {
        summary: "Listens to all channels that match patterns.",
        since: "2.0.0",
        complexity: "O(1) per pattern.",
        args: &[Arg::pattern("pattern").multiple()],
        ..DOCS
    });

/// PSUBSCRIBE pattern [pattern …] → for each pattern: pattern and number of subscriptions.
fn psubscribe(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    listen(server, key, args, Scope::Pattern)
}

const SSUBSCRIBE: Spec = Spec::admin("ssubscribe", -2, ssubscribe)
    .flags(LISTEN)
    .keys(&[SLOTTED.range(-1, 1, 0)])
    .channels(ChannelSpec::SUBSCRIBE)
    .docs(Docs {
        summary: "Listens to shard channels.",
        since: "7.0.0",
        complexity: "O(1) per channel.",
        args: &[Arg::string("shardchannel").multiple()],
        ..DOCS
    });

/// SSUBSCRIBE channel [channel …] → for each channel: name and number of subscriptions to shard channels.
fn ssubscribe(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    // Several replies would not fit where a transaction has one. (For other channels there are clients that expect it.)
    if server.execution.depth > 0 {
        return Err(Error::text("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    listen(server, key, args, Scope::Shard)
}

fn listen(server: &mut Server, key: ClientKey, args: Args<'_>, scope: Scope) -> CmdResult {
    let mut replied = None;
    for name in args.rest(1).iter() {
        replied = Some(server.subscribe(key, scope, name));
    }
    Ok(replied.expect("there are two arguments at least"))
}

const UNSUBSCRIBE: Spec =
    Spec::admin("unsubscribe", -1, unsubscribe).flags(LISTEN).channels(ChannelSpec::UNSUBSCRIBE).docs(Docs {
        summary: "Listens to channels no longer.",
        since: "2.0.0",
        complexity: "O(1) per channel.",
        args: &[Arg::string("channel").optional().multiple()],
        ..DOCS
    });

/// UNSUBSCRIBE [channel …] → for each given channel, or for all: name and number of remaining subscriptions.
fn unsubscribe(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    listen_no_more(server, key, args, Scope::Channel)
}

const PUNSUBSCRIBE: Spec = Spec::admin("punsubscribe", -1, punsubscribe)
    .flags(LISTEN)
    .channels(ChannelSpec::UNSUBSCRIBE.patterns())
    .docs(Docs {
        summary: "Listens to channels that match patterns no longer.",
        since: "2.0.0",
        complexity: "O(1) per pattern.",
        args: &[Arg::pattern("pattern").optional().multiple()],
        ..DOCS
    });

/// PUNSUBSCRIBE [pattern …] → for each given pattern, or for all: pattern and number of remaining subscriptions.
fn punsubscribe(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    listen_no_more(server, key, args, Scope::Pattern)
}

const SUNSUBSCRIBE: Spec = Spec::admin("sunsubscribe", -1, sunsubscribe)
    .flags(LISTEN)
    .keys(&[SLOTTED.range(-1, 1, 0)])
    .channels(ChannelSpec::UNSUBSCRIBE)
    .docs(Docs {
        summary: "Listens to shard channels no longer.",
        since: "7.0.0",
        complexity: "O(1) per channel.",
        args: &[Arg::string("shardchannel").optional().multiple()],
        ..DOCS
    });

/// SUNSUBSCRIBE [channel …] → for each given channel, or for all: name and number of remaining subscriptions to
/// shard channels.
fn sunsubscribe(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    listen_no_more(server, key, args, Scope::Shard)
}

fn listen_no_more(server: &mut Server, key: ClientKey, args: Args<'_>, scope: Scope) -> CmdResult {
    let mut replied = None;
    for name in args.rest(1).iter() {
        replied = Some(server.unsubscribe(key, scope, name));
    }
    Ok(replied.unwrap_or_else(|| server.unsubscribe_scope(key, scope)))
}

// ---- sending ----------------------------------------------------------------------------------

const PUBLISH: Spec =
    Spec::admin("publish", 3, publish).flags(SEND).channels(ChannelSpec::PUBLISH).docs(Docs {
        summary: "Sends a message to a channel.",
        since: "2.0.0",
        complexity: "O(N+M), N being the subscribers it reaches and M the patterns of all clients.",
        args: &[Arg::string("channel"), Arg::string("message")],
        ..DOCS
    });

/// PUBLISH channel message → number of deliveries.
fn publish(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    send(server, key, args, Scope::Channel)
}

/// Sends a message to those who listen here, at replicas, or at other nodes of the cluster.
fn send(server: &mut Server, key: ClientKey, args: Args<'_>, scope: Scope) -> CmdResult {
    let reached = server.publish(scope, args.at(1), args.at(2));
    if server.cluster.is_some() {
        server.cluster_publish(scope == Scope::Shard, args.at(1), args.at(2));
    } else {
        let db = server.clients[key].db;
        server.pass_on_to_replicas(db, &args);
    }
    Ok(server.reply(key).int(reached as i64))
}

const SPUBLISH: Spec =
    Spec::admin("spublish", 3, spublish).flags(SEND).keys(&[SLOTTED]).channels(ChannelSpec::PUBLISH).docs(
        Docs {
            summary: "Sends a message to a shard channel.",
            since: "7.0.0",
            complexity: "O(N), N being the subscribers it reaches.",
            args: &[Arg::string("shardchannel"), Arg::string("message")],
            ..DOCS
        },
    );

/// SPUBLISH channel message → number of deliveries.
fn spublish(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    send(server, key, args, Scope::Shard)
}

// ---- asking -----------------------------------------------------------------------------------

const PUBSUB: Spec = Spec::container(
    "pubsub",
    -2,
    &[PUBSUB_CHANNELS, PUBSUB_HELP, PUBSUB_NUMPAT, PUBSUB_NUMSUB, PUBSUB_SHARDCHANNELS, PUBSUB_SHARDNUMSUB],
)
.docs(Docs {
    summary: "Commands about who listens to what.",
    since: "2.8.0",
    complexity: "That of the subcommand.",
    ..DOCS
});

const PUBSUB_CHANNELS: Spec = Spec::admin("pubsub|channels", -2, pubsub_channels).flags(ASK).docs(Docs {
    summary: "Lists the channels that have subscribers.",
    since: "2.8.0",
    complexity: "O(N), N being the number of channels.",
    args: &[Arg::pattern("pattern").optional()],
    ..DOCS
});

/// PUBSUB CHANNELS [pattern] → channels with subscribers, not counting subscriptions by pattern.
fn pubsub_channels(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    channels(server, key, args, Scope::Channel)
}

const PUBSUB_SHARDCHANNELS: Spec =
    Spec::admin("pubsub|shardchannels", -2, pubsub_shardchannels).flags(ASK).docs(Docs {
        summary: "Lists the shard channels that have subscribers.",
        since: "7.0.0",
        complexity: "O(N), N being the number of shard channels.",
        args: &[Arg::pattern("pattern").optional()],
        ..DOCS
    });

/// PUBSUB SHARDCHANNELS [pattern] → shard channels with subscribers.
fn pubsub_shardchannels(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    channels(server, key, args, Scope::Shard)
}

fn channels(server: &mut Server, key: ClientKey, args: Args<'_>, scope: Scope) -> CmdResult {
    if args.len() > 3 {
        return Err(Error::quoting(&[
            b"ERR unknown subcommand or wrong number of arguments for '",
            args.at(1),
            b"'. Try PUBSUB HELP.",
        ]));
    }
    let client = &mut server.clients[key];
    let protocol = client.protocol;
    // The output leaves its client while it is written, because the names are borrowed from the server meanwhile.
    let mut out = std::mem::take(&mut client.io.output);
    let mut reply = out.reply(protocol);
    let (at, mut count) = (reply.defer(), 0);
    let names = server.clients.pubsub.names(scope);
    let names = names.filter(|name| args.get(2).is_none_or(|pattern| glob::matches(pattern, name)));
    reply.each(names, |reply, name| {
        reply.bulk(name);
        count += 1;
    });
    let replied = reply.end_array(at, count);
    server.clients[key].io.output = out;
    Ok(replied)
}

const PUBSUB_HELP: Spec = Spec::admin("pubsub|help", 2, pubsub_help)
    .flags(Flags::LOADING.with(Flags::STALE))
    .docs(Docs { summary: "Lists the subcommands.", since: "6.2.0", ..DOCS });

/// PUBSUB HELP → descriptions of the subcommands.
fn pubsub_help(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let forms = [
        ("CHANNELS [<pattern>]", "The channels that have subscribers."),
        ("NUMPAT", "How many patterns have subscribers."),
        ("NUMSUB [<channel> ...]", "How many subscribers each channel has."),
        ("SHARDCHANNELS [<pattern>]", "The shard channels that have subscribers."),
        ("SHARDNUMSUB [<shardchannel> ...]", "How many subscribers each shard channel has."),
    ];
    Ok(super::help::help(&mut server.reply(key), "PUBSUB", &forms))
}

const PUBSUB_NUMPAT: Spec = Spec::admin("pubsub|numpat", 2, pubsub_numpat).flags(ASK).docs(Docs {
    summary: "Tells how many patterns have subscribers.",
    since: "2.8.0",
    ..DOCS
});

/// PUBSUB NUMPAT → number of distinct patterns with subscribers.
fn pubsub_numpat(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let patterns = server.clients.pubsub.len(Scope::Pattern);
    Ok(server.reply(key).int(patterns as i64))
}

const PUBSUB_NUMSUB: Spec = Spec::admin("pubsub|numsub", -2, pubsub_numsub).flags(ASK).docs(Docs {
    summary: "Tells how many subscribers channels have.",
    since: "2.8.0",
    complexity: "O(1) per channel.",
    args: &[Arg::string("channel").optional().multiple()],
    ..DOCS
});

/// PUBSUB NUMSUB [channel …] → each channel and its number of subscribers, not counting subscriptions by pattern.
fn pubsub_numsub(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    counts(server, key, args, Scope::Channel)
}

const PUBSUB_SHARDNUMSUB: Spec =
    Spec::admin("pubsub|shardnumsub", -2, pubsub_shardnumsub).flags(ASK).docs(Docs {
        summary: "Tells how many subscribers shard channels have.",
        since: "7.0.0",
        complexity: "O(1) per channel.",
        args: &[Arg::string("shardchannel").optional().multiple()],
        ..DOCS
    });

/// PUBSUB SHARDNUMSUB [channel …] → each shard channel and its number of subscribers.
fn pubsub_shardnumsub(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    counts(server, key, args, Scope::Shard)
}

fn counts(server: &mut Server, key: ClientKey, args: Args<'_>, scope: Scope) -> CmdResult {
    let names = args.rest(2);
    let mut replied = server.reply(key).array(2 * names.len());
    for name in names.iter() {
        let subscribers = server.clients.pubsub.subscribers(scope, name);
        let mut reply = server.reply(key);
        reply.bulk(name);
        replied = reply.int(subscribers as i64);
    }
    Ok(replied)
}

#[cfg(test)]
mod tests {
    use crate::clients::{ClientFlags, ClientKey};
    use crate::commands::testing::{Harness, check};

    /// A server with one subscriber and one other client.
    fn two() -> (Harness, ClientKey, ClientKey) {
        let mut harness = Harness::default();
        let (a, b) = (harness.client, harness.connect());
        (harness, a, b)
    }

    /// Arrays on one line each, without numbers of elements.
    fn flat(text: &str) -> String {
        let items = text.lines().map(|line| match line.trim_start().split_once(") ") {
            Some((number, item)) => (number != "1", item),
            None => (false, line),
        });
        let mut out = String::new();
        for (follows, item) in items {
            if !out.is_empty() {
                out.push(if follows { ' ' } else { '\n' });
            }
            out.push_str(item.trim_start_matches("(integer) "));
        }
        out
    }

    #[test]
    fn messages_reach_subscribers_of_channels_and_patterns() {
        let (mut server, a, b) = two();
        assert_eq!(
            flat(&server.run_as(a, "SUBSCRIBE news other news")),
            "\"subscribe\" \"news\" 1\n\"subscribe\" \"other\" 2\n\"subscribe\" \"news\" 2"
        );
        assert_eq!(flat(&server.run_as(a, "PSUBSCRIBE n*")), "\"psubscribe\" \"n*\" 3");
        assert_eq!(flat(&server.run_as(a, "SSUBSCRIBE news")), "\"ssubscribe\" \"news\" 1");
        assert_eq!(server.run_as(b, "PUBLISH news hi"), "(integer) 2");
        assert_eq!(
            flat(&server.output_of(a)),
            "\"message\" \"news\" \"hi\"\n\"pmessage\" \"n*\" \"news\" \"hi\""
        );
        assert_eq!(server.run_as(b, "SPUBLISH news hi"), "(integer) 1");
        assert_eq!(flat(&server.output_of(a)), "\"smessage\" \"news\" \"hi\"");
        assert_eq!(server.run_as(b, "PUBLISH nothing hi"), "(integer) 1");
        assert_eq!(server.run_as(b, "PUBLISH elsewhere hi"), "(integer) 0");
        assert_eq!(flat(&server.output_of(a)), "\"pmessage\" \"n*\" \"nothing\" \"hi\"");
        assert_eq!(
            flat(&server.run_as(b, "PUBSUB NUMSUB news x")),
            "\"news\" 1 \"x\" 0",
            "patterns are not counted"
        );
        assert_eq!(flat(&server.run_as(b, "PUBSUB CHANNELS ne*")), "\"news\"");
        assert_eq!(flat(&server.run_as(b, "PUBSUB SHARDCHANNELS x*")), "(empty array)");
        assert_eq!(flat(&server.run_as(b, "PUBSUB SHARDNUMSUB news")), "\"news\" 1");
        assert_eq!(server.run_as(b, "PUBSUB NUMPAT"), "(integer) 1");
        assert_eq!(flat(&server.run_as(a, "UNSUBSCRIBE news")), "\"unsubscribe\" \"news\" 2");
        assert_eq!(flat(&server.run_as(a, "PUNSUBSCRIBE")), "\"punsubscribe\" \"n*\" 1");
        assert_eq!(flat(&server.run_as(a, "PUNSUBSCRIBE")), "\"punsubscribe\" (nil) 1");
        assert_eq!(server.run_as(a, "RESET"), "RESET");
        assert!(server.server.clients.pubsub.is_empty());
        assert_eq!(server.run_as(a, "PING"), "PONG");
    }

    #[test]
    fn a_long_message_is_shared_and_a_short_one_copied() {
        let (mut server, a, b) = two();
        let c = server.connect();
        server.run_as(c, "HELLO 3");
        for client in [a, c] {
            server.run_as(client, "SUBSCRIBE news");
        }
        for length in [10, 900, 1100, 100_000] {
            let text = "x".repeat(length);
            server.run_as(b, &format!("PUBLISH news {text}"));
            server.run_as(b, "PUBLISH news end");
            let output = &server.server.clients[a].io.output;
            assert_eq!(output.segments() > 0, length > 900, "{length}");
            for client in [a, c] {
                let expected = format!("\"message\" \"news\" \"{text}\"\n\"message\" \"news\" \"end\"");
                assert_eq!(flat(&server.output_of(client)), expected);
            }
        }
    }

    #[test]
    fn who_cannot_tell_messages_from_replies_may_only_listen() {
        check(
            r#"
            SUBSCRIBE a
            PING
            PING "a b"
            GET x
            CLIENT LIST
            MULTI
            NOSUCH
            UNSUBSCRIBE a
            GET x
            "#,
            r#"
            1) "subscribe"
            2) "a"
            3) (integer) 1
            1) "pong"
            2) ""
            1) "pong"
            2) "a b"
            (error) ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
            (error) ERR Can't execute 'client|list': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
            (error) ERR Can't execute 'multi': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
            (error) ERR unknown command 'NOSUCH', with args beginning with:
            1) "unsubscribe"
            2) "a"
            3) (integer) 0
            (nil)
            "#,
        );
    }

    #[test]
    fn what_a_client_sends_itself_follows_the_reply() {
        let (mut server, a, _) = two();
        server.run_as(a, "HELLO 3");
        server.run_as(a, "SUBSCRIBE foo bar");
        assert_eq!(flat(&server.run_as(a, "PUBLISH foo x")), "1\n\"message\" \"foo\" \"x\"");
        for line in ["MULTI", "PUBLISH foo 1", "UNSUBSCRIBE bar", "PUBLISH foo 2", "PING"] {
            server.run_as(a, line);
        }
        let raw = server.raw(&[b"EXEC"]);
        let expected = "*4\r\n:1\r\n>3\r\n$11\r\nunsubscribe\r\n$3\r\nbar\r\n:1\r\n:1\r\n+PONG\r\n\
                        >3\r\n$7\r\nmessage\r\n$3\r\nfoo\r\n$1\r\n1\r\n>3\r\n$7\r\nmessage\r\n$3\r\nfoo\r\n$1\r\n2\r\n";
        assert_eq!(String::from_utf8_lossy(&raw), expected);
    }

    #[test]
    fn messages_come_even_to_who_wants_no_replies() {
        let (mut server, a, b) = two();
        server.run_as(a, "HELLO 3");
        server.run_as(a, "CLIENT REPLY OFF");
        assert_eq!(flat(&server.run_as(a, "SUBSCRIBE foo")), "\"subscribe\" \"foo\" 1");
        assert_eq!(flat(&server.run_as(a, "PUBLISH foo x")), "\"message\" \"foo\" \"x\"");
        server.run_as(b, "PUBLISH foo y");
        assert_eq!(flat(&server.output_of(a)), "\"message\" \"foo\" \"y\"");
        assert_eq!(flat(&server.run_as(a, "UNSUBSCRIBE")), "\"unsubscribe\" \"foo\" 0");
        assert_eq!(server.run_as(a, "PING"), "");
    }

    #[test]
    fn who_revokes_its_own_channel_reads_the_answer() {
        let (mut server, a, b) = two();
        for line in ["HELLO 3", "SUBSCRIBE foo"] {
            server.run_as(a, line);
        }
        server.run_as(b, "SUBSCRIBE foo");
        assert_eq!(server.run_as(a, "ACL SETUSER default resetchannels"), "OK");
        let flags = |key: ClientKey| server.server.clients[key].flags;
        assert!(flags(a).has(ClientFlags::CLOSE_AFTER_REPLY) && !flags(a).has(ClientFlags::CLOSE_SOON));
        assert!(flags(b).has(ClientFlags::CLOSE_SOON));
    }

    #[test]
    fn events_are_published_in_order() {
        let (mut server, a, b) = two();
        server.run_as(b, "CONFIG SET notify-keyspace-events KEAnm");
        server.run_as(a, "PSUBSCRIBE __key*");
        let mut events = |line: &str| {
            server.run_as(b, line);
            let told = flat(&server.output_of(a)).replace("\"pmessage\" \"__key*\" ", "").replace('"', "");
            told.lines().map(|line| format!("{line}; ")).collect::<String>()
        };
        assert_eq!(
            events("SET k v EX 100"),
            "__keyspace@0__:k new; __keyevent@0__:new k; __keyspace@0__:k set; __keyevent@0__:set k; \
             __keyspace@0__:k expire; __keyevent@0__:expire k; "
        );
        assert_eq!(events("GET nosuch"), "__keyspace@0__:nosuch keymiss; __keyevent@0__:keymiss nosuch; ");
        assert_eq!(events("GET k"), "");
        events("CONFIG SET notify-keyspace-events Eg");
        assert_eq!(events("SET k v2"), "");
        assert_eq!(events("RENAME k l"), "__keyevent@0__:rename_from k; __keyevent@0__:rename_to l; ");
        assert_eq!(events("DEL l k"), "__keyevent@0__:del l; ");
        events("CONFIG SET notify-keyspace-events \"\"");
        assert_eq!(events("SET k v2"), "");
    }

    /// Redis 8.8 documents these channels; the examples are those of its page about them, with the right lengths.
    #[test]
    fn the_fields_that_an_event_is_about_are_named() {
        let (mut server, a, b) = two();
        server.run_as(b, "CONFIG SET notify-keyspace-events STh");
        server.run_as(a, "PSUBSCRIBE __*");
        let mut events = |line: &str| {
            server.run_as(b, line);
            let told = flat(&server.output_of(a)).replace("\"pmessage\" \"__*\" ", "").replace('"', "");
            told.lines().map(|line| format!("{line}; ")).collect::<String>()
        };
        assert_eq!(
            events("HSET myhash field1 val1 field2 val2"),
            "__subkeyspace@0__:myhash hset|6:field1,6:field2; \
             __subkeyevent@0__:hset 6:myhash|6:field1,6:field2; "
        );
        events("CONFIG SET notify-keyspace-events IVh");
        assert_eq!(
            events("HDEL myhash field1 nosuch field2"),
            "__subkeyspaceitem@0__:myhash\\nfield1 hdel; __subkeyspaceitem@0__:myhash\\nfield2 hdel; \
             __subkeyspaceevent@0__:hdel|myhash 6:field1,6:field2; "
        );
        // A key with a line break would be ambiguous in a channel that has one behind the key.
        assert_eq!(events(r#"HSET "k\nk" f 1"#), "__subkeyspaceevent@0__:hset|k\\nk 1:f; ");
        assert_eq!(
            events("HSETNX k f 1"),
            "__subkeyspaceitem@0__:k\\nf hset; __subkeyspaceevent@0__:hset|k 1:f; "
        );
        assert_eq!(events("HSETNX k f 2"), "");
        events("CONFIG SET notify-keyspace-events KSh");
        for (line, expected) in [
            ("HINCRBY k f 2", "__keyspace@0__:k hincrby; __subkeyspace@0__:k hincrby|1:f; "),
            ("HINCRBYFLOAT k g 2", "__keyspace@0__:k hincrbyfloat; __subkeyspace@0__:k hincrbyfloat|1:g; "),
            (
                "HEXPIRE k 100 FIELDS 3 f x g",
                "__keyspace@0__:k hexpire; __subkeyspace@0__:k hexpire|1:f,1:g; ",
            ),
            ("HPERSIST k FIELDS 2 f x", "__keyspace@0__:k hpersist; __subkeyspace@0__:k hpersist|1:f; "),
            ("HGETEX k EX 100 FIELDS 2 f x", "__keyspace@0__:k hexpire; __subkeyspace@0__:k hexpire|1:f; "),
            (
                "HGETEX k PERSIST FIELDS 2 f x",
                "__keyspace@0__:k hpersist; __subkeyspace@0__:k hpersist|1:f; ",
            ),
            (
                "HSETEX k EX 100 FIELDS 2 a 1 b 2",
                "__keyspace@0__:k hset; __subkeyspace@0__:k hset|1:a,1:b; \
                 __keyspace@0__:k hexpire; __subkeyspace@0__:k hexpire|1:a,1:b; ",
            ),
            ("HGETDEL k FIELDS 2 a x", "__keyspace@0__:k hdel; __subkeyspace@0__:k hdel|1:a; "),
            ("HPEXPIREAT k 1 FIELDS 2 b x", "__keyspace@0__:k hdel; __subkeyspace@0__:k hdel|1:b; "),
            ("SET s 1", ""),
            // What concerns no fields is published as before.
            ("HSET k f 3", "__keyspace@0__:k hset; __subkeyspace@0__:k hset|1:f; "),
        ] {
            assert_eq!(events(line), expected, "{line}");
        }
        events("CONFIG SET notify-keyspace-events ST");
        assert_eq!(events("HSET k f 4"), "", "the class of the event must be chosen, too");
    }

    #[test]
    fn fields_that_expired_are_named_together() {
        let (mut server, a, b) = two();
        server.run_as(b, "CONFIG SET notify-keyspace-events Sh");
        server.run_as(a, "PSUBSCRIBE __*");
        server.run_as(b, "HSET k f 1 g 2 h 3");
        server.run_as(b, "HPEXPIRE k 1 FIELDS 2 f g");
        server.output_of(a);
        std::thread::sleep(std::time::Duration::from_millis(5));
        server.run_as(b, "HMGET k f g h");
        assert!(flat(&server.output_of(a)).contains("hexpired|1:f,1:g"));
    }

    #[test]
    fn values_that_are_replaced_are_reported() {
        let (mut server, a, b) = two();
        server.run_as(b, "CONFIG SET notify-keyspace-events EA$oc");
        server.run_as(a, "PSUBSCRIBE __*");
        let mut events = |line: &str| {
            server.run_as(b, line);
            let told = flat(&server.output_of(a)).replace("\"pmessage\" \"__*\" ", "").replace('"', "");
            told.replace("__keyevent@0__:", "").lines().map(|line| format!("{line}; ")).collect::<String>()
        };
        for (line, expected) in [
            ("SET k a", "set k; "),
            ("SET k b", "overwritten k; set k; "),
            ("SET k 12 EX 100", "overwritten k; set k; expire k; "),
            ("INCR k", "incrby k; "),
            ("INCRBYFLOAT k 1.5", "incrbyfloat k; "),
            ("APPEND k x", "append k; "),
            ("SETNX k y", ""),
            ("RPUSH l 1", "rpush l; "),
            ("MSET l b", "overwritten l; type_changed l; set l; "),
            ("SADD s 1", "sadd s; "),
            ("SUNIONSTORE l s", "overwritten l; type_changed l; sunionstore l; "),
            ("SUNIONSTORE l s", "overwritten l; sunionstore l; "),
            ("SUNIONSTORE l nosuch", "del l; "),
            ("SET l x", "set l; "),
            ("RENAME s l", "rename_from s; rename_to l; overwritten l; type_changed l; "),
            ("COPY k l REPLACE", "copy_to l; overwritten l; type_changed l; "),
            ("BITOP NOT l k", "overwritten l; set l; "),
        ] {
            assert_eq!(events(line), expected, "{line}");
        }
    }

    #[test]
    fn shard_channels_are_not_for_transactions() {
        check(
            "MULTI\nSSUBSCRIBE a\nSUNSUBSCRIBE a\nEXEC",
            r#"
            OK
            QUEUED
            QUEUED
            1) (error) ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client
            2) 1) "sunsubscribe"
               2) "a"
               3) (integer) 0
            "#,
        );
    }
}
