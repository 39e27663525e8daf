//! EVAL and its relatives, and SCRIPT: Lua scripts that clients send.

use super::help::help;
use crate::clients::ClientKey;
use crate::resp::{Args, Error};
use crate::scripting::{self, Engine, shebang};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::server::execution::scripts::{Invocation, Program};
use crate::stdx::num;

/// Table entries of the script commands.
pub const COMMANDS: &[Spec] = &[EVAL, EVAL_RO, EVALSHA, EVALSHA_RO, SCRIPT];

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

const DOCS: Docs = Docs {
    since: "2.6.0",
    complexity: "Depends on the script that is executed.",
    group: Group::Scripting,
    ..Docs::NONE
};

const BY_TEXT: &[Arg] = &[
    Arg::string("script"),
    Arg::integer("numkeys"),
    Arg::key("key").optional().multiple(),
    Arg::string("arg").optional().multiple(),
];
const BY_SHA: &[Arg] = &[
    Arg::string("sha1"),
    Arg::integer("numkeys"),
    Arg::key("key").optional().multiple(),
    Arg::string("arg").optional().multiple(),
];

const EVAL: Spec = Spec::admin("eval", -3, eval)
    .flags(FLAGS.with(Flags::MAY_REPLICATE))
    .acl(Acl::SCRIPTING)
    .keys(&[KeySpec::at(2).count(0, 1, 1).flags(WRITES).notes(RW_NOTE)])
    .declares(declared_by_text)
    .docs(Docs { summary: "Runs a Lua script.", args: BY_TEXT, ..DOCS });

/// EVAL script numkeys [key …] [arg …] → what the script returns.
fn eval(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    run_text(server, key, args, false)
}

const EVAL_RO: Spec = Spec::admin("eval_ro", -3, eval_ro)
    .flags(FLAGS.with(Flags::READONLY))
    .acl(Acl::SCRIPTING)
    .keys(&[KeySpec::at(2).count(0, 1, 1).flags(READS).notes(RO_NOTE)])
    .declares(declared_by_text)
    .docs(Docs { summary: "Runs a Lua script that writes nothing.", since: "7.0.0", args: BY_TEXT, ..DOCS });

/// EVAL_RO script numkeys [key …] [arg …] → what the script returns.
fn eval_ro(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    run_text(server, key, args, true)
}

const EVALSHA: Spec = Spec::admin("evalsha", -3, evalsha)
    .flags(FLAGS.with(Flags::MAY_REPLICATE))
    .acl(Acl::SCRIPTING)
    .keys(&[KeySpec::at(2).count(0, 1, 1).flags(WRITES)])
    .declares(declared_by_sha)
    .docs(Docs { summary: "Runs a Lua script that the server has, by its SHA-1.", args: BY_SHA, ..DOCS });

/// EVALSHA sha1 numkeys [key …] [arg …] → what the script returns.
fn evalsha(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    run_sha(server, key, args, false)
}

const EVALSHA_RO: Spec = Spec::admin("evalsha_ro", -3, evalsha_ro)
    .flags(FLAGS.with(Flags::READONLY))
    .acl(Acl::SCRIPTING)
    .keys(&[KeySpec::at(2).count(0, 1, 1).flags(READS)])
    .declares(declared_by_sha)
    .docs(Docs {
        summary: "Runs a Lua script that the server has and that writes nothing, by its SHA-1.",
        since: "7.0.0",
        args: BY_SHA,
        ..DOCS
    });

/// EVALSHA_RO sha1 numkeys [key …] [arg …] → what the script returns.
fn evalsha_ro(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    run_sha(server, key, args, true)
}

fn run_text(server: &mut Server, key: ClientKey, args: Args<'_>, read_only: bool) -> CmdResult {
    server.show_script(key, &args);
    let call = invocation(args, read_only)?;
    let script = server.scripts.engine().prepare(args.at(1))?;
    if let Some(mode) = server.clients[key].script_debug
        && server.execution.depth == 0
    {
        return server.debug_script(key, mode, script, call);
    }
    server.run_program(key, Program::Script(script), call)
}

fn run_sha(server: &mut Server, key: ClientKey, args: Args<'_>, read_only: bool) -> CmdResult {
    let compat = server.config.limits.compat_version;
    let no_script = || {
        Error::text(match compat.is_valkey() {
            true => "NOSCRIPT No matching script.",
            false => "NOSCRIPT No matching script. Please use EVAL.",
        })
    };
    server.show_script(key, &args);
    if args.at(1).len() != 40 {
        return Err(no_script());
    }
    if server.clients[key].script_debug.is_some() {
        return Err(Error::text("ERR Please use EVAL instead of EVALSHA for debugging"));
    }
    let call = invocation(args, read_only)?;
    let script = server.scripts.engine().find(args.at(1)).ok_or_else(no_script)?;
    server.run_program(key, Program::Script(script), call)
}

