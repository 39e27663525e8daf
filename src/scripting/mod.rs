//! Lua scripts and functions: the language, its libraries, and its limits. This room does not know the server; scripts
//! call it through [`Host`].
//!
//! # How a script runs
//!
//! 1. [`Engine::prepare`] finds the script by its source text or compiles it (after [`source`] has checked and adapted
//!    the text). [`Engine::flags`] returns the flags that its first line declares, by which the caller decides whether
//!    the script may run.
//! 2. [`Engine::run`] fills KEYS and ARGV and calls the function.
//! 3. `redis.call` ([`api`]) collects its arguments in one buffer and calls [`Host::call`], which passes the reply to a
//!    [`Sink`] that converts it to Lua values.
//! 4. [`answer`] writes the result of the script as a reply.
//!
//! Functions run in the same way; [`functions`] has the libraries that register them.
//!
//! # What always holds
//!
//! - All `unsafe` code is in `lua/ffi.rs`, `lua/stack.rs`, `lua/watch.rs` and `lua/c_text.rs`; the first states the
//!   rules on which it rests.
//! - Scripts see their libraries through read-only proxies and leave nothing behind: each script finds the same
//!   environment.
//! - Every loop that a script can run is interrupted regularly, and memory is limited ([`Limits`]).

pub mod answer;
pub mod api;
pub mod cache;
pub mod debugger;
pub mod engine;
pub mod functions;
pub mod host;
pub mod lib;
pub mod lua;
pub mod run;
pub mod shebang;
pub mod sink;
pub mod source;
mod state;

pub use engine::{Engine, Limits, Outcome, Script};
pub use functions::{FunctionId, Library};
pub use host::{Host, LogLevel, Repl, Verdict};
pub use shebang::Flags;
pub use sink::Sink;

#[cfg(test)]
mod tests;
