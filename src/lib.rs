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
//! | 2 | [`stats`] | counters, histograms, the log, lists of slow commands and latency events, metrics as text, progress of long work | who asks for them |
//! | 3 | [`types`] | encodings, and when a value changes from one to the other | keys, expiry, clients, replies |
//! | 4 | [`keyspace`] | databases, expiry, a ledger of what changed | clients and replies: it records a change and tells nobody |
//! | 5 | [`acl`] | users, rules, commands by number | clients, how a command is run |
//! | 5 | [`cluster`] | the nodes of a cluster, which of them owns which slot, their bus and elections | sockets, files, the clock, commands |
//! | 5 | [`net`] | sockets, buffers, readiness, signals, TLS, I/O threads, a small HTTP server | commands, keys |
//! | 5 | [`persistence`] | files and their formats | how to run a command, when a snapshot is due |
//! | 5 | [`replication`] | histories and the protocol between a primary and its replicas | sockets, files, the clock, commands |
//! | 5 | [`scripting`] | Lua, its libraries and limits, scripts and functions | the server: it calls back through [`scripting::Host`] |
//! | 5 | [`sentinel`] | who is down, votes, and how a replica takes over | sockets, the clock, commands; of files, only whether a script can be executed |
//! | 6 | [`config`] | one table of parameters over plain structs | how a change takes effect: it returns *what* changed |
//! | 7 | [`clients`] | who is connected, and what each has chosen | how a command is run |
//! | 8 | [`server`] | all of the above | what a command does: what is special about one is a flag in its entry; it only writes a few by name into streams (SELECT, MULTI, EXEC, DEL, UNLINK, HDEL, PING, REPLCONF) |
//! | 9 | [`commands`] | arguments and replies; the table entry stands beside the handler | each other |
//!
//! # A command's journey
//!
//! `SADD colours red` arrives, and go-to-definition follows it:
//!
//! 1. `net::poll` reports that a socket is readable; `server::event_loop` receives once into the client's input
//!    buffer (`net::io`), where `net::tls` decrypts what is encrypted.
//! 2. `resp::request` finds the arguments: spans of the bytes as they arrived. Nothing is copied.
//! 3. `server::execution::call` gathers the requests of all ready clients, prefetches the memory of their keys and of
//!    the elements that they look for (`types::prefetch`), and runs the requests in order.
//! 4. `server::execution::admission` decides by one AND whether anything blocks the command: authentication, MULTI,
//!    memory.
//! 5. `server::execution::call` splits the server into a `Ctx`: arguments, database, reply, limits. The handler in
//!    `commands::set` gets only these.
//! 6. `keyspace::db` finds the set, `types::set` adds the member and changes the encoding if need be, `structures`
//!    moves the bytes.
//! 7. The handler reports the change once, to the ledger, and writes the reply through `resp::reply` directly into the
//!    client's output.
//! 8. `server::execution::propagate` reads the ledger and passes the change on: to transactions that watch the key,
//!    clients that cache it, subscribers, clients blocked on it, the append-only file, and the stream of replicas.
//! 9. Before the loop sleeps, it writes the append-only file; then it sends each client its output, with one system
//!    call per client.
//!
//! There is no second way: a transaction, a client that was blocked, a file being loaded, and everything else that runs
//! commands takes the steps from 4 on. What is being executed at a moment (how deep inside other commands, where it
//! comes from, what it passes on) is one value, [`server::execution::Execution`], apart from what the loop keeps
//! between turns. A client need not have a socket: a file is loaded by an internal client.
//!
//! # Threads
//!
//! - The main thread is the event loop, and does everything above.
//! - Three background threads take over what would make it wait: closing files, fsync, freeing large values. They own
//!   what they are given, and hold nothing that the loop needs: data move between threads and are never shared.
//! - I/O threads, if `io-threads` is more than 1, receive and parse requests, look up commands, hash keys, and send
//!   replies. A connection travels to the main thread with its requests and returns with the replies, through queues
//!   without locks; see [`net::threads`].
//! - The watchdog, if `watchdog-period` is set, only reads the loop's progress, and interrupts it by a signal.
//! - A Sentinel has a thread that looks up host names, because the system's resolver waits.
//! - The thread that watches over scripts only reads whether a new one has begun. It interrupts one that has run for
//!   milliseconds by a signal, so that others are served, and sleeps while there are none.
//! - Where `tls-auto-reload-interval` is set, a thread reads certificates that have changed, and ends.
//! - Where `metrics-port` is set, a thread serves HTTP. It sets a flag when it wants to know something, and the timer
//!   then writes it a snapshot of all figures.
//! - The allocator returns free memory to the system from a thread of its own, if `jemalloc-bg-thread` is set.
//!
//! Signal handlers set a flag and wake the loop; that for scripts sets a hook in the interpreter. Snapshots and rewrites
//! of the log are written by child processes.
//!
//! # What is deliberately absent
//!
//! - Global state, except for the log, the crash report, the watchdog and the signal for scripts, which belong to the
//!   process. The `Server` is a short list of rooms, and handlers get the parts they may touch.
//! - Owned arguments and trees of replies: a request is bytes and spans, a reply is bytes.
//! - A second, faster way to run a command: the only way gets faster.
//! - Encodings outside [`types`]: no other room matches on them.
//! - Capacity fields in stored structures: the allocator's size classes imply the capacity
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
pub mod cluster;
pub mod net;
pub mod persistence;
pub mod replication;
pub mod scripting;
pub mod sentinel;

pub mod config;

pub mod clients;

pub mod server;

pub mod commands;
