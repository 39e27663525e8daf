//! CLIENT commands: listing, naming and closing connections.

use super::client_filter::{self, Filter};
use super::client_tracking::{CLIENT_CACHING, CLIENT_GETREDIR, CLIENT_TRACKING, CLIENT_TRACKINGINFO};
use crate::clients::{Client, ClientFlags, ClientKey, ReplyMode};
use crate::resp::{Args, Error, reply::Replied};
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, Group, Spec};
use crate::server::{Server, Unblock};
use crate::stdx::num;

/// Table entries of the CLIENT commands.
pub const COMMANDS: &[Spec] = &[CLIENT];

const CLIENT: Spec = Spec::container(
    "client",
    -2,
    &[
        CLIENT_CACHING,
        CLIENT_CAPA,
        CLIENT_GETNAME,
        CLIENT_GETREDIR,
        CLIENT_HELP,
        CLIENT_ID,
        CLIENT_IMPORT_SOURCE,
        CLIENT_INFO,
        CLIENT_KILL,
        CLIENT_LIST,
        CLIENT_NO_EVICT,
        CLIENT_NO_TOUCH,
        super::client_pause::PAUSE,
        CLIENT_REPLY,
        CLIENT_SETINFO,
        CLIENT_SETNAME,
        CLIENT_TRACKING,
        CLIENT_TRACKINGINFO,
        CLIENT_UNBLOCK,
        super::client_pause::UNPAUSE,
    ],
)
.flags(Flags::BARRIER)
.docs(Docs {
    summary: "Commands about client connections.",
    since: "2.4.0",
    complexity: "That of the subcommand.",
    group: Group::Connection,
    ..Docs::NONE
});

/// Flags of subcommands about the client's own connection.
const OWN: Flags = Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE).with(Flags::KEEPS_CACHING);
/// Flags of subcommands about any connection.
const ANY: Flags = OWN.with(Flags::ADMIN);

const DOCS: Docs = Docs { group: Group::Connection, ..Docs::NONE };

const ON_OFF: &[Arg] = &[Arg::one_of("enabled", &[Arg::word("on", "ON"), Arg::word("off", "OFF")])];

