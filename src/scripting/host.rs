//! What scripts ask of the server.

use std::time::Duration;

use super::sink::Sink;
use crate::resp::{Args, Protocol};

/// Whether a script that has run for a while may go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It may.
    Continue,
    /// It ends with an error that it cannot catch.
    Kill,
}

/// How important a line of the log is; the numbers are those of `redis.LOG_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    Debug = 0,
    Verbose = 1,
    Notice = 2,
    Warning = 3,
}

/// Where the writes of a script go from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repl {
    /// Into the append-only file.
    pub log: bool,
    /// To the replicas.
    pub replicas: bool,
}

/// The server, as scripts see it.
///
/// No method can reach the engine that runs the script.
pub trait Host {
    /// A number for the command called `name`, in letters of any case, by which [`Host::call`] will find it at once. The
    /// engine remembers it until [`Engine::forget_commands`](super::Engine::forget_commands). `None`: there is no such
    /// command, or no number for it.
    fn resolve(&mut self, _name: &[u8]) -> Option<u32> {
        None
    }

    /// Runs one command and gives its reply, exactly one value, to `sink`. `command` is the number that
    /// [`Host::resolve`] gave for the first argument, if it gave one. A command that is refused because it comes from a
    /// script answers with [`Sink::refuse`]. The text of errors includes their code, and no `-`.
    fn call(&mut self, command: Option<u32>, args: Args<'_>, protocol: Protocol, sink: &mut Sink<'_, '_>);

    /// Whether the user may run the command; `None` when there is no such command.
    fn acl_check(&mut self, args: Args<'_>) -> Option<bool>;

    /// Writes a line into the server's log.
    fn log(&mut self, level: LogLevel, text: &[u8]);

    /// Chooses where the writes that follow go.
    fn set_repl(&mut self, to: Repl);

    /// Called every few milliseconds while a script runs that is not debugged. The host knows when the script began; this is where it serves other
    /// clients when the script is slow.
    fn interrupted(&mut self) -> Verdict;

    /// How long a script that is debugged may run until it stops by itself; `None`: as long as it wants.
    fn debugged_for(&self) -> Option<Duration> {
        None
    }

    /// Sends bytes to the client that debugs the script, and waits for bytes from it, any number of them. `None` when it is
    /// gone. Called only while [`Engine::debug`](super::Engine::debug) runs.
    fn converse(&mut self, _output: &[u8]) -> Option<Vec<u8>> {
        None
    }
}