/// Takes a request apart.
fn invocation(args: Args<'_>, read_only: bool) -> Result<Invocation<'_>, Error> {
    let count = num::parse_i64(args.at(2)).ok_or(Error::NotInteger)?;
    let rest = args.len() - 3;
    match usize::try_from(count) {
        Ok(count) if count > rest => {
            Err(Error::text("ERR Number of keys can't be greater than number of args"))
        }
        Ok(count) => Ok(Invocation {
            args,
            keys: args.range(3..3 + count),
            argv: args.rest(3 + count),
            read_only,
            debug: false,
        }),
        Err(_) => Err(Error::text("ERR Number of keys can't be negative")),
    }
}

/// What a request's script declares.
fn declared_by_text(_: Option<&Engine>, args: &Args<'_>) -> Option<scripting::Flags> {
    shebang::script(args.get(1)?).ok().map(|(flags, _)| flags)
}

/// What the script declares that a request names.
fn declared_by_sha(engine: Option<&Engine>, args: &Args<'_>) -> Option<scripting::Flags> {
    let scripts = engine?.scripts();
    Some(scripts.get(scripts.find(args.get(1)?)?)?.flags)
}

const SCRIPT: Spec = Spec::container(
    "script",
    -2,
    &[SCRIPT_DEBUG, SCRIPT_EXISTS, SCRIPT_FLUSH, SCRIPT_HELP, SCRIPT_KILL, SCRIPT_LOAD, SCRIPT_SHOW],
)
.docs(Docs { summary: "Commands about Lua scripts.", complexity: "That of the subcommand.", ..DOCS });

const SCRIPT_LOAD: Spec = Spec::admin("script|load", 3, script_load)
    .flags(Flags::NOSCRIPT.with(Flags::STALE))
    .acl(Acl::SCRIPTING)
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .docs(Docs {
        summary: "Keeps a Lua script without running it.",
        complexity: "O(N) for a script of N bytes.",
        args: &[Arg::string("script")],
        ..DOCS
    });

/// SCRIPT LOAD script → its SHA-1.
fn script_load(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let sha = server.scripts.engine().load(args.at(2))?;
    Ok(server.reply(key).bulk(&sha))
}

const SCRIPT_EXISTS: Spec = Spec::admin("script|exists", -3, script_exists)
    .flags(Flags::NOSCRIPT.with(Flags::STALE))
    .acl(Acl::SCRIPTING)
    .tips(&["request_policy:all_shards", "response_policy:agg_logical_and"])
    .docs(Docs {
        summary: "Tells which scripts the server has.",
        complexity: "O(N) for N names.",
        args: &[Arg::string("sha1").multiple()],
        ..DOCS
    });

/// SCRIPT EXISTS sha1 [sha1 …] → for each 1 or 0.
fn script_exists(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let names = args.rest(2);
    let scripts = server.scripts.engine().scripts();
    let found: Vec<bool> = names.iter().map(|sha| scripts.find(sha).is_some()).collect();
    let mut reply = server.reply(key);
    let mut replied = reply.array(found.len());
    for found in found {
        replied = reply.int(i64::from(found));
    }
    Ok(replied)
}

const SCRIPT_FLUSH: Spec = Spec::admin("script|flush", -2, script_flush)
    .flags(Flags::NOSCRIPT.with(Flags::STALE))
    .acl(Acl::SCRIPTING)
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .docs(Docs {
        summary: "Forgets all Lua scripts.",
        complexity: "O(N) for N scripts.",
        history: &[("6.2.0", "Added the `ASYNC` and `SYNC` flushing mode modifiers.")],
        args: &[Arg::one_of("flush-type", &[Arg::word("async", "ASYNC"), Arg::word("sync", "SYNC")])
            .since("6.2.0")
            .optional()],
        ..DOCS
    });

/// SCRIPT FLUSH [ASYNC | SYNC] → OK. A heap of Lua can be freed by nobody but its own thread.
fn script_flush(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let known = args.len() == 2 || args.len() == 3 && (args.is(2, "SYNC") || args.is(2, "ASYNC"));
    if !known {
        return Err(Error::text("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    server.scripts.engine().flush_scripts();
    Ok(server.reply(key).ok())
}

const SCRIPT_KILL: Spec = Spec::admin("script|kill", 2, script_kill)
    .flags(Flags::NOSCRIPT.with(Flags::ALLOW_BUSY))
    .acl(Acl::SCRIPTING)
    .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
    .docs(Docs { summary: "Ends the script that runs.", complexity: "O(1)", ..DOCS });

/// SCRIPT KILL → OK, if a script runs that has written nothing.
fn script_kill(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.kill_script(false)?;
    Ok(server.reply(key).ok())
}

const SCRIPT_SHOW: Spec = Spec::admin("script|show", 3, script_show)
    .flags(Flags::NOSCRIPT.with(Flags::STALE))
    .acl(Acl::SCRIPTING)
    .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
    .docs(Docs {
        summary: "Shows the text of a script.",
        since: "8.0.0",
        complexity: "O(1)",
        args: &[Arg::string("sha1")],
        ..DOCS
    });

/// SCRIPT SHOW sha1 → the text of the script.
fn script_show(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let scripts = server.scripts.engine().scripts();
    let script = scripts.find(args.at(2)).and_then(|slot| scripts.get(slot));
    let text = script.ok_or_else(|| Error::text("NOSCRIPT No matching script."))?.source.clone();
    Ok(server.reply(key).bulk(&text))
}

const SCRIPT_DEBUG: Spec =
    Spec::admin("script|debug", 3, script_debug).flags(Flags::NOSCRIPT).acl(Acl::SCRIPTING).docs(Docs {
        summary: "Sets how scripts of this connection are debugged.",
        since: "3.2.0",
        complexity: "O(1)",
        args: &[Arg::one_of(
            "mode",
            &[Arg::word("yes", "YES"), Arg::word("sync", "SYNC"), Arg::word("no", "NO")],
        )],
        ..DOCS
    });

/// SCRIPT DEBUG YES | SYNC | NO → OK.
fn script_debug(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let mode = match () {
        () if args.is(2, "NO") => None,
        () if args.is(2, "YES") => Some(crate::clients::client::ScriptDebug::Forked),
        () if args.is(2, "SYNC") => Some(crate::clients::client::ScriptDebug::Sync),
        () => return Err(Error::text("ERR Use SCRIPT DEBUG YES/SYNC/NO")),
    };
    let client = &mut server.clients[key];
    if mode.is_some() && !client.io.output.is_empty() {
        return Err(Error::text("ERR SCRIPT DEBUG must be called outside a pipeline"));
    }
    client.script_debug = mode;
    Ok(server.reply(key).ok())
}

const SCRIPT_HELP: Spec = Spec::admin("script|help", 2, script_help)
    .flags(Flags::LOADING.with(Flags::STALE))
    .acl(Acl::SCRIPTING)
    .docs(Docs { summary: "Describes the subcommands.", since: "5.0.0", complexity: "O(1)", ..DOCS });

/// SCRIPT HELP → descriptions of the subcommands.
fn script_help(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(help(
        &mut server.reply(key),
        "SCRIPT",
        &[
            ("DEBUG (YES|SYNC|NO)", "Set whether the scripts of this connection are debugged."),
            ("EXISTS <sha1> [<sha1> ...]", "Tell which of these scripts the server has."),
            ("FLUSH [ASYNC|SYNC]", "Forget all scripts that are not running."),
            ("KILL", "End the script that runs, if it has written nothing."),
            ("LOAD <script>", "Keep a script without running it."),
            ("SHOW <sha1>", "Show the text of a script."),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::check;

    #[test]
    fn scripts_run_commands_and_return_values() {
        check(
            r#"
            EVAL "return 1" 0
            EVAL "redis.call('set', KEYS[1], ARGV[1]) return redis.call('get', KEYS[1])" 1 k hello
            EVAL "return {1, 'two', {ok='fine'}, false, 3.9}" 0
            EVAL "return redis.call('lrange', KEYS[1], 0, -1)" 1 k
            EVAL "return redis.pcall('nosuch')" 0
            EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
            EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
            SCRIPT LOAD "return 7"
            EVALSHA 59B6AB2FBE0EE4B25733DE0F62E6CDA4899EF8E9 0
            SCRIPT FLUSH
            SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db
            EVAL "return 1" 1
            EVAL "return 1" -1
            EVAL "return 1" x
            EVAL "return redis.call('eval', 'return 1', 0)" 0
            EVAL_RO "return redis.call('set', 'a', 1)" 0
            "#,
            r#"
            (integer) 1
            "hello"
            1) (integer) 1
            2) "two"
            3) fine
            4) (nil)
            5) (integer) 3
            (error) WRONGTYPE Operation against a key holding the wrong kind of value script: 92021e3f1cf7f46eb11fbfcede94c32d9b265b32, on @user_script:1.
            (error) ERR Unknown Redis command called from script
            (integer) 1
            (error) NOSCRIPT No matching script. Please use EVAL.
            "59b6ab2fbe0ee4b25733de0f62e6cda4899ef8e9"
            (integer) 7
            OK
            1) (integer) 0
            (error) ERR Number of keys can't be greater than number of args
            (error) ERR Number of keys can't be negative
            (error) ERR value is not an integer or out of range
            (error) ERR This Redis command is not allowed from script script: 310efa61ec0f2edf6c2e5b4007966dd555e75546, on @user_script:1.
            (error) ERR Write commands are not allowed from read-only scripts. script: 077e58c8635d4a7e55d5d5644be12af800cc5bd7, on @user_script:1.
            "#,
        );
    }
}
