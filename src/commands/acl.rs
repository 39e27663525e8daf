//! ACL commands: users, their permissions, and the log of denied requests.

use super::help::help;
use crate::acl::log::Entry;
use crate::acl::selector::Selector;
use crate::acl::{DEFAULT_NAME, SetError};
use crate::clients::ClientKey;
use crate::resp::{Args, Error, Replied, Reply};
use crate::server::Server;
use crate::server::command::{Arg, CmdResult, Docs, Flags, Group, Spec};
use crate::server::execution::users;
use crate::stdx::clock::UnixMillis;
use rand::Rng as _;

/// Table entries of the ACL commands.
pub const COMMANDS: &[Spec] = &[ACL];

const ACL: Spec = Spec::container(
    "acl",
    -2,
    &[CAT, DELUSER, DRYRUN, GENPASS, GETUSER, HELP, LIST, LOAD, LOG, SAVE, SETUSER, USERS, WHOAMI],
)
.docs(Docs {
    summary: "Commands about users and what they may do.",
    since: "6.0.0",
    complexity: "That of the subcommand.",
    group: Group::Server,
    ..Docs::NONE
});

const ANYBODY: Flags = Flags::NOSCRIPT.with(Flags::LOADING).with(Flags::STALE);
const ADMIN: Flags = ANYBODY.with(Flags::ADMIN);
const ON_ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];
const DOCS: Docs = Docs { since: "6.0.0", group: Group::Server, ..Docs::NONE };

/// Error: the subcommand takes fewer arguments.
fn too_many(name: &str) -> Error {
    Error::text(format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try ACL HELP."))
}

/// Marks all arguments about users as secret.
fn user_secrets(args: &Args<'_>, secret: &mut dyn FnMut(usize)) {
    (2..args.len()).for_each(secret);
}

const CAT: Spec = Spec::admin("acl|cat", -2, cat).flags(ANYBODY).docs(Docs {
    summary: "Lists the categories of commands, or the commands of one.",
    complexity: "O(N) for N commands",
    args: &[Arg::string("category").optional()],
    ..DOCS
});

/// ACL CAT [category] → the categories, or the commands and subcommands of one.
fn cat(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let catalog = server.acl.catalog();
    let names: Vec<&str> = match args.len() {
        2 => catalog.categories().collect(),
        3 => {
            let name = args.at(2);
            let bit = catalog
                .category(name)
                .ok_or_else(|| Error::quoting(&[b"ERR Unknown category '", name, b"'"]))?;
            {
                let members = catalog.in_category(bit).map(|(_, command)| command);
                members.filter(|command| !command.absent).map(|command| command.name).collect()
            }
        }
        _ => return Err(too_many("CAT")),
    };
    Ok(server.reply(key).bulks(&names))
}

const DELUSER: Spec =
    Spec::admin("acl|deluser", -3, deluser).flags(ADMIN).secrets(user_secrets).tips(ON_ALL_NODES).docs(
        Docs {
            summary: "Removes users and closes their connections.",
            complexity: "O(N) for N connections",
            args: &[Arg::string("username").multiple()],
            ..DOCS
        },
    );

/// ACL DELUSER user [user …] → number of deleted users.
fn deluser(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let names = args.rest(2);
    if names.iter().any(|name| name == DEFAULT_NAME) {
        return Err(Error::text("ERR The 'default' user cannot be removed"));
    }
    let deleted = names.iter().filter(|name| server.delete_user(name, key)).count();
    Ok(server.reply(key).int(deleted as i64))
}

const DRYRUN: Spec = Spec::admin("acl|dryrun", -4, dryrun).flags(ADMIN).docs(Docs {
    summary: "Tells whether a user may run a command, without running it.",
    since: "7.0.0",
    complexity: "O(N) for N rules of the user",
    args: &[Arg::string("username"), Arg::string("command"), Arg::string("arg").optional().multiple()],
    ..DOCS
});

/// ACL DRYRUN user command [arg …] → OK, or the reason why the user may not run the command.
fn dryrun(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let name = args.at(2);
    let user = server.acl.find(name).ok_or_else(|| Error::quoting(&[b"ERR User '", name, b"' not found"]))?;
    let request = args.rest(3);
    let commands = &server.commands;
    let found = commands.find(request.at(0)).and_then(|id| commands.meant(id, &request));
    let id = found.ok_or_else(|| Error::quoting(&[b"ERR Command '", request.at(0), b"' not found"]))?;
    let spec = commands.spec(id);
    if !spec.accepts(request.len()) {
        return Err(Error::arity(spec.name));
    }
    let db = server.clients[key].db;
    let checked = server.check_user(user, db, id, spec, &request);
    let mut reply = server.reply(key);
    Ok(match checked {
        Ok(()) => reply.ok(),
        Err(denied) => reply.bulk(&users::denial(denied, name, spec, &request, true)),
    })
}

const GENPASS: Spec = Spec::admin("acl|genpass", -2, genpass).flags(ANYBODY).docs(Docs {
    summary: "Makes up a password that nobody can guess.",
    complexity: "O(1)",
    args: &[Arg::integer("bits").optional()],
    ..DOCS
});

/// Largest number of bits that ACL GENPASS generates.
const MAX_BITS: i64 = 4096;

/// ACL GENPASS [bits] → random hexadecimal digits; 64 by default.
fn genpass(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let bits = match args.len() {
        2 => 256,
        3 => args.int(2)?,
        _ => return Err(too_many("GENPASS")),
    };
    if !(1..=MAX_BITS).contains(&bits) {
        return Err(Error::text(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to \
             {MAX_BITS}"
        )));
    }
    let digits = (bits as usize).div_ceil(4);
    let mut random = vec![0; digits];
    rand::rng().fill_bytes(&mut random);
    for byte in &mut random {
        *byte = b"0123456789abcdef"[usize::from(*byte & 15)];
    }
    Ok(server.reply(key).bulk(&random))
}

