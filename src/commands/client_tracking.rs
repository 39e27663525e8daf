//! CLIENT TRACKING and related commands: notifications about changed keys for clients that cache.

use crate::clients::tracking::{Caching, Tracking};
use crate::clients::{ClientFlags, ClientKey};
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, Group, Spec};

const OWN: Flags = Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::KEEPS_CACHING);

const DOCS: Docs = Docs { group: Group::Connection, ..Docs::NONE };

pub(super) const CLIENT_CACHING: Spec =
    Spec::admin("client|caching", 3, client_caching).flags(OWN).acl(Acl::CONNECTION).docs(Docs {
        summary: "Chooses whether the keys of the next command are tracked.",
        since: "6.0.0",
        args: &[Arg::one_of("mode", &[Arg::word("yes", "YES"), Arg::word("no", "NO")])],
        ..DOCS
    });

/// CLIENT CACHING YES|NO → OK.
fn client_caching(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let client = &mut server.clients[key];
    let caching = client.tracking.as_ref().map_or(Caching::Always, |tracking| tracking.caching);
    if client.tracking.is_none() {
        return Err(Error::text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode \
             enabled",
        ));
    }
    if args.is(2, "YES") {
        if caching != Caching::OptIn {
            return Err(Error::text(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
    } else if args.is(2, "NO") {
        if caching != Caching::OptOut {
            return Err(Error::text(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
    } else {
        return Err(Error::Syntax);
    }
    client.flags.set(ClientFlags::CHOSE_CACHING, true);
    Ok(server.reply(key).ok())
}

pub(super) const CLIENT_GETREDIR: Spec =
    Spec::admin("client|getredir", 2, client_getredir).flags(OWN).acl(Acl::CONNECTION).docs(Docs {
        summary: "Tells which client gets this connection's invalidation messages.",
        since: "6.0.0",
        ..DOCS
    });

/// CLIENT GETREDIR → ID of the client that messages are redirected to; 0 for this client; −1 without tracking.
fn client_getredir(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let redirect = server.clients[key].tracking.as_ref().map_or(-1, |tracking| tracking.redirect_id());
    Ok(server.reply(key).int(redirect))
}

pub(super) const CLIENT_TRACKING: Spec =
    Spec::admin("client|tracking", -3, client_tracking).flags(OWN).acl(Acl::CONNECTION).docs(Docs {
        summary: "Chooses whether the connection is told of changes to keys it may have copies of.",
        since: "6.0.0",
        complexity: "O(1), or O(N) for N prefixes.",
        args: &[
            Arg::one_of("status", &[Arg::word("on", "ON"), Arg::word("off", "OFF")]),
            Arg::integer("client-id").token("REDIRECT").optional(),
            Arg::string("prefix").token("PREFIX").optional().multiple().multiple_token(),
            Arg::word("BCAST", "BCAST").optional(),
            Arg::word("OPTIN", "OPTIN").optional(),
            Arg::word("OPTOUT", "OPTOUT").optional(),
            Arg::word("NOLOOP", "NOLOOP").optional(),
        ],
        ..DOCS
    });

/// CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix …] [BCAST] [OPTIN] [OPTOUT] [NOLOOP] → OK.
fn client_tracking(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let mut wanted = Tracking::default();
    let (mut opt_in, mut opt_out) = (false, false);
    let mut prefixes: Vec<&[u8]> = Vec::new();
    let mut i = 3;
    while i < args.len() {
        let has_value = i + 1 < args.len();
        if args.is(i, "REDIRECT") && has_value {
            if wanted.redirect.is_some() {
                return Err(Error::text("ERR A client can only redirect to a single other client"));
            }
            i += 1;
            let id = args.int(i)?;
            let found = u64::try_from(id).ok().and_then(|id| server.clients.find(id));
            let found =
                found.ok_or_else(|| Error::text("ERR The client ID you want redirect to does not exist"))?;
            wanted.redirect = Some(server.clients.reference(found));
        } else if args.is(i, "BCAST") {
            wanted.broadcast = true;
        } else if args.is(i, "OPTIN") {
            opt_in = true;
        } else if args.is(i, "OPTOUT") {
            opt_out = true;
        } else if args.is(i, "NOLOOP") {
            wanted.no_loop = true;
        } else if args.is(i, "PREFIX") && has_value {
            i += 1;
            prefixes.push(args.at(i));
        } else {
            return Err(Error::Syntax);
        }
        i += 1;
    }
    if args.is(2, "OFF") {
        if server.clients[key].tracking.is_some() {
            server.untrack(key);
        }
        return Ok(server.reply(key).ok());
    }
    if !args.is(2, "ON") {
        return Err(Error::Syntax);
    }
    let now = server.clients[key].tracking.as_deref();
    if !wanted.broadcast && !prefixes.is_empty() {
        return Err(Error::text("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    if now.is_some_and(|now| now.broadcast != wanted.broadcast) {
        return Err(Error::text(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling \
             it with a different mode.",
        ));
    }
    if wanted.broadcast && (opt_in || opt_out) {
        return Err(Error::text("ERR OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if opt_in && opt_out {
        return Err(Error::text("ERR You can't specify both OPTIN mode and OPTOUT mode"));
    }
    let caching = now.map_or(Caching::Always, |now| now.caching);
    if opt_in && caching == Caching::OptOut || opt_out && caching == Caching::OptIn {
        return Err(Error::text(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling \
             it with a different mode.",
        ));
    }
    wanted.caching = match () {
        () if opt_in => Caching::OptIn,
        () if opt_out => Caching::OptOut,
        () => Caching::Always,
    };
    if wanted.broadcast {
        check_overlaps(&prefixes, now)?;
        // Without prefixes, the client is notified of all keys.
        if prefixes.is_empty() {
            prefixes.push(b"");
        }
    }
    server.track(key, wanted, &prefixes);
    Ok(server.reply(key).ok())
}

/// Checks that no key is reported twice: no prefix of the client begins with another.
///
/// # Errors
/// If two prefixes overlap.
fn check_overlaps(prefixes: &[&[u8]], now: Option<&Tracking>) -> Result<(), Error> {
    let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    let refuse = |prefix: &[u8], other: &[u8], which: &str| {
        Err(Error::quoting(&[
            b"ERR Prefix '",
            prefix,
            b"' overlaps with ",
            which.as_bytes(),
            b" prefix '",
            other,
            b"'. Prefixes for a single client must not overlap.",
        ]))
    };
    for (i, prefix) in prefixes.iter().enumerate() {
        let mut known = now.into_iter().flat_map(|now| now.prefixes());
        if let Some(other) = known.find(|other| overlap(prefix, other)) {
            return refuse(prefix, other, "an existing");
        }
        if let Some(other) = prefixes[i + 1..].iter().find(|other| overlap(prefix, other)) {
            return refuse(prefix, other, "another provided");
        }
    }
    Ok(())
}

pub(super) const CLIENT_TRACKINGINFO: Spec = Spec::admin("client|trackinginfo", 2, client_trackinginfo)
    .flags(OWN)
    .acl(Acl::CONNECTION)
    .docs(Docs { summary: "Tells how keys are tracked for the connection.", since: "6.2.0", ..DOCS });

/// CLIENT TRACKINGINFO → a map of flags, redirection target, and prefixes.
fn client_trackinginfo(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let client = &server.clients[key];
    let chose = client.flags.has(ClientFlags::CHOSE_CACHING);
    let now = client.tracking.clone();
    let mut reply = server.reply(key);
    reply.map(3);
    reply.bulk(b"flags");
    let Some(now) = now else {
        reply.set(1);
        reply.bulk(b"off");
        reply.bulk(b"redirect");
        reply.int(-1);
        reply.bulk(b"prefixes");
        return Ok(reply.array(0));
    };
    let (opt_in, opt_out) = (now.caching == Caching::OptIn, now.caching == Caching::OptOut);
    let flags = [
        (true, "on"),
        (now.broadcast, "bcast"),
        (opt_in, "optin"),
        (opt_in && chose, "caching-yes"),
        (opt_out, "optout"),
        (opt_out && chose, "caching-no"),
        (now.no_loop, "noloop"),
        (now.broken, "broken_redirect"),
    ];
    let set = flags.iter().filter(|(set, _)| *set);
    reply.set(set.clone().count());
    for (_, name) in set {
        reply.bulk(name.as_bytes());
    }
    reply.bulk(b"redirect");
    reply.int(now.redirect_id());
    reply.bulk(b"prefixes");
    let mut replied = reply.array(now.prefixes().len());
    for prefix in now.prefixes() {
        replied = reply.bulk(prefix);
    }
    Ok(replied)
}

#[cfg(test)]
mod tests {
    use crate::clients::ClientKey;
    use crate::commands::testing::{Harness, check};

    const PUSH: &str = "1) \"invalidate\"\n2) 1) ";

    /// A server with a RESP3 client that tracks with these options, and another client.
    fn tracking(options: &str) -> (Harness, ClientKey, ClientKey) {
        let mut harness = Harness::default();
        let (a, b) = (harness.client, harness.connect());
        harness.run_as(a, "HELLO 3");
        assert_eq!(harness.run_as(a, &format!("CLIENT TRACKING ON {options}")), "OK");
        (harness, a, b)
    }

    #[test]
    fn who_has_read_a_key_is_told_once() {
        let (mut server, a, b) = tracking("");
        server.run_as(a, "MGET k l");
        assert_eq!(server.server.clients.tracking.keys(), 2);
        server.run_as(b, "SET k 1");
        assert_eq!(server.output_of(a), format!("{PUSH}\"k\""));
        server.run_as(b, "SET k 2");
        assert_eq!(server.output_of(a), "");
        // Messages about the client's own changes follow the reply.
        assert_eq!(server.run_as(a, "SET l 1"), format!("OK\n{PUSH}\"l\""));
        server.run_as(a, "GET k");
        server.run_as(b, "FLUSHDB");
        assert_eq!(server.output_of(a), "1) \"invalidate\"\n2) (nil)");
        server.run_as(a, "GET k");
        assert_eq!(server.run_as(a, "CLIENT TRACKING OFF"), "OK");
        server.run_as(b, "SET k 1");
        assert_eq!(server.output_of(a), "", "it is not tracked");
        assert_eq!(server.server.clients.tracking.keys(), 0);
    }

    #[test]
    fn who_is_tracked_again_may_still_have_copies() {
        let (mut server, a, b) = tracking("");
        server.run_as(a, "MGET k l");
        server.run_as(a, "CLIENT TRACKING OFF");
        server.run_as(b, "SET l 1");
        server.run_as(a, "CLIENT TRACKING ON OPTIN");
        server.run_as(b, "MSET k 1 l 2");
        assert_eq!(server.output_of(a), format!("{PUSH}\"k\""));
        // Nobody needs to know what a client has read that has left.
        server.run_as(a, "CLIENT TRACKING OFF");
        server.run_as(a, "CLIENT TRACKING ON");
        server.run_as(a, "GET k");
        server.run_as(a, "CLIENT TRACKING OFF");
        drop(server.server.clients.forget_reader(a));
        assert_eq!(server.server.clients.tracking.keys(), 0);
        assert!(!server.server.clients.tracking.concerns_anybody());
    }

    #[test]
    fn own_changes_are_left_out_on_demand() {
        let (mut server, a, b) = tracking("NOLOOP");
        server.run_as(a, "GET k");
        assert_eq!(server.run_as(a, "SET k 1"), "OK");
        server.run_as(a, "GET k");
        server.run_as(b, "SET k 1");
        assert_eq!(server.output_of(a), format!("{PUSH}\"k\""));
    }

    #[test]
    fn keys_are_chosen_by_command() {
        let (mut server, a, b) = tracking("OPTIN");
        server.run_as(a, "GET k");
        server.run_as(a, "CLIENT CACHING YES");
        server.run_as(a, "CLIENT ID");
        server.run_as(a, "GET l");
        server.run_as(a, "GET m");
        assert_eq!(server.server.clients.tracking.keys(), 1);
        server.run_as(b, "MSET k 1 l 1 m 1");
        assert_eq!(server.output_of(a), format!("{PUSH}\"l\""));
        for line in ["CLIENT CACHING YES", "MULTI", "GET k", "GET l", "EXEC", "GET m"] {
            server.run_as(a, line);
        }
        assert_eq!(server.server.clients.tracking.keys(), 2);
        server.run_as(a, "CLIENT TRACKING OFF");
        for line in ["CLIENT TRACKING ON OPTOUT", "CLIENT CACHING NO", "GET m", "GET n"] {
            server.run_as(a, line);
        }
        assert_eq!(server.server.clients.tracking.keys(), 3);
    }

    #[test]
    fn readers_of_a_stream_hear_nothing_of_its_groups() {
        let (mut server, a, b) = tracking("NOLOOP");
        server.run_as(b, "XADD k 1-0 f v");
        server.run_as(a, "XRANGE k - +");
        for line in
            ["XGROUP CREATE k g 0", "XREADGROUP GROUP g c STREAMS k >", "XACK k g 1-0", "XSETID k 1-0"]
        {
            server.run_as(b, line);
        }
        assert_eq!(server.output_of(a), "");
        server.run_as(b, "XADD k 2-0 f v");
        assert_eq!(server.output_of(a), format!("{PUSH}\"k\""));
    }

    #[test]
    fn prefixes_are_told_at_the_end_of_the_turn() {
        let (mut server, a, b) = tracking("BCAST PREFIX a: PREFIX b: NOLOOP");
        for line in ["MULTI", "SET a:2 1", "SET a:1 1", "SET c:1 1", "EXEC"] {
            server.request_as(b, line);
        }
        assert_eq!(server.output_of(a), format!("{PUSH}\"a:1\"\n   2) \"a:2\""));
        server.request_as(b, "SET a:1 1");
        server.request_as(a, "SET a:2 1");
        server.request_as(a, "SET b:1 1");
        assert_eq!(server.output_of(a), format!("OK\nOK\n{PUSH}\"a:1\""));
        assert_eq!(server.server.clients.tracking.prefixes(), 2);
        server.run_as(a, "RESET");
        assert_eq!(server.server.clients.tracking.prefixes(), 0);
        assert_eq!(server.server.clients.tracking.clients(), 0);
    }

    #[test]
    fn changes_before_a_prefix_was_asked_for_are_not_told() {
        let (mut server, a, b) = tracking("BCAST PREFIX k");
        server.request_as(b, "SET k1 1");
        server.request_as(a, "CLIENT TRACKING OFF");
        server.request_as(a, "CLIENT TRACKING ON BCAST PREFIX k");
        assert_eq!(server.output_of(a), "OK\nOK");
        server.request_as(b, "SET k2 1");
        assert_eq!(server.output_of(a), format!("{PUSH}\"k2\""));
    }

    #[test]
    fn another_connection_may_be_told() {
        let mut server = Harness::default();
        let (a, b, c) = (server.client, server.connect(), server.connect());
        assert_eq!(server.run_as(a, "CLIENT TRACKING ON REDIRECT 2"), "OK");
        assert_eq!(server.run_as(a, "CLIENT GETREDIR"), "(integer) 2");
        server.run_as(a, "GET k");
        server.run_as(c, "SET k 1");
        assert_eq!(server.output_of(b), "", "it cannot tell what a message is");
        server.run_as(b, "SUBSCRIBE __redis__:invalidate");
        server.run_as(a, "GET k");
        server.run_as(c, "SET k 1");
        assert_eq!(server.output_of(b), "1) \"message\"\n2) \"__redis__:invalidate\"\n3) 1) \"k\"");
        server.run_as(a, "HELLO 3");
        server.run_as(a, "GET k");
        server.server.clients.unsubscribe_all(b);
        server.server.clients.remove(b);
        server.run_as(c, "SET k 1");
        assert_eq!(server.output_of(a), "1) \"tracking-redir-broken\"\n2) (integer) 2");
        assert!(server.run_as(a, "CLIENT INFO").contains(" flags=tRU "));
    }

    #[test]
    fn the_table_of_keys_has_a_limit() {
        let (mut server, a, b) = tracking("");
        server.run_as(b, "CONFIG SET tracking-table-max-keys 10");
        let mut told = 0;
        for i in 0..50 {
            told += server.run_as(a, &format!("GET key{i}")).matches("invalidate").count();
        }
        assert_eq!(server.server.clients.tracking.keys(), 11);
        assert_eq!(told, 39);
        server.run_as(b, "CONFIG SET tracking-table-max-keys 1");
        server.run_as(b, "PING");
        assert_eq!(server.output_of(a).matches("invalidate").count(), 10);
    }

    #[test]
    fn errors() {
        check(
            r#"
            CLIENT TRACKING
            CLIENT TRACKING MAYBE
            CLIENT TRACKING ON PREFIX
            CLIENT TRACKING ON PREFIX a
            CLIENT TRACKING ON REDIRECT 1000
            CLIENT TRACKING ON REDIRECT x
            CLIENT TRACKING ON REDIRECT 1 REDIRECT 1
            CLIENT TRACKING OFF BCAST
            CLIENT TRACKING ON BCAST OPTIN
            CLIENT TRACKING ON OPTIN OPTOUT
            CLIENT TRACKING ON BCAST PREFIX a PREFIX ab
            CLIENT CACHING YES
            CLIENT TRACKING ON OPTIN
            CLIENT CACHING NO
            CLIENT CACHING MAYBE
            CLIENT TRACKING ON OPTOUT
            CLIENT TRACKING ON BCAST
            CLIENT TRACKING OFF
            CLIENT TRACKING ON BCAST PREFIX foo PREFIX bar
            CLIENT TRACKING ON BCAST PREFIX fo
            CLIENT TRACKINGINFO
            "#,
            r#"
            (error) ERR wrong number of arguments for 'client|tracking' command
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR PREFIX option requires BCAST mode to be enabled
            (error) ERR The client ID you want redirect to does not exist
            (error) ERR value is not an integer or out of range
            (error) ERR A client can only redirect to a single other client
            OK
            (error) ERR OPTIN and OPTOUT are not compatible with BCAST
            (error) ERR You can't specify both OPTIN mode and OPTOUT mode
            (error) ERR Prefix 'a' overlaps with another provided prefix 'ab'. Prefixes for a single client must not overlap.
            (error) ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled
            OK
            (error) ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.
            (error) ERR syntax error
            (error) ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.
            (error) ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.
            OK
            OK
            (error) ERR Prefix 'fo' overlaps with an existing prefix 'foo'. Prefixes for a single client must not overlap.
            1) "flags"
            2) 1) "on"
               2) "bcast"
            3) "redirect"
            4) (integer) 0
            5) "prefixes"
            6) 1) "bar"
               2) "foo"
            "#,
        );
    }
}
