//! Every command: one file per group, the table entry beside its handler.

pub mod command;
pub mod config;
pub mod connection;
pub mod debug;
pub mod info;
pub mod server;
pub mod string;
pub mod testing;

use crate::resp::{Replied, Reply};
use crate::server::command::Spec;

/// The table of all commands.
pub const ALL: &[&[Spec]] = &[command::COMMANDS, config::COMMANDS, connection::COMMANDS, debug::COMMANDS, info::COMMANDS, server::COMMANDS, string::COMMANDS];

/// The answer of a HELP subcommand: a heading, then each form with what it does in the line below.
pub fn help(reply: &mut Reply<'_>, container: &str, forms: &[(&str, &str)]) -> Replied {
    let mut lines = vec![format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
    for (form, what) in forms.iter().chain(&[("HELP", "Show this text.")]) {
        lines.push(form.to_string());
        lines.extend(what.lines().map(|line| format!("    {line}")));
    }
    reply.lines(&lines)
}
