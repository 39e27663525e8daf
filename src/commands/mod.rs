//! All commands: one file per group, with the table entry beside each handler.
#![warn(missing_docs)]

pub mod absent;
pub mod acl;
pub mod bitmap;
pub mod bless;
pub mod client;
mod client_filter;
pub mod client_pause;
pub mod client_tracking;
pub mod cluster;
pub mod command;
pub mod config;
pub mod connection;
pub mod debug;
mod debug_cluster;
pub mod dump;
#[cfg(test)]
mod effects;
pub mod expire;
pub mod expiry;
pub mod functions;
pub mod geo;
pub mod hash;
pub mod hash_ttl;
pub mod help;
pub mod hotkeys;
pub mod hyperloglog;
pub mod increx;
pub mod info;
pub mod keys;
pub mod latency;
pub mod list;
pub mod list_blocking;
pub mod list_move;
pub mod migrate;
mod module_list;
pub mod modules;
pub mod monitor;
pub mod object;
pub mod persistence;
pub mod prefix;
pub mod pubsub;
pub mod replication;
pub mod scan;
pub mod scan_args;
pub mod scripting;
pub mod sentinel;
pub mod sentinel_admin;
pub mod server;
pub mod set;
pub mod set_count;
pub mod slowlog;
pub mod sort;
pub mod store;
pub mod stream;
pub mod stream_groups;
pub mod stream_info;
pub mod stream_pending;
pub mod stream_read;
#[cfg(test)]
mod stream_tests;
pub mod string;
pub mod string_compare;
#[cfg(test)]
pub mod testing;
pub mod throttle;
pub mod timeout;
pub mod transactions;
pub mod vector;
mod vector_args;
pub mod vector_read;
pub mod vector_search;
#[cfg(test)]
mod vector_tests;
pub mod window;
pub mod zset;
pub mod zset_algebra;
pub mod zset_blocking;
pub mod zset_move;
pub mod zset_range;

use crate::server::command::Spec;

/// Table entries of all commands.
pub const ALL: &[&[Spec]] = &[
    acl::COMMANDS,
    bitmap::COMMANDS,
    bless::COMMANDS,
    client::COMMANDS,
    cluster::COMMANDS,
    command::COMMANDS,
    config::COMMANDS,
    connection::COMMANDS,
    debug::COMMANDS,
    dump::COMMANDS,
    expire::COMMANDS,
    functions::COMMANDS,
    geo::COMMANDS,
    hash::COMMANDS,
    hash_ttl::COMMANDS,
    hotkeys::COMMANDS,
    hyperloglog::COMMANDS,
    increx::COMMANDS,
    info::COMMANDS,
    keys::COMMANDS,
    latency::COMMANDS,
    list::COMMANDS,
    list_blocking::COMMANDS,
    list_move::COMMANDS,
    migrate::COMMANDS,
    modules::COMMANDS,
    monitor::COMMANDS,
    object::COMMANDS,
    persistence::COMMANDS,
    prefix::COMMANDS,
    pubsub::COMMANDS,
    scan::COMMANDS,
    replication::COMMANDS,
    scripting::COMMANDS,
    server::COMMANDS,
    set::COMMANDS,
    set_count::COMMANDS,
    slowlog::COMMANDS,
    sort::COMMANDS,
    stream::COMMANDS,
    stream_groups::COMMANDS,
    stream_info::COMMANDS,
    stream_pending::COMMANDS,
    stream_read::COMMANDS,
    string::COMMANDS,
    string_compare::COMMANDS,
    throttle::COMMANDS,
    transactions::COMMANDS,
    vector::COMMANDS,
    vector_read::COMMANDS,
    vector_search::COMMANDS,
    zset::COMMANDS,
    zset_algebra::COMMANDS,
    zset_blocking::COMMANDS,
    zset_move::COMMANDS,
    zset_range::COMMANDS,
];

/// Table entries with which a server is created: all commands, and the names that only related servers have.
pub fn known() -> Vec<&'static [Spec]> {
    [ALL, &[absent::COMMANDS]].concat()
}