const GETUSER: Spec = Spec::admin("acl|getuser", 3, getuser).flags(ADMIN).secrets(user_secrets).docs(Docs {
    summary: "Tells the rules of a user.",
    complexity: "O(N) for N rules",
    history: &[
        ("6.2.0", "Tells the channels."),
        ("7.0.0", "Tells the selectors, and keys and channels as rules instead of lists."),
    ],
    args: &[Arg::string("username")],
    ..DOCS
});

/// ACL GETUSER user → a map of flags, passwords, commands, keys, channels, databases, selectors; null if there is no
/// such user. Databases are left out if the user may use all.
fn getuser(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let Some(user) = server.acl.find(args.at(2)) else { return Ok(server.reply(key).null()) };
    let user = server.acl[user].clone();
    // Servers that know no rules about databases have no such field.
    let databases = user.limits_databases() || server.config.limits.compat_version.is_valkey();
    let mut reply = server.reply(key);
    reply.map(if databases { 7 } else { 6 });
    reply.bulk(b"flags");
    let flags: Vec<&str> = user.flags().collect();
    reply.set(flags.len());
    for flag in flags {
        reply.bulk(flag.as_bytes());
    }
    reply.bulk(b"passwords");
    reply.bulks(&user.passwords().collect::<Vec<_>>());
    write_selector(&mut reply, user.own(), databases);
    reply.bulk(b"selectors");
    let mut done = reply.array(user.more().len());
    for selector in user.more() {
        reply.map(if databases { 4 } else { 3 });
        done = write_selector(&mut reply, selector, databases);
    }
    Ok(done)
}

fn write_selector(reply: &mut Reply<'_>, selector: &Selector, databases: bool) -> Replied {
    reply.bulk(b"commands");
    reply.bulk(&selector.describe_commands());
    reply.bulk(b"keys");
    reply.bulk(&selector.describe_keys());
    reply.bulk(b"channels");
    let channels = reply.bulk(&selector.describe_channels());
    if !databases {
        return channels;
    }
    reply.bulk(b"databases");
    reply.bulk(&selector.describe_databases())
}

const LIST: Spec = Spec::admin("acl|list", 2, list).flags(ADMIN).docs(Docs {
    summary: "Lists the users with their rules, as a file of users has them.",
    complexity: "O(N) for N rules of all users",
    ..DOCS
});

/// ACL LIST → one line per user.
fn list(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let (mut text, mut ends) = (Vec::new(), Vec::with_capacity(server.acl.users().len()));
    for (name, user) in server.acl.users() {
        text.extend_from_slice(b"user ");
        text.extend_from_slice(name);
        text.push(b' ');
        user.describe_into(&mut text);
        ends.push(text.len());
    }
    let mut reply = server.reply(key);
    let (replied, mut start) = (reply.array(ends.len()), 0);
    reply.each(ends, |reply, end| {
        reply.bulk(&text[start..end]);
        start = end;
    });
    Ok(replied)
}

