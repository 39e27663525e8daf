//! FCALL and FUNCTION: functions of libraries that are part of the data.

use super::help::help;
use crate::clients::ClientKey;
use crate::persistence::rdb;
use crate::resp::{Args, Error};
use crate::scripting::engine::Policy;
use crate::scripting::{self, Engine};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::server::execution::scripts::{Invocation, Program};
use crate::stdx::{glob, num};

/// Table entries of the function commands.
pub const COMMANDS: &[Spec] = &[FCALL, FCALL_RO, FUNCTION];

/// A script may run for long, and others are served meanwhile: nothing that was read before is left to be executed.
const FLAGS: Flags = Flags::NOSCRIPT
    .with(Flags::STALE)
    .with(Flags::SKIP_MONITOR)
    .with(Flags::NO_MANDATORY_KEYS)
    .with(Flags::BARRIER);
const WRITES: KeyFlags = KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE);
const READS: KeyFlags = KeyFlags::RO.with(KeyFlags::ACCESS);
const RW_NOTE: &str = "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE";
const RO_NOTE: &str = "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS";

const DOCS: Docs = Docs { since: "7.0.0", complexity: "O(1)", group: Group::Scripting, ..Docs::NONE };

const CALL_DOCS: Docs = Docs {
    complexity: "Depends on the function that is executed.",
    args: &[
        Arg::string("function"),
        Arg::integer("numkeys"),
        Arg::key("key").optional().multiple(),
        Arg::string("arg").optional().multiple(),
    ],
    ..DOCS
};

const FCALL: Spec = Spec::admin("fcall", -3, fcall)
    .flags(FLAGS.with(Flags::MAY_REPLICATE))
    .acl(Acl::SCRIPTING)
    .keys(&[KeySpec::at(2).count(0, 1, 1).flags(WRITES).notes(RW_NOTE)])
    .declares(declared)
    .docs(Docs { summary: "Runs a function.", ..CALL_DOCS });

/// FCALL function numkeys [key …] [arg …] → what the function returns.
fn fcall(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    run(server, key, args, false)
}

const FCALL_RO: Spec = Spec::admin("fcall_ro", -3, fcall_ro)
    .flags(FLAGS.with(Flags::READONLY))
    .acl(Acl::SCRIPTING)
    .keys(&[KeySpec::at(2).count(0, 1, 1).flags(READS).notes(RO_NOTE)])
    .declares(declared)
    .docs(Docs { summary: "Runs a function that writes nothing.", ..CALL_DOCS });

/// FCALL_RO function numkeys [key …] [arg …] → what the function returns.
fn fcall_ro(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    run(server, key, args, true)
}

fn run(server: &mut Server, key: ClientKey, args: Args<'_>, read_only: bool) -> CmdResult {
    server.show_script(key, &args);
    let function = server.scripts.engine().function(args.at(1));
    let function = function.ok_or_else(|| Error::text("ERR Function not found"))?;
    let count = num::parse_i64(args.at(2)).ok_or_else(|| Error::text("ERR Bad number of keys provided"))?;
    let count = match usize::try_from(count) {
        Ok(count) if count > args.len() - 3 => {
            return Err(Error::text("ERR Number of keys can't be greater than number of args"));
        }
        Ok(count) => count,
        Err(_) => return Err(Error::text("ERR Number of keys can't be negative")),
    };
    let call = Invocation {
        args,
        keys: args.range(3..3 + count),
        argv: args.rest(3 + count),
        read_only,
        debug: false,
    };
    server.run_program(key, Program::Function(function), call)
}

/// What the function declares that a request names.
fn declared(engine: Option<&Engine>, args: &Args<'_>) -> Option<scripting::Flags> {
    let engine = engine?;
    Some(engine.libraries().function(engine.function(args.get(1)?)?)?.flags)
}

const FUNCTION: Spec = Spec::container(
    "function",
    -2,
    &[
        FUNCTION_DELETE,
        FUNCTION_DUMP,
        FUNCTION_FLUSH,
        FUNCTION_HELP,
        FUNCTION_KILL,
        FUNCTION_LIST,
        FUNCTION_LOAD,
        FUNCTION_RESTORE,
        FUNCTION_STATS,
    ],
)
.docs(Docs { summary: "Commands about functions.", complexity: "That of the subcommand.", ..DOCS });

const WRITE: Flags = Flags::NOSCRIPT.with(Flags::WRITE);
const ON_ALL: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

const FUNCTION_LOAD: Spec = Spec::admin("function|load", -3, function_load)
    .flags(WRITE.with(Flags::DENYOOM))
    .acl(Acl::SCRIPTING)
    .tips(ON_ALL)
    .docs(Docs {
        summary: "Adds a library.",
        complexity: "O(1), and what the library does while it is loaded.",
        args: &[Arg::word("replace", "REPLACE").optional(), Arg::string("function-code")],
        ..DOCS
    });