/// Whether a text can appear in a list of clients, where blanks separate properties.
fn is_printable(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

/// Checks the name of a connection.
///
/// # Errors
/// If the name would break the lines of lists.
pub(super) fn check_name(name: &[u8]) -> Result<(), Error> {
    if is_printable(name) {
        return Ok(());
    }
    Err(Error::text("ERR Client names cannot contain spaces, newlines or special characters."))
}

/// Argument `i` as ON or OFF.
fn on_off(args: Args<'_>, i: usize) -> Result<bool, Error> {
    match () {
        () if args.is(i, "ON") => Ok(true),
        () if args.is(i, "OFF") => Ok(false),
        () => Err(Error::Syntax),
    }
}

const CLIENT_GETNAME: Spec = Spec::admin("client|getname", 2, client_getname)
    .flags(OWN)
    .acl(Acl::CONNECTION)
    .docs(Docs { summary: "Tells the connection's name.", since: "2.6.9", ..DOCS });

/// CLIENT GETNAME → name of the connection, or null.
fn client_getname(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let name = server.clients[key].names.name.clone();
    Ok(server.reply(key).bulk_or_null((!name.is_empty()).then_some(&*name)))
}

const CLIENT_HELP: Spec = Spec::admin("client|help", 2, client_help)
    .flags(Flags::LOADING.with(Flags::STALE).with(Flags::KEEPS_CACHING))
    .acl(Acl::CONNECTION)
    .docs(Docs { summary: "Lists the subcommands.", since: "5.0.0", ..DOCS });

/// CLIENT HELP → descriptions of the subcommands.
fn client_help(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(server.reply(key).lines(&[
        "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CACHING (YES|NO)",
        "    Whether the keys of the next command are tracked, with the option OPTIN or OPTOUT.",
        "CAPA <capability> [<capability> [...]]",
        "    Tell what the connection can do: REDIRECT.",
        "GETNAME",
        "    The connection's name.",
        "GETREDIR",
        "    The client that gets this connection's invalidation messages.",
        "ID",
        "    The connection's ID.",
        "IMPORT-SOURCE (ON|OFF)",
        "    Whether the connection brings the data of another server. There is no import mode: OFF.",
        "INFO",
        "    One line about the connection.",
        "KILL <ip:port>",
        "    Close the connection from this address.",
        "KILL <option> <value> [<option> <value> [...]]",
        "    Close all connections to which every option of LIST applies; SKIPME is YES unless given.",
        "LIST [<option> <value> [<option> <value> [...]]]",
        "    One line about each connection, or about those to which every option applies:",
        "    * ADDR (<ip:port>|<unixsocket>:0), IP <ip>",
        "      It comes from this address.",
        "    * CAPA <letters>",
        "      It can do all this: r (REDIRECT).",
        "    * DB <db>",
        "      It has selected this database.",
        "    * FLAGS <letters>",
        "      All these letters are among its flags.",
        "    * ID <client-id> [<client-id> [...]]",
        "      It has one of these IDs.",
        "    * IDLE <seconds>, MAXAGE <seconds>",
        "      It is idle for so long, or so old, at least.",
        "    * LADDR (<ip:port>|<unixsocket>:0)",
        "      It goes to this address of ours.",
        "    * LIB-NAME <name>, LIB-VER <version>, NAME <name>",
        "      It calls its library, or itself, so.",
        "    * SKIPME (YES|NO)",
        "      Whether the connection that asks is left out (default: no).",
        "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
        "      It is of this type.",
        "    * USER <username>",
        "      It acts as this user.",
        "    * NOT-<option> <value>",
        "      The opposite of any of them but IDLE, MAXAGE and SKIPME.",
        "NO-EVICT (ON|OFF)",
        "    Whether the connection is spared when clients take too much memory.",
        "NO-TOUCH (ON|OFF)",
        "    Whether its commands leave the access times of keys alone.",
        "PAUSE <timeout> [WRITE|ALL]",
        "    Keep requests, or those that may change data, for <timeout> milliseconds.",
        "REPLY (ON|OFF|SKIP)",
        "    Which replies the connection wants: all, none, or none to the next command.",
        "SETINFO <option> <value>",
        "    Tell about the client's library:",
        "    * LIB-NAME <name>",
        "      Its name.",
        "    * LIB-VER <version>",
        "      Its version.",
        "SETNAME <name>",
        "    Name the connection.",
        "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [PREFIX <prefix> ...]]",
        "         [OPTIN] [OPTOUT] [NOLOOP]",
        "    Tell the connection, or another one, when keys change that it has read:",
        "    * BCAST",
        "      All keys, or those with one of the prefixes, whether it has read them or not.",
        "    * OPTIN, OPTOUT",
        "      Only keys read by commands that follow CACHING YES; or all but those after CACHING NO.",
        "    * NOLOOP",
        "      Nothing about its own changes.",
        "TRACKINGINFO",
        "    How keys are tracked for the connection.",
        "UNBLOCK <client-id> [TIMEOUT|ERROR]",
        "    End the blocking command a client waits in.",
        "UNPAUSE",
        "    End a pause.",
        "HELP",
        "    Print this help.",
    ]))
}

const CLIENT_ID: Spec = Spec::admin("client|id", 2, client_id).flags(OWN).acl(Acl::CONNECTION).docs(Docs {
    summary: "Tells the connection's ID.",
    since: "5.0.0",
    ..DOCS
});

/// CLIENT ID → ID of the connection, which no other connection has had.
fn client_id(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let id = server.clients[key].id;
    Ok(server.reply(key).int(id as i64))
}

const CLIENT_INFO: Spec = Spec::admin("client|info", 2, client_info)
    .flags(OWN)
    .acl(Acl::CONNECTION)
    .tips(&["nondeterministic_output"])
    .docs(Docs { summary: "Tells about the connection.", since: "6.2.0", ..DOCS });

/// CLIENT INFO → the line of this connection in CLIENT LIST.
fn client_info(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    Ok(list(server, key, args, &[key]))
}

/// Replies with one line for each of `clients`.
fn list(server: &mut Server, key: ClientKey, args: Args<'_>, clients: &[ClientKey]) -> Replied {
    let mut lines = Vec::new();
    for &listed in clients {
        let args = if listed == key { args.iter().map(<[u8]>::len).sum() } else { 0 };
        server.write_client_line(listed, args, &mut lines);
        lines.push(b'\n');
    }
    server.reply(key).verbatim("txt", &lines)
}

const SKIPME: Arg =
    Arg::one_of("skipme", &[Arg::word("yes", "YES"), Arg::word("no", "NO")]).token("SKIPME").optional();

/// The newer conditions, which both `CLIENT LIST` and `CLIENT KILL` have.
const FILTERS: [Arg; 9] = [
    Arg::integer("maxage").token("MAXAGE").since("8.0.0").optional(),
    Arg::string("name").token("NAME").since("9.0.0").optional(),
    Arg::integer("idle").token("IDLE").since("9.0.0").optional(),
    Arg::string("flags").token("FLAGS").since("9.0.0").optional(),
    Arg::string("lib-name").token("LIB-NAME").since("9.0.0").optional(),
    Arg::string("lib-ver").token("LIB-VER").since("9.0.0").optional(),
    Arg::integer("db").token("DB").since("9.0.0").optional(),
    Arg::string("capa").token("CAPA").since("9.0.0").optional(),
    Arg::string("ip").token("IP").since("9.0.0").optional(),
];

/// The negations.
const NEGATED: [Arg; 12] = [
    Arg::one_of(
        "not-client-type",
        &[
            Arg::word("normal", "normal"),
            Arg::word("master", "master"),
            Arg::word("replica", "replica"),
            Arg::word("pubsub", "pubsub"),
        ],
    )
    .token("NOT-TYPE")
    .since("9.0.0")
    .optional(),
    Arg::integer("not-client-id").token("NOT-ID").since("9.0.0").optional().multiple(),
    Arg::string("not-username").token("NOT-USER").since("9.0.0").optional(),
    Arg::string("not-addr").token("NOT-ADDR").since("9.0.0").optional(),
    Arg::string("not-laddr").token("NOT-LADDR").since("9.0.0").optional(),
    Arg::string("not-name").token("NOT-NAME").since("9.0.0").optional(),
    Arg::string("not-flags").token("NOT-FLAGS").since("9.0.0").optional(),
    Arg::string("not-lib-name").token("NOT-LIB-NAME").since("9.0.0").optional(),
    Arg::string("not-lib-ver").token("NOT-LIB-VER").since("9.0.0").optional(),
    Arg::integer("not-db").token("NOT-DB").since("9.0.0").optional(),
    Arg::string("not-capa").token("NOT-CAPA").since("9.0.0").optional(),
    Arg::string("not-ip").token("NOT-IP").since("9.0.0").optional(),
];

const CLIENT_KILL: Spec =
    Spec::admin("client|kill", -3, client_kill).flags(ANY).acl(Acl::CONNECTION).docs(Docs {
        summary: "Closes connections.",
        since: "2.4.0",
        complexity: "O(N), N being the number of connections.",
        history: &[
            ("2.8.12", "Options instead of an address."),
            ("2.8.12", "The `ID` option."),
            ("3.2.0", "The type `master`."),
            ("5.0.0", "The type `replica`; `slave` means the same."),
            ("6.2.0", "The `LADDR` option."),
        ],
        args: &[Arg::one_of(
            "filter",
            &[
                Arg::string("old-format").deprecated("2.8.12").display("ip:port"),
                Arg::one_of(
                    "new-format",
                    &[
                        Arg::integer("client-id").token("ID").since("2.8.12").optional(),
                        Arg::one_of(
                            "client-type",
                            &[
                                Arg::word("normal", "normal"),
                                Arg::word("master", "master").since("3.2.0"),
                                Arg::word("slave", "slave"),
                                Arg::word("replica", "replica").since("5.0.0"),
                                Arg::word("pubsub", "pubsub"),
                            ],
                        )
                        .token("TYPE")
                        .since("2.8.12")
                        .optional(),
                        Arg::string("username").token("USER").optional(),
                        Arg::string("addr").token("ADDR").display("ip:port").optional(),
                        Arg::string("laddr").token("LADDR").since("6.2.0").display("ip:port").optional(),
                        SKIPME,
                        FILTERS[0],
                        FILTERS[1],
                        FILTERS[2],
                        FILTERS[3],
                        FILTERS[4],
                        FILTERS[5],
                        FILTERS[6],
                        FILTERS[7],
                        FILTERS[8],
                        NEGATED[0],
                        NEGATED[1],
                        NEGATED[2],
                        NEGATED[3],
                        NEGATED[4],
                        NEGATED[5],
                        NEGATED[6],
                        NEGATED[7],
                        NEGATED[8],
                        NEGATED[9],
                        NEGATED[10],
                        NEGATED[11],
                    ],
                )
                .multiple(),
            ],
        )],
        ..DOCS
    });

/// CLIENT KILL address → OK; CLIENT KILL option value [option value …] → number of closed connections.
fn client_kill(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let by_address = args.len() == 3;
    let filter = if by_address {
        Filter::from_address(args.at(2))
    } else {
        Filter::parse(args, &server.acl, server.keyspace.databases().len(), true)?
    };
    server.summon_all();
    let now = server.keyspace.now();
    let is_meant = |found: ClientKey, client: &Client| {
        let spared = filter.skip_me && found == key || client.flags.has(ClientFlags::CLOSE_SOON);
        !spared && filter.admits(client, now)
    };
    let clients = server.clients.iter();
    let meant: Vec<ClientKey> =
        clients.filter(|(found, client)| is_meant(*found, client)).map(|(found, _)| found).collect();
    if by_address && meant.is_empty() {
        return Err(Error::text("ERR No such client"));
    }
    let mut reply = server.reply(key);
    let replied = if by_address { reply.ok() } else { reply.int(meant.len() as i64) };
    for found in meant {
        // A client that closes its own connection still reads the reply.
        if found == key {
            server.close_after_reply(found);
        } else {
            server.expel(found);
        }
    }
    Ok(replied)
}

const CLIENT_LIST: Spec = Spec::admin("client|list", -2, client_list)
    .flags(ANY)
    .acl(Acl::CONNECTION)
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Lists the connections.",
        since: "2.4.0",
        complexity: "O(N log N), N being the number of connections.",
        history: &[
            ("2.8.12", "The field `id`."),
            ("5.0.0", "The `TYPE` option."),
            ("6.0.0", "The field `user`."),
            ("6.2.0", "The fields `argv-mem`, `tot-mem`, `laddr` and `redir`, and the `ID` option."),
            ("7.0.0", "The fields `resp`, `multi-mem`, `rbs` and `rbp`."),
            ("7.0.3", "The field `ssub`."),
            ("8.0.0", "The fields `watch` and `io-thread`."),
            ("8.1.0", "The fields `tot-net-in`, `tot-net-out`, `tot-cmds` and `capa`."),
            ("9.0.0", "All the options of `CLIENT KILL`, and their negations."),
        ],
        args: &[
            Arg::one_of(
                "client-type",
                &[
                    Arg::word("normal", "normal"),
                    Arg::word("master", "master"),
                    Arg::word("replica", "replica"),
                    Arg::word("pubsub", "pubsub"),
                ],
            )
            .token("TYPE")
            .since("5.0.0")
            .optional(),
            Arg::integer("client-id").token("ID").since("6.2.0").optional().multiple(),
            Arg::string("username").token("USER").since("8.1.0").optional(),
            Arg::string("addr").token("ADDR").since("8.1.0").display("ip:port").optional(),
            Arg::string("laddr").token("LADDR").since("8.1.0").display("ip:port").optional(),
            SKIPME,
            FILTERS[0],
            FILTERS[1],
            FILTERS[2],
            FILTERS[3],
            FILTERS[4],
            FILTERS[5],
            FILTERS[6],
            FILTERS[7],
            FILTERS[8],
            NEGATED[0],
            NEGATED[1],
            NEGATED[2],
            NEGATED[3],
            NEGATED[4],
            NEGATED[5],
            NEGATED[6],
            NEGATED[7],
            NEGATED[8],
            NEGATED[9],
            NEGATED[10],
            NEGATED[11],
        ],
        ..DOCS
    });