const LOAD: Spec = Spec::admin("acl|load", 2, load).flags(ADMIN).docs(Docs {
    summary: "Reads the file of users anew.",
    complexity: "O(N) for N rules of all users",
    ..DOCS
});

/// Checks that users are kept in a file, as LOAD and SAVE need.
fn check_file(server: &Server) -> Result<(), Error> {
    if !server.config.security.aclfile.is_empty() {
        return Ok(());
    }
    Err(Error::text(
        "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL \
         SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in \
         order to store users in the Redis configuration.",
    ))
}

/// ACL LOAD → OK. Replaces the users by those of the file; connections of all but the default user are closed.
fn load(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    check_file(server)?;
    server.load_users(key).map_err(|errors| Error::quoting(&[b"ERR ", &errors]))?;
    Ok(server.reply(key).ok())
}

const SAVE: Spec = Spec::admin("acl|save", 2, save).flags(ADMIN).tips(ON_ALL_NODES).docs(Docs {
    summary: "Writes the users into their file.",
    complexity: "O(N) for N rules of all users",
    ..DOCS
});

/// ACL SAVE → OK, once the file holds the current users.
fn save(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    check_file(server)?;
    if let Err(error) = users::save_users(&server.acl, &server.config.security) {
        let path = &server.config.security.aclfile;
        tracing::warn!("Writing the users into '{path}' failed: {}", crate::config::os_error(&error));
        return Err(Error::text(
            "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
        ));
    }
    Ok(server.reply(key).ok())
}

const LOG: Spec = Spec::admin("acl|log", -2, log).flags(ADMIN).docs(Docs {
    summary: "Tells what was denied to whom of late.",
    complexity: "O(N) for N entries",
    history: &[("7.2.0", "Entries have a number and the times of their first and last denial.")],
    args: &[Arg::one_of("operation", &[Arg::integer("count"), Arg::word("reset", "RESET")]).optional()],
    ..DOCS
});

/// Number of entries that ACL LOG shows by default.
const LOG_ENTRIES: usize = 10;

/// ACL LOG [count] → the newest entries; ACL LOG RESET → OK, and the log is empty.
fn log(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if args.len() > 3 {
        return Err(too_many("LOG"));
    }
    if args.is(2, "RESET") {
        server.acl.log.clear();
        return Ok(server.reply(key).ok());
    }
    let count = match args.len() {
        2 => LOG_ENTRIES,
        _ => usize::try_from(args.int(2)?).unwrap_or(0),
    };
    let entries: Vec<Entry> = server.acl.log.entries().take(count).cloned().collect();
    let now = UnixMillis::now();
    let mut reply = server.reply(key);
    let mut done = reply.array(entries.len());
    for entry in &entries {
        done = write_entry(&mut reply, entry, now);
    }
    Ok(done)
}

fn write_entry(reply: &mut Reply<'_>, entry: &Entry, now: UnixMillis) -> Replied {
    reply.map(10);
    reply.bulk(b"count");
    reply.int(entry.count as i64);
    for (name, text) in [
        ("reason", entry.reason.name().as_bytes()),
        ("context", entry.context.name().as_bytes()),
        ("object", &entry.object),
        ("username", &entry.username),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(text);
    }
    reply.bulk(b"age-seconds");
    reply.double(now.since(entry.updated) as f64 / 1000.0);
    reply.bulk(b"client-info");
    reply.bulk(&entry.client);
    reply.bulk(b"entry-id");
    reply.int(entry.id as i64);
    reply.bulk(b"timestamp-created");
    reply.int(entry.created.0);
    reply.bulk(b"timestamp-last-updated");
    reply.int(entry.updated.0)
}

const SETUSER: Spec =
    Spec::admin("acl|setuser", -3, setuser).flags(ADMIN).secrets(user_secrets).tips(ON_ALL_NODES).docs(
        Docs {
            summary: "Applies rules to a user, who is made if need be.",
            complexity: "O(N) for N rules",
            history: &[
                ("6.2.0", "Rules about channels."),
                ("7.0.0", "Selectors, and separate permissions to read and to write keys."),
                ("9.1.0", "Rules about databases, as in Valkey."),
            ],
            args: &[Arg::string("username"), Arg::string("rule").optional().multiple()],
            ..DOCS
        },
    );

/// ACL SETUSER user [rule …] → OK. If a rule is invalid, nothing changes.
fn setuser(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    server.set_user(args.at(2), args.rest(3).iter())?;
    Ok(server.reply(key).ok())
}

