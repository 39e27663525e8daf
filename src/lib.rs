//! Spinel: a Redis-compatible in-memory key-value server. This page is the map.
//!
//! # The rooms
//!
//! The modules below are rooms, declared from the ground up. **A room imports only from lower layers**;
//! `tests/tidy.rs` reads every path and fails with the line that breaks the rule. What a room does *not* know
//! matters as much as what it does:
//!
//! | layer | room | knows | never knows |
//! |---|---|---|---|
//! | 0 | [`stdx`] | what std lacks: numbers as text, clocks, patterns, the allocator | that there is a server |
//! | 1 | [`structures`] | the layout of memory | keys, expiry, configuration |
//! | 2 | [`resp`] | the wire format | sockets, commands; no bytes make it panic, however they are split |
//! | 2 | [`background`] | three threads with queues of jobs | what a job means |
//! | 2 | [`stats`] | counters, histograms, the log, lists of slow commands and long waits | who asks for them |
//! | 3 | [`types`] | encodings, and when a value changes from one to the other | keys, expiry, clients, replies |
//! | 4 | [`keyspace`] | databases, expiry, a ledger of what changed | clients and replies: it records a change and tells nobody |
//! | 5 | [`acl`] | users, rules, commands by number | clients, how a command is run |
//! | 5 | [`net`] | sockets, buffers, readiness, signals | commands, keys |
//! | 5 | [`persistence`] | files and their formats | how to run a command, when a snapshot is due |
//! | 6 | [`config`] | one table of parameters over plain structs | how a change takes effect: it returns *what* changed |
//! | 7 | [`clients`] | who is connected, and what each has chosen | how a command is run |
//! | 8 | [`server`] | all of the above | the name of any command: what is special about one is a flag in its entry |
//! | 9 | [`commands`] | arguments and replies; the table entry stands beside the handler | each other |
//!
//! # A command's journey
//!
//! `SADD colours red` arrives, and go-to-definition follows it:
//!
//! 1. `net::poll` tells that a socket is readable; `server::event_loop` receives once into its input
//!    buffer (`net::io`).
//! 2. `resp::request` finds the arguments: spans of the bytes as they arrived. Nothing is copied.
//! 3. `server::execution::call` gathers requests of all ready clients, prefetches the memory their keys lie in and the
//!    way to what they look for there (`types::ahead`), and runs them in order.
//! 4. `server::execution::admission` decides by one AND whether anything stands in the way: authentication, MULTI,
//!    memory.
//! 5. `server::execution::call` takes the server apart into a `Ctx`: arguments, database, reply, limits. The
//!    handler in `commands::set` gets just that.
//! 6. `keyspace::db` finds the set, `types::set` adds the member and changes encoding if need be,
//!    `structures` moves the bytes.
//! 7. The handler reports the change once, to the ledger, and writes the reply through `resp::reply`
//!    straight into the client's output.
//! 8. `server::execution::propagate` reads the ledger and tells whoever must know: transactions that watch the key, clients with
//!    a copy of it, subscribers, clients that wait for it, and the append-only file.
//! 9. Before the loop sleeps, the append-only file is written; then every client with output is sent it, with one
//!    system call each.
//!
//! There is no second way: a transaction, a client that waited, a file being loaded, and whatever else runs commands,
//! takes the steps from 4 on. What is being executed at a moment (how deep inside other commands, where it comes from,
//! what it passes on) is one value, [`server::execution::Execution`], apart from what the loop keeps between turns. Who
//! sends the requests need not have a socket: a file is loaded by a client that is nobody.
//!
//! # Threads
//!
//! One thread does everything above. Three more only take away what would make it wait: closing files,
//! fsync, freeing large values. They own what they are given, and hold nothing the loop needs: data moves
//! between threads and is never shared. Signal handlers set a flag and wake the loop.
//!
//! # What is deliberately absent
//!
//! - Global state, but for the log, the crash report and the watchdog, which belong to the process. The `Server` is
//!   a short list of rooms, and handlers get the parts they may touch.
//! - Owned arguments and trees of replies: a request is bytes and spans, a reply is bytes.
//! - A second way to run a command when the first is thought too slow: the first gets faster.
//! - Encodings outside [`types`]: nobody else matches on them.
//! - Numbers for capacity in what is stored: the allocator's size classes imply them
//!   ([`stdx::alloc::size_class`]).
#![deny(unsafe_code)]
#![warn(unreachable_pub)]

pub mod stdx;

pub mod structures;

pub mod background;
pub mod resp;
pub mod stats;

pub mod types;

pub mod keyspace;

pub mod acl;
pub mod net;
pub mod persistence;

pub mod config;

pub mod clients;

pub mod server;

pub mod commands;