/// CLIENT LIST [ID id … | condition value …] → one line per connection, in the order of the given IDs or by age.
fn client_list(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    server.summon_all();
    let clients = &server.clients;
    let only_ids =
        args.len() > 3 && args.is(2, "ID") && !args.rest(3).iter().any(client_filter::is_condition);
    let mut listed = clients.by_age();
    if only_ids {
        let parse = |id| num::parse_i64(id).ok_or_else(|| Error::text("ERR Invalid client ID"));
        let ids = args.rest(3).iter().map(parse).collect::<Result<Vec<i64>, Error>>()?;
        let find = |id: i64| {
            let place = listed.binary_search_by_key(&id, |&client| clients[client].id as i64);
            place.ok().map(|place| listed[place])
        };
        listed = ids.into_iter().filter_map(find).collect();
    } else {
        let filter = Filter::parse(args, &server.acl, server.keyspace.databases().len(), false)?;
        let now = server.keyspace.now();
        listed.retain(|&client| !(filter.skip_me && client == key) && filter.admits(&clients[client], now));
    }
    listed.retain(|&client| !clients[client].flags.has(ClientFlags::CLOSE_SOON));
    Ok(list(server, key, args, &listed))
}

const CLIENT_NO_EVICT: Spec =
    Spec::admin("client|no-evict", 3, client_no_evict).flags(ANY).acl(Acl::CONNECTION).docs(Docs {
        summary: "Spares the connection when clients take too much memory, or no longer.",
        since: "7.0.0",
        args: ON_OFF,
        ..DOCS
    });

