//! COMMAND: descriptions of the commands, from the table by which they run.

use super::help::help;
use crate::clients::ClientKey;
use crate::resp::{Args, Error, Replied, Reply};
use crate::server::Server;
use crate::server::command::{
    Acl, Arg, ArgKind, Begin, CmdResult, Commands, Docs, Find, Flags, Group, KeyFlags, KeySpec, Spec,
};
use crate::stdx::glob;

/// Table entries of the COMMAND commands.
pub const COMMANDS: &[Spec] = &[COMMAND];

const FLAGS: Flags = Flags::LOADING.with(Flags::STALE);
const UNORDERED: &[&str] = &["nondeterministic_output_order"];

const COMMAND: Spec = Spec {
    subcommands: &[COUNT, DOCS, GETKEYS, GETKEYSANDFLAGS, HELP, INFO, LIST],
    ..Spec::admin("command", -1, command).flags(FLAGS).acl(Acl::CONNECTION).tips(UNORDERED).docs(Docs {
        summary: "Describes all commands.",
        since: "2.8.13",
        complexity: "O(N) for N commands",
        group: Group::Server,
        ..Docs::NONE
    })
};

/// COMMAND → the reply of COMMAND INFO for all commands.
fn command(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let specs: Vec<&'static Spec> = server.commands.top_level().collect();
    let mut reply = server.reply(key);
    let mut done = reply.array(specs.len());
    for spec in specs {
        done = write_info(&mut reply, spec);
    }
    Ok(done)
}

const COUNT: Spec = Spec::admin("command|count", 2, count).flags(FLAGS).acl(Acl::CONNECTION).docs(Docs {
    summary: "Counts the commands.",
    since: "2.8.13",
    complexity: "O(1)",
    group: Group::Server,
    ..Docs::NONE
});

/// COMMAND COUNT → the number of commands, without subcommands.
fn count(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let n = server.commands.top_level().len();
    Ok(server.reply(key).int(n as i64))
}

const INFO: Spec =
    Spec::admin("command|info", -2, info).flags(FLAGS).acl(Acl::CONNECTION).tips(UNORDERED).docs(Docs {
        summary: "Describes some or all commands.",
        since: "2.8.13",
        complexity: "O(N) for N commands",
        group: Group::Server,
        history: &[("7.0.0", "Without a name, all commands are described.")],
        args: &[Arg::string("command-name").optional().multiple()],
        ..Docs::NONE
    });

/// COMMAND INFO [name …] → arity, flags, keys and so on of each command; null for an unknown name.
fn info(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let names = args.rest(2);
    if names.len() == 0 {
        return command(server, key, args);
    }
    let specs: Vec<Option<&'static Spec>> = names.iter().map(|name| find(&server.commands, name)).collect();
    let mut reply = server.reply(key);
    let replied = reply.array(specs.len());
    reply.each(specs, |reply, spec| {
        match spec {
            Some(spec) => write_info(reply, spec),
            None => reply.null(),
        };
    });
    Ok(replied)
}

fn find(commands: &Commands, name: &[u8]) -> Option<&'static Spec> {
    commands.find_full(name).map(|id| commands.spec(id))
}

/// Name, arity, flags, first key, last key, step, categories, tips, key specifications, subcommands.
fn write_info(reply: &mut Reply<'_>, spec: &Spec) -> Replied {
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.int(spec.arity.into());
    let movable = if spec.has_movable_keys() { Flags::MOVABLE_KEYS } else { Flags::NONE };
    words(reply, spec.flags.with(movable).names());
    let (first, last, step) = spec.key_range();
    reply.int(first);
    reply.int(last);
    reply.int(step);
    let categories = spec.categories();
    reply.set(categories.names().count());
    for category in categories.names() {
        reply.simple(&format!("@{category}"));
    }
    reply.set(spec.tips.len());
    for tip in spec.tips {
        reply.bulk(tip.as_bytes());
    }
    let mut done = reply.set(spec.keys.len());
    for keys in spec.keys {
        done = write_key_spec(reply, keys);
    }
    if spec.subcommands.is_empty() {
        return reply.set(0);
    }
    reply.array(spec.subcommands.len());
    for sub in spec.subcommands {
        done = write_info(reply, sub);
    }
    done
}