/// FUNCTION LOAD [REPLACE] code → the name of the library.
fn function_load(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let last = args.len() - 1;
    for option in 2..last {
        if !args.is(option, "REPLACE") {
            return Err(Error::quoting(&[b"ERR Unknown option given: ", args.at(option)]));
        }
    }
    // What was loaded once is loaded again, however long it takes.
    let timed = !server.execution.origin.admits_everything();
    let name = server.scripts.engine().load_library(args.at(last), last > 2, timed)?;
    server.keyspace.ledger.count(1);
    Ok(server.reply(key).bulk(&name))
}

const FUNCTION_DELETE: Spec = Spec::admin("function|delete", 3, function_delete)
    .flags(WRITE)
    .acl(Acl::SCRIPTING)
    .tips(ON_ALL)
    .docs(Docs { summary: "Deletes a library.", args: &[Arg::string("library-name")], ..DOCS });

/// FUNCTION DELETE library → OK.
fn function_delete(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if !server.scripts.engine().delete_library(args.at(2)) {
        return Err(Error::text("ERR Library not found"));
    }
    server.keyspace.ledger.count(1);
    Ok(server.reply(key).ok())
}

const FUNCTION_FLUSH: Spec =
    Spec::admin("function|flush", -2, function_flush).flags(WRITE).acl(Acl::SCRIPTING).tips(ON_ALL).docs(
        Docs {
            summary: "Deletes all libraries.",
            complexity: "O(N) for N functions.",
            args: &[Arg::one_of("flush-type", &[Arg::word("async", "ASYNC"), Arg::word("sync", "SYNC")])
                .optional()],
            ..DOCS
        },
    );

/// The number of arguments does not fit a subcommand.
fn subcommand_arity(args: &Args<'_>) -> Error {
    Error::quoting(&[
        b"ERR unknown subcommand or wrong number of arguments for '",
        args.at(1),
        b"'. Try FUNCTION HELP.",
    ])
}

/// FUNCTION FLUSH [ASYNC | SYNC] → OK. A heap of Lua can be freed by nobody but its own thread.
fn function_flush(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if args.len() > 3 {
        return Err(subcommand_arity(&args));
    }
    if args.len() == 3 && !args.is(2, "SYNC") && !args.is(2, "ASYNC") {
        return Err(Error::text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    server.scripts.engine().flush_libraries();
    server.keyspace.ledger.count(1);
    Ok(server.reply(key).ok())
}

const FUNCTION_LIST: Spec = Spec::admin("function|list", -2, function_list)
    .flags(Flags::NOSCRIPT)
    .acl(Acl::SCRIPTING)
    .tips(&["nondeterministic_output_order"])
    .docs(Docs {
        summary: "Lists libraries and their functions.",
        complexity: "O(N) for N functions.",
        args: &[
            Arg::string("library-name-pattern").token("LIBRARYNAME").optional(),
            Arg::word("withcode", "WITHCODE").optional(),
        ],
        ..DOCS
    });

/// FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE] → a map for each library.
fn function_list(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let (mut pattern, mut with_code) = (None, false);
    let mut i = 2;
    while i < args.len() {
        if !with_code && args.is(i, "WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && args.is(i, "LIBRARYNAME") {
            i += 1;
            pattern = args.get(i);
            if pattern.is_none() {
                return Err(Error::text("ERR library name argument was not given"));
            }
        } else {
            return Err(Error::quoting(&[b"ERR Unknown argument ", args.at(i)]));
        }
        i += 1;
    }
    let mut out = Vec::new();
    let mut reply = crate::resp::Reply::new(&mut out, server.clients[key].protocol);
    let libraries = server.scripts.engine().libraries();
    let shown = |name: &[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name));
    let at = reply.defer();
    let mut count = 0;
    for library in libraries.iter().filter(|library| shown(&library.name)) {
        count += 1;
        reply.map(3 + usize::from(with_code));
        reply.bulk(b"library_name");
        reply.bulk(&library.name);
        reply.bulk(b"engine");
        reply.bulk(b"LUA");
        reply.bulk(b"functions");
        reply.array(libraries.functions(library).count());
        for function in libraries.functions(library) {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(&function.name);
            reply.bulk(b"description");
            reply.bulk_or_null(function.description.as_deref());
            reply.bulk(b"flags");
            reply.set(function.flags.names().count());
            for name in function.flags.names() {
                reply.simple(name);
            }
        }
        if with_code {
            reply.bulk(b"library_code");
            reply.bulk(&library.source);
        }
    }
    reply.end_array(at, count);
    Ok(server.reply(key).raw(&out))
}

const FUNCTION_STATS: Spec = Spec::admin("function|stats", 2, function_stats)
    .flags(Flags::NOSCRIPT.with(Flags::ALLOW_BUSY))
    .acl(Acl::SCRIPTING)
    .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
    .docs(Docs { summary: "Tells which function runs, and how many there are.", ..DOCS });

/// FUNCTION STATS → the function that runs, and numbers of libraries and functions.
fn function_stats(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    if server.scripts.running().is_some_and(|running| !running.is_function) {
        server.no_script_runs()?;
    }
    let figures = server.scripts.figures();
    let mut out = Vec::new();
    let mut reply = crate::resp::Reply::new(&mut out, server.clients[key].protocol);
    reply.map(2);
    reply.bulk(b"running_script");
    let running = server.scripts.running();
    match running.and_then(|running| Some((running, running.slow.as_ref()?))) {
        None => reply.null(),
        Some((running, slow)) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(&slow.name);
            reply.bulk(b"command");
            reply.bulks(&slow.request);
            reply.bulk(b"duration_ms");
            reply.int(running.lasts_ms(server) as i64)
        }
    };
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.int(figures.libraries as i64);
    reply.bulk(b"functions_count");
    reply.int(figures.functions as i64);
    Ok(server.reply(key).raw(&out))
}

