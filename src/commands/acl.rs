//! ACL: users, what they may do, and what was denied them.

use super::help::help;
use crate::acl::log::Entry;
use crate::acl::selector::Selector;
use crate::acl::{DEFAULT_NAME, SetError};
use crate::clients::ClientKey;
use crate::resp::{Args, Error, Replied, Reply};
use crate::server::Server;
use crate::server::command::{Arg, CmdResult, Docs, Flags, Group, Spec};
use crate::server::users;
use crate::stdx::clock::UnixMillis;
use rand::Rng as _;

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

/// A subcommand was given more arguments than it takes.
fn too_many(name: &str) -> Error {
    Error::text(format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try ACL HELP."))
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
            catalog.in_category(bit).map(|(_, command)| command.name).collect()
        }
        _ => return Err(too_many("CAT")),
    };
    Ok(server.reply(key).bulks(&names))
}

const DELUSER: Spec = Spec::admin("acl|deluser", -3, deluser).flags(ADMIN).tips(ON_ALL_NODES).docs(Docs {
    summary: "Removes users and closes their connections.",
    complexity: "O(N) for N connections",
    args: &[Arg::string("username").multiple()],
    ..DOCS
});

/// ACL DELUSER user [user …] → how many there were.
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

/// ACL DRYRUN user command [arg …] → OK, or why not.
fn dryrun(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let name = args.at(2);
    let user = server.acl.find(name).ok_or_else(|| Error::quoting(&[b"ERR User '", name, b"' not found"]))?;
    let request = args.rest(3);
    let commands = &server.commands;
    let found = commands.find(request.at(0)).and_then(|id| match request.get(1) {
        Some(sub) if !commands.spec(id).subcommands.is_empty() => commands.find_sub(id, sub),
        _ => Some(id),
    });
    let id = found.ok_or_else(|| Error::quoting(&[b"ERR Command '", request.at(0), b"' not found"]))?;
    let spec = commands.spec(id);
    if !spec.accepts(request.len()) {
        return Err(Error::arity(spec.name));
    }
    let checked = server.check_user(user, id, spec, &request);
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

/// The most that ACL GENPASS gives.
const MAX_BITS: i64 = 4096;

/// ACL GENPASS [bits] → random hexadecimal digits, 64 of them unless told otherwise.
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

const GETUSER: Spec = Spec::admin("acl|getuser", 3, getuser).flags(ADMIN).docs(Docs {
    summary: "Tells the rules of a user.",
    complexity: "O(N) for N rules",
    history: &[
        ("6.2.0", "Tells the channels."),
        ("7.0.0", "Tells the selectors, and keys and channels as rules instead of lists."),
    ],
    args: &[Arg::string("username")],
    ..DOCS
});

/// ACL GETUSER user → a map of flags, passwords, commands, keys, channels, selectors; null for nobody.
fn getuser(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let Some(user) = server.acl.find(args.at(2)) else { return Ok(server.reply(key).null_array()) };
    let user = server.acl[user].clone();
    let mut reply = server.reply(key);
    reply.map(6);
    reply.bulk(b"flags");
    let flags: Vec<&str> = user.flags().collect();
    reply.set(flags.len());
    for flag in flags {
        reply.bulk(flag.as_bytes());
    }
    reply.bulk(b"passwords");
    reply.bulks(&user.passwords().collect::<Vec<_>>());
    write_selector(&mut reply, user.own());
    reply.bulk(b"selectors");
    let mut done = reply.array(user.more().len());
    for selector in user.more() {
        reply.map(3);
        done = write_selector(&mut reply, selector);
    }
    Ok(done)
}

fn write_selector(reply: &mut Reply<'_>, selector: &Selector) -> Replied {
    reply.bulk(b"commands");
    reply.bulk(&selector.describe_commands());
    reply.bulk(b"keys");
    reply.bulk(&selector.describe_keys());
    reply.bulk(b"channels");
    reply.bulk(&selector.describe_channels())
}

const LIST: Spec = Spec::admin("acl|list", 2, list).flags(ADMIN).docs(Docs {
    summary: "Lists the users with their rules, as a file of users has them.",
    complexity: "O(N) for N rules of all users",
    ..DOCS
});

/// ACL LIST → a line for each user.
fn list(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let lines: Vec<Vec<u8>> =
        server.acl.users().map(|(name, user)| [b"user ", name, b" ", &user.describe()].concat()).collect();
    Ok(server.reply(key).bulks(&lines))
}

const LOAD: Spec = Spec::admin("acl|load", 2, load).flags(ADMIN).docs(Docs {
    summary: "Reads the file of users anew.",
    complexity: "O(N) for N rules of all users",
    ..DOCS
});

/// LOAD and SAVE need a file.
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

/// ACL LOAD → OK; the users are those of the file, and connections of all but the default user are closed.
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

/// ACL SAVE → OK, once the file has the users of now.
fn save(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    check_file(server)?;
    if let Err(error) = server.save_users() {
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

/// How many entries ACL LOG tells unless told otherwise.
const LOG_ENTRIES: usize = 10;

/// ACL LOG [count] → the newest entries; ACL LOG RESET → OK, and there are none.
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

const SETUSER: Spec = Spec::admin("acl|setuser", -3, setuser).flags(ADMIN).tips(ON_ALL_NODES).docs(Docs {
    summary: "Applies rules to a user, who is made if need be.",
    complexity: "O(N) for N rules",
    history: &[
        ("6.2.0", "Rules about channels."),
        ("7.0.0", "Selectors, and separate permissions to read and to write keys."),
    ],
    args: &[Arg::string("username"), Arg::string("rule").optional().multiple()],
    ..DOCS
});

/// ACL SETUSER user [rule …] → OK. Nothing changes when one of the rules is wrong.
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

/// ACL USERS → the names.
fn list_names(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let names: Vec<Vec<u8>> = server.acl.users().map(|(name, _)| name.into()).collect();
    Ok(server.reply(key).bulks(&names))
}

const WHOAMI: Spec = Spec::admin("acl|whoami", 2, whoami).flags(ANYBODY).docs(Docs {
    summary: "Tells the name of the user that the connection acts as.",
    complexity: "O(1)",
    ..DOCS
});

/// ACL WHOAMI → the name.
fn whoami(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let name = server.user_name(key).to_vec();
    Ok(server.reply(key).bulk(&name))
}

const HELP: Spec = Spec::admin("acl|help", 2, help_text)
    .flags(Flags::LOADING.with(Flags::STALE))
    .docs(Docs { summary: "Describes the subcommands.", complexity: "O(1)", ..DOCS });

/// ACL HELP → what the subcommands do.
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
