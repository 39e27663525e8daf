//! Every command: one file per group, the table entry beside its handler.

pub mod client;
pub mod command;
pub mod config;
pub mod connection;
pub mod expire;
pub mod hash;
pub mod help;
pub mod info;
pub mod keys;
pub mod list;
pub mod object;
pub mod scan;
mod scan_args;
pub mod set;
pub mod string;
pub mod testing;
pub mod transactions;

use crate::server::command::Spec;

/// The table of all commands.
pub const ALL: &[&[Spec]] = &[
    client::COMMANDS,
    command::COMMANDS,
    config::COMMANDS,
    connection::COMMANDS,
    expire::COMMANDS,
    hash::COMMANDS,
    info::COMMANDS,
    keys::COMMANDS,
    list::COMMANDS,
    object::COMMANDS,
    scan::COMMANDS,
    set::COMMANDS,
    string::COMMANDS,
    transactions::COMMANDS,
];
