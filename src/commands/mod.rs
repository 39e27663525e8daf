//! Every command: one file per group, the table entry beside its handler.

pub mod bitmap;
pub mod connection;
pub mod expiry;
pub mod string;
pub mod testing;
pub mod window;

use crate::server::command::Spec;

/// The table of all commands.
pub const ALL: &[&[Spec]] = &[bitmap::COMMANDS, connection::COMMANDS, string::COMMANDS];