const FUNCTION_KILL: Spec = Spec::admin("function|kill", 2, function_kill)
    .flags(Flags::NOSCRIPT.with(Flags::ALLOW_BUSY))
    .acl(Acl::SCRIPTING)
    .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
    .docs(Docs { summary: "Ends the function that runs.", ..DOCS });

/// FUNCTION KILL → OK, if a function runs that has written nothing.
fn function_kill(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.kill_script(true)?;
    Ok(server.reply(key).ok())
}

const FUNCTION_DUMP: Spec =
    Spec::admin("function|dump", 2, function_dump).flags(Flags::NOSCRIPT).acl(Acl::SCRIPTING).docs(Docs {
        summary: "Gives all libraries as bytes.",
        complexity: "O(N) for N bytes of libraries.",
        ..DOCS
    });

/// FUNCTION DUMP → the libraries in serialized form, with version and checksum.
fn function_dump(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let version = server.save_options().version;
    let compress = server.config.persistence.rdb_compression;
    let payload = rdb::dump_libraries(server.scripts.engine().library_texts(), version, compress);
    Ok(server.reply(key).bulk(&payload))
}

const FUNCTION_RESTORE: Spec = Spec::admin("function|restore", -3, function_restore)
    .flags(WRITE.with(Flags::DENYOOM))
    .acl(Acl::SCRIPTING)
    .tips(ON_ALL)
    .docs(Docs {
        summary: "Adds the libraries of a dump.",
        complexity: "O(N) for N functions.",
        args: &[
            Arg::string("serialized-value"),
            Arg::one_of(
                "policy",
                &[
                    Arg::word("flush", "FLUSH"),
                    Arg::word("append", "APPEND"),
                    Arg::word("replace", "REPLACE"),
                ],
            )
            .optional(),
        ],
        ..DOCS
    });

/// FUNCTION RESTORE payload [FLUSH | APPEND | REPLACE] → OK: all libraries of the dump, or none.
fn function_restore(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if args.len() > 4 {
        return Err(subcommand_arity(&args));
    }
    let policy = match args.get(3) {
        None => Policy::Append,
        Some(_) if args.is(3, "APPEND") => Policy::Append,
        Some(_) if args.is(3, "REPLACE") => Policy::Replace,
        Some(_) if args.is(3, "FLUSH") => Policy::Flush,
        Some(_) => {
            return Err(Error::text(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
    };
    let checksum = !server.persistence.skip_checksums;
    let texts = rdb::restore_libraries(args.at(2), checksum).map_err(|error| match error {
        rdb::dump::RestoreError::Trailer => Error::text("ERR DUMP payload version or checksum are wrong"),
        rdb::dump::RestoreError::NoLibrary => Error::text("ERR given type is not a function"),
        rdb::dump::RestoreError::Value(_) => Error::text("ERR failed loading functions payload"),
    })?;
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    server.scripts.engine().restore_libraries(&texts, policy)?;
    server.keyspace.ledger.count(1);
    Ok(server.reply(key).ok())
}

const FUNCTION_HELP: Spec = Spec::admin("function|help", 2, function_help)
    .flags(Flags::LOADING.with(Flags::STALE))
    .acl(Acl::SCRIPTING)
    .docs(Docs { summary: "Describes the subcommands.", ..DOCS });

/// FUNCTION HELP → descriptions of the subcommands.
fn function_help(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(help(
        &mut server.reply(key),
        "FUNCTION",
        &[
            ("LOAD [REPLACE] <FUNCTION CODE>", "Add a library, whose first line names it."),
            ("DELETE <LIBRARY NAME>", "Delete a library."),
            (
                "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
                "List libraries: name, engine, functions, and the code if WITHCODE is given.",
            ),
            (
                "STATS",
                "Tell which function runs, by which command, and for how many milliseconds.\n\
                 Numbers of libraries and functions follow.",
            ),
            ("KILL", "End the function that runs, if it has written nothing."),
            ("FLUSH [ASYNC|SYNC]", "Delete all libraries."),
            ("DUMP", "Give all libraries as bytes that RESTORE understands."),
            (
                "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
                "Add the libraries of a dump. What happens to those that are here:\n\
                 * FLUSH: all are deleted.\n\
                 * APPEND: they stay; a library of the same name is an error. The default.\n\
                 * REPLACE: libraries of the same name are replaced.",
            ),
        ],
    ))
}