impl From<SetError> for Error {
    fn from(error: SetError) -> Error {
        match error {
            SetError::Name => Error::text("ERR Usernames can't contain spaces or null characters"),
            SetError::Unmatched(rule) => {
                Error::quoting(&[b"ERR Unmatched parenthesis in acl selector starting at '", &rule, b"'."])
            }
            SetError::Rule(rule, error) => Error::quoting(&[
                b"ERR Error in ACL SETUSER modifier '",
                &rule,
                b"': ",
                error.to_string().as_bytes(),
            ]),
        }
    }
}

const USERS: Spec = Spec::admin("acl|users", 2, list_names).flags(ADMIN).docs(Docs {
    summary: "Lists the names of the users.",
    complexity: "O(N) for N users",
    ..DOCS
});

/// ACL USERS → user names.
fn list_names(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let names: Vec<Vec<u8>> = server.acl.users().map(|(name, _)| name.into()).collect();
    Ok(server.reply(key).bulks(&names))
}

const WHOAMI: Spec = Spec::admin("acl|whoami", 2, whoami).flags(ANYBODY).docs(Docs {
    summary: "Tells the name of the user that the connection acts as.",
    complexity: "O(1)",
    ..DOCS
});

/// ACL WHOAMI → user name of the client.
fn whoami(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let name = server.user_name(key).to_vec();
    Ok(server.reply(key).bulk(&name))
}

const HELP: Spec = Spec::admin("acl|help", 2, help_text)
    .flags(Flags::LOADING.with(Flags::STALE))
    .docs(Docs { summary: "Describes the subcommands.", complexity: "O(1)", ..DOCS });