fn words(reply: &mut Reply<'_>, names: impl Iterator<Item = &'static str> + Clone) -> Replied {
    let mut done = reply.set(names.clone().count());
    for name in names {
        done = reply.simple(name);
    }
    done
}

fn write_key_spec(reply: &mut Reply<'_>, spec: &KeySpec) -> Replied {
    reply.map(3 + usize::from(!spec.notes.is_empty()));
    if !spec.notes.is_empty() {
        reply.bulk(b"notes");
        reply.bulk(spec.notes.as_bytes());
    }
    reply.bulk(b"flags");
    words(reply, spec.flags.names());
    reply.bulk(b"begin_search");
    match spec.begin {
        Begin::Index(index) => {
            rule(reply, "index", 1);
            number(reply, "index", index.into());
        }
        Begin::Keyword(word, from) => {
            rule(reply, "keyword", 2);
            reply.bulk(b"keyword");
            reply.bulk(word.as_bytes());
            number(reply, "startfrom", from.into());
        }
        Begin::Unknown => {
            rule(reply, "unknown", 0);
        }
    }
    reply.bulk(b"find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            rule(reply, "range", 3);
            number(reply, "lastkey", last.into());
            number(reply, "keystep", step.into());
            number(reply, "limit", limit.into())
        }
        Find::Count { at, first, step } => {
            rule(reply, "keynum", 3);
            number(reply, "keynumidx", at.into());
            number(reply, "firstkey", first.into());
            number(reply, "keystep", step.into())
        }
        Find::Unknown => rule(reply, "unknown", 0),
    }
}

/// Opens a map with the name of a rule and a nested map of its `n` numbers.
fn rule(reply: &mut Reply<'_>, kind: &str, n: usize) -> Replied {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(n)
}

fn number(reply: &mut Reply<'_>, name: &str, n: i64) -> Replied {
    reply.bulk(name.as_bytes());
    reply.int(n)
}

fn text(reply: &mut Reply<'_>, name: &str, text: &str) -> Replied {
    reply.bulk(name.as_bytes());
    reply.bulk(text.as_bytes())
}

const DOCS: Spec =
    Spec::admin("command|docs", -2, docs).flags(FLAGS).acl(Acl::CONNECTION).tips(UNORDERED).docs(Docs {
        summary: "Documents some or all commands.",
        since: "7.0.0",
        complexity: "O(N) for N commands",
        group: Group::Server,
        args: &[Arg::string("command-name").optional().multiple()],
        ..Docs::NONE
    });

/// COMMAND DOCS [name …] → a map from names to documentation; unknown names are omitted.
fn docs(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let names = args.rest(2);
    let specs: Vec<&'static Spec> = if names.len() == 0 {
        server.commands.top_level().collect()
    } else {
        names.iter().filter_map(|name| find(&server.commands, name)).collect()
    };
    let mut reply = server.reply(key);
    let replied = reply.map(specs.len());
    reply.each(specs, |reply, spec| {
        reply.bulk(spec.name.as_bytes());
        write_docs(reply, spec);
    });
    Ok(replied)
}

fn write_docs(reply: &mut Reply<'_>, spec: &Spec) -> Replied {
    let docs = &spec.docs;
    let fields = reply.defer();
    let mut n = 0;
    for (name, value) in [
        ("summary", docs.summary),
        ("since", docs.since),
        ("group", docs.group.name()),
        ("complexity", docs.complexity),
    ] {
        if !value.is_empty() {
            text(reply, name, value);
            n += 1;
        }
    }
    let deprecated = !docs.deprecated_since.is_empty();
    if deprecated || docs.internal {
        let flags = [("deprecated", deprecated), ("syscmd", docs.internal)];
        reply.bulk(b"doc_flags");
        words(reply, flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name));
        n += 1;
    }
    if deprecated {
        text(reply, "deprecated_since", docs.deprecated_since);
        n += 1;
    }
    if !docs.replaced_by.is_empty() {
        text(reply, "replaced_by", docs.replaced_by);
        n += 1;
    }
    if !docs.history.is_empty() {
        reply.bulk(b"history");
        reply.set(docs.history.len());
        for (version, change) in docs.history {
            reply.bulks(&[version, change]);
        }
        n += 1;
    }
    if !docs.args.is_empty() {
        reply.bulk(b"arguments");
        write_args(reply, docs.args);
        n += 1;
    }
    if !spec.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(spec.subcommands.len());
        for sub in spec.subcommands {
            reply.bulk(sub.name.as_bytes());
            write_docs(reply, sub);
        }
        n += 1;
    }
    reply.end_map(fields, n)
}