/// CLIENT NO-EVICT ON|OFF → OK.
fn client_no_evict(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let on = on_off(args, 2)?;
    server.clients[key].flags.set(ClientFlags::NO_EVICT, on);
    Ok(server.reply(key).ok())
}

const CLIENT_NO_TOUCH: Spec =
    Spec::admin("client|no-touch", 3, client_no_touch).flags(OWN).acl(Acl::CONNECTION).docs(Docs {
        summary: "Chooses whether the connection's commands count as accesses to keys.",
        since: "7.2.0",
        args: ON_OFF,
        ..DOCS
    });

/// CLIENT NO-TOUCH ON|OFF → OK.
fn client_no_touch(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let on = on_off(args, 2)?;
    server.clients[key].flags.set(ClientFlags::NO_TOUCH, on);
    Ok(server.reply(key).ok())
}

const CLIENT_CAPA: Spec =
    Spec::admin("client|capa", -3, client_capa).flags(OWN).acl(Acl::CONNECTION).docs(Docs {
        summary: "Tells the server what the client can do.",
        since: "8.0.0",
        args: &[Arg::string("capability").multiple()],
        ..DOCS
    });

/// CLIENT CAPA capability [capability …] → OK. Unknown capabilities are ignored.
fn client_capa(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let capable = (2..args.len()).any(|i| args.is(i, "REDIRECT"));
    server.clients[key].can_redirect |= capable;
    Ok(server.reply(key).ok())
}

