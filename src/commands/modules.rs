//! MODULE: none can be loaded. What a server has as a module that this one is to stand in for is told as one.

use super::help::help;
use super::module_list::write_modules;
use crate::clients::ClientKey;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Arg, CmdResult, Docs, Flags, Group, Spec};

/// Table entries of the MODULE commands.
pub const COMMANDS: &[Spec] = &[MODULE];

const MODULE: Spec = Spec::container("module", -2, &[HELP, LIST, LOAD, LOADEX, UNLOAD]).docs(Docs {
    summary: "Commands about modules.",
    since: "4.0.0",
    complexity: "That of the subcommand.",
    group: Group::Server,
    ..Docs::NONE
});

const NOT_ALLOWED: &str = "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", you \
                           can run it from a local connection, otherwise you need to set this option in the \
                           configuration file, and then restart the server.";

/// Flags of what changes the modules.
const CHANGES: Flags = Flags::ADMIN.with(Flags::NOSCRIPT).with(Flags::NO_ASYNC_LOADING);

/// Refuses who may not change modules.
fn admit(server: &Server, key: ClientKey) -> Result<(), Error> {
    let local = server.clients[key].io.peer.is_local();
    let admitted = server.config.security.enable_module_command.admits(local);
    if admitted { Ok(()) } else { Err(Error::text(NOT_ALLOWED)) }
}

const LIST: Spec = Spec::admin("module|list", 2, list)
    .flags(Flags::ADMIN.with(Flags::NOSCRIPT))
    .tips(&["nondeterministic_output_order"])
    .docs(Docs {
        summary: "Lists what the server that this one stands in for has as modules.",
        since: "4.0.0",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// MODULE LIST → a map for each module.
fn list(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let version = server.config.limits.compat_version;
    Ok(write_modules(&mut server.reply(key), version))
}

const LOAD: Spec = Spec::admin("module|load", -3, load).flags(CHANGES).docs(Docs {
    summary: "Fails: modules are not supported.",
    since: "4.0.0",
    complexity: "O(1)",
    group: Group::Server,
    args: &[Arg::string("path"), Arg::string("arg").optional().multiple()],
    ..Docs::NONE
});

const LOADEX: Spec = Spec::admin("module|loadex", -3, load).flags(CHANGES).docs(Docs {
    summary: "Fails: modules are not supported.",
    since: "7.0.0",
    complexity: "O(1)",
    group: Group::Server,
    args: &[
        Arg::string("path"),
        Arg::block("configs", &[Arg::string("name"), Arg::string("value")])
            .token("CONFIG")
            .optional()
            .multiple_token(),
        Arg::string("arg").token("ARGS").optional().multiple(),
    ],
    ..Docs::NONE
});

/// MODULE LOAD path [argument …], MODULE LOADEX path [CONFIG name value …] [ARGS argument …] → an error.
fn load(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    admit(server, key)?;
    tracing::warn!("A module was to be loaded by MODULE: modules are not supported");
    Err(Error::text("ERR Error loading the extension. Please check the server logs."))
}

const UNLOAD: Spec = Spec::admin("module|unload", 3, unload).flags(CHANGES).docs(Docs {
    summary: "Fails: there are no modules.",
    since: "4.0.0",
    complexity: "O(1)",
    group: Group::Server,
    args: &[Arg::string("name")],
    ..Docs::NONE
});

/// MODULE UNLOAD name → an error.
fn unload(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    admit(server, key)?;
    Err(Error::text("ERR Error unloading module: no such module with that name"))
}

const HELP: Spec =
    Spec::admin("module|help", 2, module_help).flags(Flags::LOADING.with(Flags::STALE)).docs(Docs {
        summary: "Describes the subcommands.",
        since: "5.0.0",
        complexity: "O(1)",
        group: Group::Server,
        ..Docs::NONE
    });

/// MODULE HELP → descriptions of the subcommands.
fn module_help(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(help(
        &mut server.reply(key),
        "MODULE",
        &[
            ("LIST", "What the server that this one stands in for has as modules."),
            ("LOAD <path> [<arg> ...]", "Fails."),
            ("LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]", "Fails."),
            ("UNLOAD <name>", "Fails."),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check_with};
    use crate::config::Config;
    use crate::config::value::{CompatVersion, DebugAccess};

    #[test]
    fn redis_8_has_one() {
        let mut config = Config::default();
        config.limits.compat_version = CompatVersion::Redis8_2;
        let mut harness = Harness::new(config);
        assert_eq!(
            harness.raw(&[b"MODULE", b"LIST"]).escape_ascii().to_string(),
            "*1\\r\\n*8\\r\\n$4\\r\\nname\\r\\n$9\\r\\nvectorset\\r\\n$3\\r\\nver\\r\\n:1\\r\\n$4\\r\\npath\\r\\n$0\\r\\n\\r\\n\
             $4\\r\\nargs\\r\\n*0\\r\\n"
        );
        assert!(harness.run("HELLO").contains("vectorset"));
        assert!(harness.run("INFO modules").contains("module:name=vectorset,ver=1,api=1"));
    }

    #[test]
    fn there_are_none_and_none_can_be_loaded() {
        let mut refused = Harness::default();
        assert_eq!(refused.run("MODULE LIST"), "(empty array)");
        for change in ["MODULE LOAD x", "MODULE LOADEX x", "MODULE UNLOAD x"] {
            assert!(
                refused.run(change).starts_with("(error) ERR MODULE command not allowed. If the "),
                "{change}"
            );
        }
        let mut config = Config::default();
        config.security.enable_module_command = DebugAccess::Local;
        check_with(
            &mut Harness::new(config),
            "MODULE LOAD x
             MODULE LOADEX x ARGS y
             MODULE UNLOAD x
             MODULE x",
            "(error) ERR Error loading the extension. Please check the server logs.
             (error) ERR Error loading the extension. Please check the server logs.
             (error) ERR Error unloading module: no such module with that name
             (error) ERR unknown subcommand 'x'. Try MODULE HELP.",
        );
    }
}