fn write_args(reply: &mut Reply<'_>, args: &[Arg]) -> Replied {
    let mut done = reply.array(args.len());
    for arg in args {
        done = write_arg(reply, arg);
    }
    done
}

fn write_arg(reply: &mut Reply<'_>, arg: &Arg) -> Replied {
    let fields = reply.defer();
    let mut n = 2;
    text(reply, "name", arg.name);
    text(reply, "type", arg.kind.name());
    let display = match arg.kind {
        // These arguments are replaced by their parts.
        ArgKind::OneOf | ArgKind::Block => arg.display,
        _ => Some(arg.display.unwrap_or(arg.name)),
    };
    if let Some(display) = display {
        text(reply, "display_text", display);
        n += 1;
    }
    if let Some(index) = arg.key_spec {
        number(reply, "key_spec_index", index.into());
        n += 1;
    }
    for (name, value) in [
        ("token", arg.token.unwrap_or("")),
        ("summary", arg.summary),
        ("since", arg.since),
        ("deprecated_since", arg.deprecated),
    ] {
        // An empty token is one that users type as such: `""`.
        if !value.is_empty() || (name == "token" && arg.token.is_some()) {
            text(reply, name, value);
            n += 1;
        }
    }
    let flags =
        [(arg.optional, "optional"), (arg.multiple, "multiple"), (arg.multiple_token, "multiple_token")];
    let flags = flags.into_iter().filter_map(|(set, name)| set.then_some(name));
    if flags.clone().next().is_some() {
        reply.bulk(b"flags");
        words(reply, flags);
        n += 1;
    }
    if !arg.args.is_empty() {
        reply.bulk(b"arguments");
        write_args(reply, arg.args);
        n += 1;
    }
    reply.end_map(fields, n)
}

const LIST: Spec =
    Spec::admin("command|list", -2, list).flags(FLAGS).acl(Acl::CONNECTION).tips(UNORDERED).docs(Docs {
        summary: "Lists the names of commands.",
        since: "7.0.0",
        complexity: "O(N) for N commands",
        group: Group::Server,
        args: &[Arg::one_of(
            "filterby",
            &[
                Arg::string("module-name").token("MODULE"),
                Arg::string("category").token("ACLCAT"),
                Arg::pattern("pattern").token("PATTERN"),
            ],
        )
        .token("FILTERBY")
        .optional()],
        ..Docs::NONE
    });

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN glob] → names, including subcommands.
fn list(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    type Filter<'a> = Box<dyn Fn(&Spec) -> bool + 'a>;
    let filter: Filter<'_> = match args.len() {
        2 => Box::new(|_| true),
        5 if args.is(2, "FILTERBY") => {
            let value = args.at(4);
            if args.is(3, "MODULE") {
                // No command belongs to a module.
                Box::new(|_| false)
            } else if args.is(3, "ACLCAT") {
                let same = |name: &str| name.as_bytes().eq_ignore_ascii_case(value);
                let category = Acl::NAMES.iter().find(|(_, name)| same(name)).map(|(acl, _)| *acl);
                Box::new(move |spec| category.is_some_and(|category| spec.categories().has(category)))
            } else if args.is(3, "PATTERN") {
                Box::new(move |spec| glob::matches_nocase(value, spec.name.as_bytes()))
            } else {
                return Err(Error::Syntax);
            }
        }
        _ => return Err(Error::Syntax),
    };
    let names: Vec<&str> = server
        .commands
        .top_level()
        .flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
        .filter(|spec| filter(spec))
        .map(|spec| spec.name)
        .collect();
    Ok(server.reply(key).bulks(&names))
}