const CLIENT_IMPORT_SOURCE: Spec =
    Spec::admin("client|import-source", 3, client_import_source).flags(OWN).acl(Acl::CONNECTION).docs(Docs {
        summary: "Says whether the connection brings the data of another server, which has an import mode.",
        since: "8.1.0",
        args: ON_OFF,
        ..DOCS
    });

/// CLIENT IMPORT-SOURCE ON|OFF → OK for OFF. This server has no import mode, and so no sources.
fn client_import_source(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if on_off(args, 2)? {
        return Err(Error::text("ERR Server is not in import mode"));
    }
    Ok(server.reply(key).ok())
}

const CLIENT_REPLY: Spec =
    Spec::admin("client|reply", 3, client_reply).flags(OWN).acl(Acl::CONNECTION).docs(Docs {
        summary: "Chooses which replies the connection gets.",
        since: "3.2.0",
        args: &[Arg::one_of(
            "action",
            &[Arg::word("on", "ON"), Arg::word("off", "OFF"), Arg::word("skip", "SKIP")],
        )],
        ..DOCS
    });

/// CLIENT REPLY ON → OK; CLIENT REPLY OFF|SKIP → no reply.
fn client_reply(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let client = &mut server.clients[key];
    if args.is(2, "ON") {
        client.reply_mode = ReplyMode::On;
        client.io.output.unmute();
        return Ok(server.reply(key).ok());
    }
    if args.is(2, "OFF") {
        client.reply_mode = ReplyMode::Off;
        // Takes effect at once, even within a transaction.
        client.io.output.mute();
    } else if args.is(2, "SKIP") {
        if client.reply_mode != ReplyMode::Off {
            client.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(Error::Syntax);
    }
    Ok(Replied::later())
}

const CLIENT_SETINFO: Spec = Spec::admin("client|setinfo", 4, client_setinfo)
    .flags(OWN)
    .acl(Acl::CONNECTION)
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .docs(Docs {
        summary: "Tells the server which library the client uses.",
        since: "7.2.0",
        args: &[Arg::one_of(
            "attr",
            &[Arg::string("libname").token("lib-name"), Arg::string("libver").token("lib-ver")],
        )],
        ..DOCS
    });

/// CLIENT SETINFO lib-name|lib-ver text → OK. An empty text clears it.
fn client_setinfo(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let (option, text) = (args.at(2), args.at(3));
    let names = &mut server.clients[key].names;
    let place = match () {
        () if args.is(2, "LIB-NAME") => &mut names.lib_name,
        () if args.is(2, "LIB-VER") => &mut names.lib_ver,
        () => return Err(Error::quoting(&[b"ERR Unrecognized option '", option, b"'"])),
    };
    if !is_printable(text) {
        let reason = b" cannot contain spaces, newlines or special characters.";
        return Err(Error::quoting(&[b"ERR ", option, reason]));
    }
    *place = text.into();
    Ok(server.reply(key).ok())
}

const CLIENT_SETNAME: Spec = Spec::admin("client|setname", 3, client_setname)
    .flags(OWN)
    .acl(Acl::CONNECTION)
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .docs(Docs {
        summary: "Names the connection.",
        since: "2.6.9",
        args: &[Arg::string("connection-name")],
        ..DOCS
    });

/// CLIENT SETNAME name → OK. An empty name clears it.
fn client_setname(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    check_name(args.at(2))?;
    server.clients[key].names.name = args.at(2).into();
    Ok(server.reply(key).ok())
}

const CLIENT_UNBLOCK: Spec =
    Spec::admin("client|unblock", -3, client_unblock).flags(ANY).acl(Acl::CONNECTION).docs(Docs {
        summary: "Ends the blocking command another connection waits in.",
        since: "5.0.0",
        complexity: "O(N), N being the number of connections.",
        args: &[
            Arg::integer("client-id"),
            Arg::one_of("unblock-type", &[Arg::word("timeout", "TIMEOUT"), Arg::word("error", "ERROR")])
                .optional(),
        ],
        ..DOCS
    });

/// CLIENT UNBLOCK id [TIMEOUT|ERROR] → 1 if that client was blocked, else 0.
fn client_unblock(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if args.len() > 4 {
        return Err(Error::quoting(&[
            b"ERR unknown subcommand or wrong number of arguments for '",
            args.at(1),
            b"'. Try CLIENT HELP.",
        ]));
    }
    if args.len() == 4 && !args.is(3, "TIMEOUT") && !args.is(3, "ERROR") {
        return Err(Error::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
    }
    let id = args.int(2)?;
    let how = if args.is(3, "ERROR") { Unblock::Error } else { Unblock::Timeout };
    let found = u64::try_from(id).ok().and_then(|id| server.clients.find(id));
    let unblocked = found.is_some_and(|other| server.can_be_unblocked(other) && server.unblock(other, how));
    Ok(server.reply(key).int(unblocked.into()))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check, check_with};

    /// Names and values of a line, in order.
    fn fields(line: &[u8]) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(line);
        let (_, line) = text.split_once("\r\n").expect("a bulk's header");
        let split = |field: &str| {
            let (name, value) = field.split_once('=').expect("name=value");
            (name.to_owned(), value.to_owned())
        };
        line.trim_end().split(' ').map(split).collect()
    }

    #[test]
    fn the_line_has_all_fields_in_order() {
        let mut harness = Harness::default();
        harness.run("CLIENT SETNAME me");
        harness.run("CLIENT SETINFO LIB-NAME lib");
        harness.run("CLIENT NO-EVICT ON");
        harness.run("SELECT 3");
        harness.run("WATCH a b");
        harness.run("CLIENT CAPA redirect");
        let fields = fields(&harness.raw(&[b"client", b"info"]));
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names.join(" "),
            "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem rbs rbp obl \
             oll omem tot-mem events cmd user redir resp lib-name lib-ver io-thread tot-net-in tot-net-out tot-cmds \
             watch capa"
        );
        let value = |name: &str| &fields.iter().find(|field| field.0 == name).expect(name).1;
        for (name, expected) in [
            ("id", "1"),
            ("name", "me"),
            ("flags", "Ue"),
            ("db", "3"),
            ("multi", "-1"),
            ("qbuf", "26"),
            ("argv-mem", "10"),
            ("obl", "0"),
            ("omem", "0"),
            ("events", "r"),
            ("cmd", "client|info"),
            ("user", "default"),
            ("resp", "2"),
            ("lib-name", "lib"),
            ("lib-ver", ""),
            ("watch", "2"),
            ("capa", "r"),
            ("io-thread", "0"),
            ("tot-cmds", "7"),
        ] {
            assert_eq!(value(name), expected, "{name}");
        }
    }

    #[test]
    fn errors() {
        check(
            r#"
            CLIENT
            CLIENT NOSUCH
            CLIENT LIST TYPE nosuch
            CLIENT LIST TYPE normal more
            CLIENT LIST ID
            CLIENT LIST ID 1 x
            CLIENT LIST ID 99
            CLIENT LIST TYPE replica
            CLIENT KILL
            CLIENT KILL nosuch:1
            CLIENT KILL ID x
            CLIENT KILL ID 0 MORE
            CLIENT KILL ID 1 MORE
            CLIENT KILL TYPE nosuch ID 1
            CLIENT KILL USER nobody SKIPME yes
            CLIENT KILL SKIPME maybe ID 1
            CLIENT KILL MAXAGE 0 ID 1
            CLIENT KILL MAXAGE x ID 1
            CLIENT KILL ID 99 TYPE normal USER default ADDR a LADDR b SKIPME no
            CLIENT KILL SKIPME yes
            CLIENT REPLY maybe
            CLIENT NO-EVICT maybe
            CLIENT IMPORT-SOURCE OFF
            CLIENT IMPORT-SOURCE ON
            CLIENT IMPORT-SOURCE maybe
            CLIENT NO-TOUCH maybe
            CLIENT SETINFO nosuch a
            CLIENT SETINFO Lib-Ver "a b"
            CLIENT SETNAME "a\n"
            CLIENT UNBLOCK x
            CLIENT UNBLOCK x maybe
            CLIENT UNBLOCK 1 timeout
            CLIENT GETREDIR
            "#,
            r#"
            (error) ERR wrong number of arguments for 'client' command
            (error) ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.
            (error) ERR Unknown client type 'nosuch'
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR Invalid client ID
            ""
            ""
            (error) ERR wrong number of arguments for 'client|kill' command
            (error) ERR No such client
            (error) ERR client-id should be greater than 0
            (error) ERR client-id should be greater than 0
            (error) ERR syntax error
            (error) ERR Unknown client type 'nosuch'
            (error) ERR No such user 'nobody'
            (error) ERR syntax error
            (error) ERR maxage should be greater than 0
            (error) ERR maxage is not an integer or out of range
            (integer) 0
            (integer) 0
            (error) ERR syntax error
            (error) ERR syntax error
            OK
            (error) ERR Server is not in import mode
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR Unrecognized option 'nosuch'
            (error) ERR Lib-Ver cannot contain spaces, newlines or special characters.
            (error) ERR Client names cannot contain spaces, newlines or special characters.
            (error) ERR value is not an integer or out of range
            (error) ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR
            (integer) 0
            (integer) -1
            "#,
        );
    }

    #[test]
    fn the_last_command_may_have_been_refused() {
        let mut harness = Harness::default();
        let other = harness.connect();
        for (line, name) in
            [("GET", "get"), ("NOSUCH", "NULL"), ("CLIENT ID x", "client|id"), ("CLIENT x", "NULL")]
        {
            harness.run_as(other, line);
            let shown = harness.run("CLIENT LIST ID 2");
            assert!(shown.contains(&format!(" cmd={name} ")), "{line}: {shown}");
        }
    }

    #[test]
    fn replies_are_silenced() {
        let mut harness = Harness::default();
        let mut say = |words: &[&[u8]]| String::from_utf8(harness.raw(words)).expect("text");
        assert_eq!(say(&[b"CLIENT", b"REPLY", b"SKIP"]), "");
        assert_eq!(say(&[b"PING"]), "");
        assert_eq!(say(&[b"PING"]), "+PONG\r\n");
        assert_eq!(say(&[b"CLIENT", b"REPLY", b"SKIP"]), "");
        assert_eq!(say(&[b"CLIENT", b"REPLY", b"SKIP"]), "");
        assert_eq!(say(&[b"PING"]), "");
        assert_eq!(say(&[b"PING"]), "+PONG\r\n");
        assert_eq!(say(&[b"CLIENT", b"REPLY", b"SKIP"]), "");
        assert_eq!(say(&[b"CLIENT", b"REPLY", b"ON"]), "+OK\r\n");
        assert_eq!(say(&[b"CLIENT", b"REPLY", b"OFF"]), "");
        assert_eq!(say(&[b"NOSUCH"]), "");
        assert_eq!(say(&[b"CLIENT", b"REPLY", b"SKIP"]), "");
        assert_eq!(say(&[b"PING"]), "");
        assert_eq!(say(&[b"CLIENT", b"REPLY", b"ON"]), "+OK\r\n");
        assert_eq!(say(&[b"CLIENT", b"REPLY", b"OFF"]), "");
        assert_eq!(say(&[b"RESET"]), "+RESET\r\n");
        assert_eq!(say(&[b"PING"]), "+PONG\r\n");
        assert_eq!(say(&[b"CLIENT", b"REPLY", b"SKIP"]), "");
        assert_eq!(say(&[b"RESET"]), "");
        assert_eq!(say(&[b"PING"]), "+PONG\r\n");
    }

    #[test]
    fn a_client_may_kill_itself() {
        let mut harness = Harness::default();
        check_with(&mut harness, "CLIENT KILL SKIPME NO ID 1", "(integer) 1");
        assert!(harness.server.clients[harness.client].is_closing());
    }
}