/// ACL HELP → descriptions of the subcommands.
fn help_text(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(help(
        &mut server.reply(key),
        "ACL",
        &[
            ("CAT [<category>]", "The categories of commands, or the commands of one."),
            ("DELUSER <username> [<username> ...]", "Remove users and close their connections."),
            (
                "DRYRUN <username> <command> [<arg> ...]",
                "Whether the user may run the command. It is not run.",
            ),
            ("GENPASS [<bits>]", "A password that nobody can guess, of 256 bits unless told otherwise."),
            ("GETUSER <username>", "The rules of a user."),
            ("LIST", "All users with their rules, as a file of users has them."),
            ("LOAD", "Read the file of users anew."),
            ("LOG [<count> | RESET]", "What was denied to whom of late; or forget it."),
            ("SAVE", "Write the users into their file."),
            ("SETUSER <username> <rule> [<rule> ...]", "Apply rules to a user, who is made if need be."),
            ("USERS", "The names of the users."),
            ("WHOAMI", "The name of the user that this connection acts as."),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use crate::acl::UserId;
    use crate::clients::{Client, ClientFlags, ClientKey};
    use crate::commands::testing::{Harness, check, check_with};
    use crate::config::Config;
    use crate::config::options::{Place, UserLine};
    use crate::net::stream::Stream;
    use crate::server::execution::users::{self, UsersError};

    /// Connects another client, as a connection to the server does.
    fn connect(harness: &mut Harness) -> (ClientKey, UnixStream) {
        let (ours, peer) = UnixStream::pair().expect("a socket pair can be made");
        let server = &mut harness.server;
        let now = server.keyspace.now();
        let key = server.clients.insert_with(|id, _| Client::new(id, Stream::from_unix(ours), now, false));
        server.act_as_default(key);
        (key, peer)
    }

    fn is_limited(harness: &Harness, key: ClientKey) -> bool {
        harness.server.clients[key].flags.has(ClientFlags::LIMITED_USER)
    }

    #[test]
    fn users_are_made_and_told() {
        check(
            r#"
            ACL WHOAMI
            ACL LIST
            ACL SETUSER u on >pw +get ~a (+set %W~b &c)
            ACL GETUSER u
            ACL GETUSER nobody
            ACL USERS
            ACL SETUSER u +nosuch
            ACL SETUSER u (+get
            ACL SETUSER "a b"
            ACL DELUSER u default
            ACL DELUSER u nobody
            ACL LIST
            "#,
            r#"
            "default"
            1) "user default on nopass sanitize-payload ~* &* +@all"
            OK
             1) "flags"
             2) 1) "on"
                2) "sanitize-payload"
             3) "passwords"
             4) 1) "30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4"
             5) "commands"
             6) "-@all +get"
             7) "keys"
             8) "~a"
             9) "channels"
            10) ""
            11) "selectors"
            12) 1) 1) "commands"
                   2) "-@all +set"
                   3) "keys"
                   4) "%W~b"
                   5) "channels"
                   6) "&c"
            (nil)
            1) "default"
            2) "u"
            (error) ERR Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL
            (error) ERR Unmatched parenthesis in acl selector starting at '(+get'.
            (error) ERR Usernames can't contain spaces or null characters
            (error) ERR The 'default' user cannot be removed
            (integer) 1
            1) "user default on nopass sanitize-payload ~* &* +@all"
            "#,
        );
    }

    #[test]
    fn requests_are_refused() {
        check(
            r#"
            SET a 1
            ACL SETUSER u on nopass +@all -flushall -config|set %R~a %W~w
            AUTH u any
            GET a
            GET b
            SET a 2
            SET w 2
            SET w 2 GET
            flushall async
            CONFIG SET hz 10
            ECHO hello
            MGET a b
            EXISTS a w
            EXISTS a x
            BITFIELD w SET u8 0 1
            BITFIELD_RO a GET u8 0
            ACL SETUSER u -echo
            ECHO hello
            ACL WHOAMI
            RESET
            ECHO hello
            ACL SETUSER u reset
            AUTH u any
            "#,
            r#"
            OK
            OK
            OK
            "1"
            (error) NOPERM No permissions to access a key
            (error) NOPERM No permissions to access a key
            OK
            (error) NOPERM No permissions to access a key
            (error) NOPERM User u has no permissions to run the 'flushall' command
            (error) NOPERM User u has no permissions to run the 'config|set' command
            "hello"
            (error) NOPERM No permissions to access a key
            (integer) 2
            (error) NOPERM No permissions to access a key
            (error) NOPERM No permissions to access a key
            1) (integer) 49
            OK
            (error) NOPERM User u has no permissions to run the 'echo' command
            "u"
            RESET
            "hello"
            OK
            (error) WRONGPASS invalid username-password pair or user is disabled.
            "#,
        );
    }

    #[test]
    fn transactions_are_checked_twice() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            r#"
            ACL SETUSER u on nopass +@all ~a*
            AUTH u x
            MULTI
            GET b
            EXEC
            MULTI
            SET a 1
            GET ab
            "#,
            r#"
            OK
            OK
            OK
            (error) NOPERM No permissions to access a key
            (error) EXECABORT Transaction discarded because of previous errors.
            OK
            QUEUED
            QUEUED
            "#,
        );
        harness.server.set_user(b"u", [&b"-get"[..], b"resetkeys", b"~a"]).expect("right");
        check_with(
            &mut harness,
            "EXEC",
            r#"
            1) OK
            2) (error) NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no longer allowed for the following reason: no permission to execute the command or subcommand
            "#,
        );
        let entries = harness.server.acl.log.entries();
        let denied: Vec<_> =
            entries.map(|entry| (entry.reason.name(), entry.context.name(), &*entry.object)).collect();
        assert_eq!(denied, [("command", "multi", &b"get"[..]), ("key", "multi", b"b")]);
        harness.server.set_user(b"u", [&b"-exec"[..]]).expect("right");
        check_with(
            &mut harness,
            "MULTI\nEXEC",
            r#"
            OK
            (error) EXECABORT Transaction discarded because of: NOPERM User u has no permissions to run the 'exec' command
            "#,
        );
    }

    #[test]
    fn sort_looks_up_only_what_may_be_read() {
        check(
            r#"
            RPUSH l 1
            SET w1 5
            ACL SETUSER u on nopass (+sort ~l)
            AUTH u x
            SORT l
            SORT l BY w*
            SORT l BY nosort
            SORT l GET w*
            RESET
            ACL SETUSER u (+sort ~l %R~*)
            AUTH u x
            SORT l BY w* GET w*
            "#,
            r#"
            (integer) 1
            OK
            OK
            OK
            1) "1"
            (error) ERR BY option of SORT denied due to insufficient ACL permissions.
            1) "1"
            (error) ERR GET option of SORT denied due to insufficient ACL permissions.
            RESET
            OK
            OK
            1) "5"
            "#,
        );
    }

    #[test]
    fn dry_runs() {
        check(
            r#"
            ACL SETUSER u +@all -get ~a
            ACL DRYRUN nobody GET a
            ACL DRYRUN u NOSUCH
            ACL DRYRUN u SET a
            ACL DRYRUN u CONFIG GET
            ACL DRYRUN u CONFIG NOSUCH
            ACL DRYRUN u GET a
            ACL DRYRUN u SET a b
            ACL DRYRUN u SET b b
            ACL DRYRUN u AUTH x
            "#,
            r#"
            OK
            (error) ERR User 'nobody' not found
            (error) ERR Command 'NOSUCH' not found
            (error) ERR wrong number of arguments for 'set' command
            (error) ERR wrong number of arguments for 'config|get' command
            (error) ERR Command 'CONFIG' not found
            "User u has no permissions to run the 'get' command"
            OK
            "User u has no permissions to access the 'b' key"
            OK
            "#,
        );
    }

    #[test]
    fn denials_are_logged_and_counted() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            r#"
            ACL SETUSER u on >pw +get ~a
            AUTH u wrong
            auth u wrong
            HELLO 2 AUTH u wrong
            AUTH u pw
            GET b
            GET b
            ACL LOG
            RESET
            CONFIG SET acllog-max-len 1
            ACL LOG x
            ACL LOG 1 2
            ACL LOG 0
            "#,
            r#"
            OK
            (error) WRONGPASS invalid username-password pair or user is disabled.
            (error) WRONGPASS invalid username-password pair or user is disabled.
            (error) WRONGPASS invalid username-password pair or user is disabled.
            OK
            (error) NOPERM No permissions to access a key
            (error) NOPERM No permissions to access a key
            (error) NOPERM User u has no permissions to run the 'acl|log' command
            RESET
            OK
            (error) ERR value is not an integer or out of range
            (error) ERR unknown subcommand or wrong number of arguments for 'LOG'. Try ACL HELP.
            (empty array)
            "#,
        );
        let denials = harness.server.acl.denials;
        assert_eq!((denials.logins, denials.keys, denials.commands, denials.channels), (3, 2, 1, 0));
        assert_eq!(harness.server.acl.log.entries().len(), 1);
        let text = harness.run("ACL LOG 1");
        for part in [
            "2) (integer) 1\n",
            "3) \"reason\"\n",
            "4) \"command\"\n",
            "6) \"toplevel\"\n",
            "8) \"acl|log\"\n",
            "10) \"u\"\n",
            "11) \"age-seconds\"\n",
            "cmd=acl|log user=u redir",
            "15) \"entry-id\"\n",
            "16) (integer) 4\n",
            "17) \"timestamp-created\"\n",
            "19) \"timestamp-last-updated\"\n",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        check_with(&mut harness, "CONFIG RESETSTAT\nACL LOG RESET\nACL LOG", "OK\nOK\n(empty array)");
        assert_eq!(harness.server.acl.denials, denials, "what was denied is not forgotten with the rest");
    }

    #[test]
    fn changes_reach_connected_clients() {
        let mut harness = Harness::default();
        let (other, _peer) = connect(&mut harness);
        check_with(&mut harness, "ACL SETUSER u on nopass ~* &* +@all", "OK");
        harness.server.authenticate(other, Some(b"u"), b"", b"AUTH").expect("any password is right");
        assert!(!is_limited(&harness, other) && !is_limited(&harness, harness.client));
        check_with(&mut harness, "ACL SETUSER u -get", "OK");
        assert!(is_limited(&harness, other) && !is_limited(&harness, harness.client));
        check_with(&mut harness, "ACL SETUSER u +get", "OK");
        assert!(!is_limited(&harness, other));
        check_with(
            &mut harness,
            "CLIENT KILL USER nobody\nCLIENT KILL USER u\nACL SETUSER v on nopass -@all +acl\nAUTH v x",
            "(error) ERR No such user 'nobody'\n(integer) 1\nOK\nOK",
        );
        assert!(harness.server.clients[other].is_closing());
        // A client that deletes its own user still reads the reply.
        assert_eq!(harness.run("ACL DELUSER v u"), "(integer) 2");
        let client = &harness.server.clients[harness.client];
        assert!(
            client.flags.has(ClientFlags::CLOSE_AFTER_REPLY) && !client.flags.has(ClientFlags::CLOSE_SOON)
        );
        assert_eq!(client.user, UserId::DEFAULT);
        assert!(!client.flags.has(ClientFlags::AUTHENTICATED));
    }

    #[test]
    fn who_listens_to_what_is_revoked_is_closed() {
        let mut harness = Harness::default();
        for line in ["ACL SETUSER u on nopass +@all &a* &b*", "AUTH u x", "SUBSCRIBE ax", "PSUBSCRIBE b*"] {
            let reply = harness.run(line);
            assert!(!reply.contains("(error)"), "{reply}");
        }
        let closing = |harness: &Harness| harness.server.clients[harness.client].is_closing();
        let mut set = |rule: &str| {
            harness.server.set_user(b"u", rule.split(' ').map(str::as_bytes)).expect("right");
            closing(&harness)
        };
        assert!(!set("resetchannels &ax &b* &c") && !set("allchannels") && !set("resetchannels &a* &b*"));
        assert!(set("resetchannels &a* &b"));
    }

    #[test]
    fn the_default_user_is_who_comes() {
        let mut harness = Harness::default();
        let lets_in = |harness: &mut Harness| {
            let (key, _peer) = connect(harness);
            !harness.server.must_authenticate(key)
        };
        assert!(lets_in(&mut harness));
        harness.run("ACL SETUSER default off");
        assert!(!lets_in(&mut harness));
        harness.run("ACL SETUSER default on >x");
        assert!(!lets_in(&mut harness));
        let (waiting, _peer) = connect(&mut harness);
        check_with(
            &mut harness,
            r#"
            CONFIG SET requirepass pw
            AUTH x
            AUTH pw
            CONFIG SET requirepass ""
            AUTH pw
            ACL LIST
            "#,
            r#"
            OK
            (error) WRONGPASS invalid username-password pair or user is disabled.
            OK
            OK
            (error) ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?
            1) "user default on nopass sanitize-payload ~* &* +@all"
            "#,
        );
        assert!(lets_in(&mut harness) && !harness.server.must_authenticate(waiting));
        harness.run("ACL SETUSER default -@all");
        assert!(lets_in(&mut harness));
    }

    #[test]
    fn passwords_and_categories() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            r#"
            ACL GENPASS 0
            ACL GENPASS 4097
            ACL GENPASS x
            ACL GENPASS 1 2
            ACL CAT nosuch
            ACL CAT a b
            ACL CAT transaction
            ACL LOAD
            "#,
            r#"
            (error) ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096
            (error) ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096
            (error) ERR value is not an integer or out of range
            (error) ERR unknown subcommand or wrong number of arguments for 'GENPASS'. Try ACL HELP.
            (error) ERR Unknown category 'nosuch'
            (error) ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.
            1) "discard"
            2) "exec"
            3) "multi"
            4) "unwatch"
            5) "watch"
            (error) ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.
            "#,
        );
        let digits = |harness: &mut Harness, line: &str| harness.run(line).len() - 2;
        assert_eq!(digits(&mut harness, "ACL GENPASS"), 64);
        assert_eq!(digits(&mut harness, "ACL GENPASS 5"), 2);
        assert_eq!(digits(&mut harness, "ACL GENPASS 4096"), 1024);
        assert_ne!(harness.run("ACL GENPASS"), harness.run("ACL GENPASS"));
    }

    #[test]
    fn users_have_a_file() {
        let path = std::env::temp_dir().join(format!("spinel-users-{}.acl", std::process::id()));
        let write = |text: &str| std::fs::write(&path, text).expect("the temporary directory is writable");
        let mut config = Config::default();
        config.security.aclfile = path.to_string_lossy().into_owned();
        write("user u on nopass ~* +@all\nuser default on nopass ~* &* +@all -flushall\n");
        let mut harness = Harness::new(config);
        let (other, _peer) = connect(&mut harness);
        check_with(
            &mut harness,
            r#"
            ACL LOAD
            FLUSHALL
            ACL SETUSER v +get
            ACL SAVE
            ACL SETUSER v +set
            ACL SETUSER w
            ACL LOAD
            ACL LIST
            AUTH u x
            "#,
            r#"
            OK
            (error) NOPERM User default has no permissions to run the 'flushall' command
            OK
            OK
            OK
            OK
            OK
            1) "user default on nopass sanitize-payload ~* &* +@all -flushall"
            2) "user u on nopass sanitize-payload ~* resetchannels +@all"
            3) "user v off sanitize-payload resetchannels -@all +get"
            OK
            "#,
        );
        write("user u +nosuch");
        let reply = harness.run("ACL LOAD");
        assert!(reply.contains(":1: Error in applying operation '+nosuch': Unknown command"), "{reply}");
        assert!(!harness.server.clients[harness.client].is_closing());
        std::fs::remove_file(&path).expect("the file is ours");
        assert!(harness.run("ACL LOAD").contains("Error loading ACLs, opening file '"));
        check_with(&mut harness, "ACL SAVE\nACL LOAD", "OK\nOK");
        // Connections of the default user stay; others must authenticate again, because their users may have
        // changed.
        assert!(harness.server.clients[harness.client].is_closing());
        assert!(!harness.server.clients[other].is_closing() && is_limited(&harness, other));
        assert!(users::user_lines(&harness.server.acl, &harness.server.config.security).is_empty());
        std::fs::remove_file(&path).expect("the file is ours");
    }

    /// If the keys of a request cannot be found, a user who may access only some keys is denied.
    #[test]
    fn requests_of_the_wrong_form_are_denied_to_limited_users() {
        let mut harness = Harness::default();
        harness.run("ACL SETUSER limited on nopass +@all ~allowed:*");
        harness.run("ACL SETUSER keys on nopass +@all -flushall ~*");
        let denied = "(error) NOPERM No permissions to access a key";
        harness.run("AUTH limited x");
        for request in [
            "PFMERGE secret:new",
            "LMPOP 2 secret:l LEFT",
            "LMPOP x allowed:l LEFT",
            "ZUNIONSTORE allowed:d x secret:z",
            "ZUNIONSTORE allowed:d 5 secret:z",
            "SINTERCARD 3 allowed:s",
        ] {
            assert_eq!(harness.run(request), denied, "{request}");
        }
        assert_eq!(harness.run("PFMERGE allowed:new"), "OK");
        assert_eq!(harness.run("EXISTS allowed:new"), "(integer) 1");
        harness.run("AUTH keys x");
        assert_eq!(harness.run("EXISTS secret:new"), "(integer) 0");
        assert_eq!(harness.run("LMPOP x secret:l LEFT"), "(error) ERR numkeys should be greater than 0");
        assert_eq!(harness.run("PFMERGE secret:new"), "OK");
    }

    #[test]
    fn users_of_the_configuration() {
        let with = |lines: &[(&str, &str)], aclfile: &str| {
            let mut config = Config::default();
            config.security.requirepass = b"pw".into();
            config.security.aclfile = aclfile.into();
            let line = |&(name, rules): &(&str, &str)| UserLine {
                name: name.into(),
                rules: rules.split(' ').filter(|rule| !rule.is_empty()).map(Vec::from).collect(),
                place: Place { file: None, line: 7, text: b"user".into() },
            };
            config.security.users = lines.iter().map(line).collect();
            let mut harness = Harness::new(config);
            harness.server.apply_users(crate::stats::progress::Lines::Log).map(|()| harness)
        };
        let Ok(mut harness) = with(&[("u", "on >x (+get ~a) ~b")], "") else { panic!("right") };
        let lines = users::user_lines(&harness.server.acl, &harness.server.config.security);
        for (line, name) in lines.iter().zip([&b"default"[..], b"u"]) {
            let user = harness.server.acl.find(name).expect("made");
            assert_eq!((&*line.name, line.rules.join(&b' ')), (name, harness.server.acl[user].describe()));
        }
        harness.run("ACL SETUSER default -flushall");
        assert_eq!(
            users::user_lines(&harness.server.acl, &harness.server.config.security)[0]
                .rules
                .last()
                .expect("rules"),
            b"-flushall"
        );
        let Ok(harness) = with(&[("default", "on nopass +get")], "") else { panic!("right") };
        assert!(harness.server.acl.is_open());
        assert_eq!(
            users::user_lines(&harness.server.acl, &harness.server.config.security)[0]
                .rules
                .last()
                .expect("rules"),
            b"+get"
        );

        let error = |lines: &[(&str, &str)], aclfile: &str| with(lines, aclfile).err().expect("wrong");
        let place = || Place { file: None, line: 7, text: b"user".into() };
        let complaint = |rule: &str, text: &str| {
            UsersError::Line(place(), format!("Error loading ACL rule '{rule}' {text}"))
        };
        assert_eq!(error(&[("u", "")], "x.acl"), UsersError::Both);
        assert_eq!(
            error(&[("u", "on +nosuch")], ""),
            complaint("+nosuch", "for the user named 'u': Unknown command or category name in ACL")
        );
        assert_eq!(
            error(&[("u", "on (+get")], ""),
            complaint("(+get", "for the user named 'u': Unmatched parenthesis in selector definition.")
        );
        assert_eq!(
            error(&[("a\tb", "")], ""),
            UsersError::Line(
                place(),
                "Error in user declaration 'a\tb': Usernames can't contain spaces or null characters".into()
            )
        );
        assert!(matches!(error(&[], "/no/such/file"), UsersError::File(_)));
    }
}