const GETKEYS: Spec =
    Spec::admin("command|getkeys", -3, getkeys).flags(FLAGS).acl(Acl::CONNECTION).docs(Docs {
        summary: "Tells which arguments of a command are keys.",
        since: "2.8.13",
        complexity: "O(N) for N arguments",
        group: Group::Server,
        args: &[Arg::string("command"), Arg::string("arg").optional().multiple()],
        ..Docs::NONE
    });

/// COMMAND GETKEYS command [arg …] → the keys among the arguments.
fn getkeys(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let request = args.rest(2);
    let keys = keys_of(&server.commands, &request)?;
    let mut reply = server.reply(key);
    let mut done = reply.array(keys.len());
    for (i, _) in keys {
        done = reply.bulk(request.at(i));
    }
    Ok(done)
}

const GETKEYSANDFLAGS: Spec = Spec::admin("command|getkeysandflags", -3, getkeysandflags)
    .flags(FLAGS)
    .acl(Acl::CONNECTION)
    .docs(Docs {
        summary: "Tells which arguments of a command are keys, and what becomes of them.",
        since: "7.0.0",
        complexity: "O(N) for N arguments",
        group: Group::Server,
        args: &[Arg::string("command"), Arg::string("arg").optional().multiple()],
        ..Docs::NONE
    });

/// COMMAND GETKEYSANDFLAGS command [arg …] → the keys, each with the flags of its access.
fn getkeysandflags(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let request = args.rest(2);
    let keys = keys_of(&server.commands, &request)?;
    let mut reply = server.reply(key);
    let mut done = reply.array(keys.len());
    for (i, flags) in keys {
        reply.array(2);
        reply.bulk(request.at(i));
        done = words(&mut reply, flags.names());
    }
    Ok(done)
}

/// Positions and flags of the keys of a request.
fn keys_of(commands: &Commands, request: &Args<'_>) -> Result<Vec<(usize, KeyFlags)>, Error> {
    let invalid = || Error::text("ERR Invalid command specified");
    let id = commands.find(request.at(0)).ok_or_else(invalid)?;
    let mut spec = commands.spec(id);
    if !spec.subcommands.is_empty()
        && let Some(sub) = request.get(1)
    {
        spec = commands.spec(commands.find_sub(id, sub).ok_or_else(invalid)?);
    }
    if !spec.has_keys() {
        return Err(Error::text("ERR The command has no key arguments"));
    }
    if !spec.accepts(request.len()) {
        return Err(Error::text("ERR Invalid number of arguments specified for command"));
    }
    let mut keys = Vec::new();
    let understood = spec.each_key(request, &mut |i, flags| keys.push((i, flags)));
    if spec.flags.has(Flags::NO_MANDATORY_KEYS) && (!understood || keys.is_empty()) {
        return Ok(Vec::new());
    }
    if !understood || keys.is_empty() {
        return Err(Error::text("ERR Invalid arguments specified for command"));
    }
    Ok(keys)
}

const HELP: Spec = Spec::admin("command|help", 2, help_text).flags(FLAGS).acl(Acl::CONNECTION).docs(Docs {
    summary: "Describes the subcommands.",
    since: "5.0.0",
    complexity: "O(1)",
    group: Group::Server,
    ..Docs::NONE
});

