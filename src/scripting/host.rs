//! The interface through which scripts call the server.

use std::time::Duration;

use super::sink::Sink;
use crate::resp::{Args, Protocol};

/// Whether a script that has run for a while may continue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The script continues.
    Continue,
    /// The script ends with an error that it cannot catch.
    Kill,
}

/// Level of a log line, with the numbers of `redis.LOG_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    Debug = 0,
    Verbose = 1,
    Notice = 2,
    Warning = 3,
}

/// Destinations of a script's writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repl {
    /// Whether writes go to the append-only file.
    pub log: bool,
    /// Whether writes go to the replicas.
    pub replicas: bool,
}

/// The server as scripts see it.
///
/// No method can access the engine that runs the script.
pub trait Host {
    /// A number for the command with this name, in any letter case, with which [`Host::call`] finds the command
    /// directly. The engine remembers it until [`Engine::forget_commands`](super::Engine::forget_commands). `None` if
    /// there is no such command, or no number for it.
    fn resolve(&mut self, _name: &[u8]) -> Option<u32> {
        None
    }

    /// Runs one command and passes its reply, exactly one value, to `sink`. `command` is the number that
    /// [`Host::resolve`] returned for the first argument, if any. A command that scripts may not run is answered with
    /// [`Sink::refuse`]. Error texts include the code but no leading `-`.
    fn call(&mut self, command: Option<u32>, args: Args<'_>, protocol: Protocol, sink: &mut Sink<'_, '_>);

    /// Whether the user may run the command; `None` if there is no such command.
    fn acl_check(&mut self, args: Args<'_>) -> Option<bool>;

    /// Writes a line to the server's log.
    fn log(&mut self, level: LogLevel, text: &[u8]);

    /// Sets the destinations of the writes that follow.
    fn set_repl(&mut self, to: Repl);

    /// Called every few milliseconds while a script runs, unless the script is debugged. The host knows when the script
    /// began; if the script is slow, the host serves other clients here.
    fn interrupted(&mut self) -> Verdict;

    /// How long a debugged script may run before it is stopped; `None` for no limit.
    fn debugged_for(&self) -> Option<Duration> {
        None
    }

    /// Sends output to the client that debugs the script, and waits for input from it, any number of bytes. `None` if
    /// the client has disconnected. Called only while [`Engine::debug`](super::Engine::debug) runs.
    fn converse(&mut self, _output: &[u8]) -> Option<Vec<u8>> {
        None
    }
}
