//! Lua scripts and functions: the language, its libraries, its limits. The server is unknown here; scripts call back
//! through [`Host`].
//!
//! # The way of a script
//!
//! 1. [`Engine::prepare`] finds the script by its text or compiles it ([`source`] checks and adapts the text first), and
//!    [`Engine::flags`] tells what its first line asks for, so that the caller can decide about admission.
//! 2. [`Engine::run`] fills KEYS and ARGV and calls the function.
//! 3. `redis.call` ([`api`]) gathers its arguments in one buffer and calls [`Host::call`], which answers into a [`Sink`]:
//!    the reply becomes Lua values at once.
//! 4. What the script returns is written as a reply by [`answer`].
//!
//! Functions go the same way; [`functions`] holds the libraries that declare them.
//!
//! # What always holds
//!
//! - All `unsafe` code is in `lua/ffi.rs`, `lua/stack.rs`, `lua/watch.rs` and `lua/c_text.rs`; the first names the promises
//!   that it rests on.
//! - Scripts see their libraries through read-only proxies, and leave nothing behind: the next script finds the same world.
//! - Every loop that a script can start is interrupted in time, and memory has a limit ([`Limits`]).

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