/// COMMAND HELP → descriptions of the subcommands.
fn help_text(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(help(
        &mut server.reply(key),
        "COMMAND",
        &[
            ("(no subcommand)", "Describe all commands."),
            ("COUNT", "The number of commands."),
            ("DOCS [<command-name> ...]", "The documentation of these commands, or of all."),
            ("GETKEYS <command> [<arg> ...]", "Which of a command's arguments are keys."),
            ("GETKEYSANDFLAGS <command> [<arg> ...]", "The same, with what the command does to each key."),
            ("INFO [<command-name> ...]", "Arity, flags, keys and categories of these commands, or of all."),
            (
                "LIST [FILTERBY MODULE <module-name>|ACLCAT <category>|PATTERN <pattern>]",
                "The names of all commands, or of those that pass the filter.",
            ),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check, check_with};
    use crate::resp::Protocol;

    #[test]
    fn info_describes_a_command() {
        check(
            "COMMAND INFO memory|usage nosuch\nCOMMAND INFO config|get",
            r#"
            1)  1) "memory|usage"
                2) (integer) -3
                3) 1) readonly
                4) (integer) 2
                5) (integer) 2
                6) (integer) 1
                7) 1) @read
                   2) @slow
                8) (empty array)
                9) 1) 1) "flags"
                      2) 1) RO
                      3) "begin_search"
                      4) 1) "type"
                         2) "index"
                         3) "spec"
                         4) 1) "index"
                            2) (integer) 2
                      5) "find_keys"
                      6) 1) "type"
                         2) "range"
                         3) "spec"
                         4) 1) "lastkey"
                            2) (integer) 0
                            3) "keystep"
                            4) (integer) 1
                            5) "limit"
                            6) (integer) 0
               10) (empty array)
            2) (nil)
            1)  1) "config|get"
                2) (integer) -3
                3) 1) admin
                   2) noscript
                   3) loading
                   4) stale
                4) (integer) 0
                5) (integer) 0
                6) (integer) 0
                7) 1) @admin
                   2) @slow
                   3) @dangerous
                8) (empty array)
                9) (empty array)
               10) (empty array)
            "#,
        );
    }

    #[test]
    fn docs_in_both_protocols() {
        let mut harness = Harness::default();
        let docs = |harness: &mut Harness| {
            String::from_utf8(harness.raw(&[b"COMMAND", b"DOCS", b"nosuch", b"command|list"])).expect("text")
        };
        let resp2 = docs(&mut harness);
        assert!(resp2.starts_with("*2\r\n$12\r\ncommand|list\r\n*10\r\n$7\r\nsummary\r\n"), "{resp2}");
        let key = harness.client;
        harness.server.clients[key].protocol = Protocol::Resp3;
        let resp3 = docs(&mut harness);
        assert!(resp3.starts_with("%1\r\n$12\r\ncommand|list\r\n%5\r\n$7\r\nsummary\r\n"), "{resp3}");
        let argument = "*1\r\n%5\r\n$4\r\nname\r\n$8\r\nfilterby\r\n$4\r\ntype\r\n$5\r\noneof\r\n$5\r\ntoken\r\n$8\r\nFILTERBY\r\n\
                        $5\r\nflags\r\n~1\r\n+optional\r\n$9\r\narguments\r\n*3\r\n%4\r\n$4\r\nname\r\n$11\r\nmodule-name\r\n\
                        $4\r\ntype\r\n$6\r\nstring\r\n$12\r\ndisplay_text\r\n$11\r\nmodule-name\r\n$5\r\ntoken\r\n$6\r\nMODULE\r\n";
        assert!(resp3.contains(argument), "{resp3}");
    }

    #[test]
    fn every_reply_about_all_commands_is_well_formed() {
        let mut harness = Harness::default();
        for line in ["COMMAND", "COMMAND INFO", "COMMAND DOCS", "COMMAND LIST"] {
            // `run` asserts that there is exactly one reply.
            let text = harness.run(line);
            assert!(text.contains("command"), "{line}");
        }
    }

    #[test]
    fn lists_and_keys() {
        let mut harness = Harness::default();
        check_with(
            &mut harness,
            r#"
            COMMAND LIST FILTERBY PATTERN COMMAND|GET*
            COMMAND LIST FILTERBY ACLCAT nosuch
            COMMAND LIST FILTERBY MODULE json
            COMMAND LIST FILTERBY PATTERN
            COMMAND LIST nosuch
            COMMAND GETKEYS get k
            COMMAND GETKEYSANDFLAGS memory usage k
            COMMAND GETKEYS nosuch k
            COMMAND GETKEYS config nosuch k
            COMMAND GETKEYS config get k
            COMMAND GETKEYS get k k
            COMMAND GETKEYS get
            "#,
            r#"
            1) "command|getkeys"
            2) "command|getkeysandflags"
            (empty array)
            (empty array)
            (error) ERR syntax error
            (error) ERR syntax error
            1) "k"
            1) 1) "k"
               2) 1) RO
            (error) ERR Invalid command specified
            (error) ERR Invalid command specified
            (error) ERR The command has no key arguments
            (error) ERR Invalid number of arguments specified for command
            (error) ERR Invalid number of arguments specified for command
            "#,
        );
    }
}
