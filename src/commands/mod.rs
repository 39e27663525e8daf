//! Every command: one file per group, the table entry beside its handler.

pub mod connection;
pub mod string;
pub mod testing;
pub mod zset;
pub mod zset_algebra;
pub mod zset_range;

use crate::server::command::Spec;

/// The table of all commands.
pub const ALL: &[&[Spec]] = &[connection::COMMANDS, string::COMMANDS, zset::COMMANDS, zset_algebra::COMMANDS, zset_range::COMMANDS];
