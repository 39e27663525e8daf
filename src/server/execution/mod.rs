//! Running commands: what may run, the one way a command is run, transactions, blocking, and what is passed on.
//!
//! What is being executed at a moment is one value, [`Execution`]. What runs inside something else, as the commands of a
//! transaction do, begins with [`Server::nested`] and leaves the outer execution as it was.

pub mod admission;
pub mod blocking;
pub mod call;
pub mod feed;
pub mod pause;
pub mod propagate;
pub mod redirect;
pub mod script_debug;
pub mod scripts;
pub mod slots;
pub mod transaction;
pub mod users;

use crate::clients::blocking::Wait;
use crate::server::Server;
use crate::server::execution::feed::{Feed, Unit};
use crate::server::watching::publish::Answering;
use crate::stdx::clock::UnixMillis;
use crate::stdx::stopwatch::Ticks;

/// Where the requests come from that are being run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Origin {
    /// Somebody who is connected.
    #[default]
    Client,
    /// The server whose data we repeat.
    Primary,
    /// A file that is being loaded.
    Loading,
    /// A script or function.
    Script,
    /// The server itself.
    Own,
    /// A node that moves slots here.
    Import,
}

/// What the origin of requests decides, one column each:
///
/// | | admitted unasked | repeats | counted | expires | feeds |
/// |---|---|---|---|---|---|
/// | `Client` | no | no | yes | yes | yes |
/// | `Primary` | yes | yes | yes | no | yes |
/// | `Loading` | yes | yes | no | no | no |
/// | `Script` | no | no | yes | yes | yes |
/// | `Own` | yes | no | no | yes | yes |
/// | `Import` | within its slots | yes | yes | no | yes |
impl Origin {
    /// Whether nothing holds up what holds up others: the request ran before, or is our own.
    pub const fn admits_everything(self) -> bool {
        matches!(self, Origin::Primary | Origin::Loading | Origin::Own | Origin::Import)
    }

    /// Whether the requests ran before, here or elsewhere, so that an error is unexpected.
    pub const fn repeats(self) -> bool {
        matches!(self, Origin::Primary | Origin::Loading | Origin::Import)
    }

    /// Whether calls, refusals and failures count in statistics, and are shown where commands are observed.
    pub const fn counts_statistics(self) -> bool {
        !matches!(self, Origin::Loading | Origin::Own)
    }

    /// Whether a key that is due goes when a request meets it. If not, its removal comes as a request of its own.
    pub const fn expires(self) -> bool {
        !matches!(self, Origin::Primary | Origin::Loading | Origin::Import)
    }

    /// Whether what changes is passed on: not if it comes from where it would go.
    pub const fn feeds(self) -> bool {
        !matches!(self, Origin::Loading)
    }
}

/// What is being executed. All of it is as new between two units of execution: a command by itself, or all that a
/// transaction or a script runs.
#[derive(Default)]
pub struct Execution {
    /// How many commands the running one is inside of.
    pub depth: u32,
    /// Where the request that is being run comes from.
    pub origin: Origin,
    /// How the running command is passed on.
    pub feed: Feed,
    /// What the running command, and those inside it, pass on.
    pub unit: Unit,
    /// There is something in `unit`.
    pub(in crate::server) unit_pending: bool,
    /// The sinks that what changes is not passed on to, a bit each, because the script that runs wants it so.
    pub(in crate::server) withheld_from: u8,
    /// What the running command waits for, if it may reach the whole server and waits.
    pub wait: Option<Wait>,
    /// The client whose request is being answered.
    pub(in crate::server) answering: Answering,
    /// Start of the running command, which is the end of the one before.
    pub(in crate::server) command_started: Ticks,
    /// Whether the last batch read long strings, so that the next probably will.
    pub(in crate::server) lends: bool,
    /// Whether the running command ran before.
    pub(in crate::server) attempt: Attempt,
}

/// Whether a command runs for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Attempt {
    /// The request just came.
    #[default]
    First,
    /// The request of a blocked client runs again.
    Again,
    /// It found nothing again, so that the client stays blocked.
    InVain {
        /// When it is to run once more although no key changed.
        again_at: Option<UnixMillis>,
    },
}

/// The part of an [`Execution`] that an outer one gets back when an inner one ends.
struct Outer {
    depth: u32,
    origin: Origin,
    feed: Feed,
    attempt: Attempt,
}

impl Execution {
    /// Begins an inner execution, and returns what [`Execution::pop`] restores.
    fn push(&mut self, inner: Outer) -> Outer {
        Outer {
            depth: std::mem::replace(&mut self.depth, inner.depth),
            origin: std::mem::replace(&mut self.origin, inner.origin),
            feed: std::mem::replace(&mut self.feed, inner.feed),
            attempt: std::mem::replace(&mut self.attempt, inner.attempt),
        }
    }

    fn pop(&mut self, outer: Outer) {
        self.push(outer);
    }

    /// Whether a blocked client whose request runs again stays blocked.
    pub(in crate::server) fn stays_blocked(&self) -> bool {
        matches!(self.attempt, Attempt::InVain { .. })
    }
}

impl Server {
    /// Has `run` run commands inside the running one, or in place of a client's, as requests of `origin`. Time stands
    /// still meanwhile, and what they pass on belongs to the unit of the outermost command.
    pub(in crate::server) fn nested<T>(&mut self, origin: Origin, run: impl FnOnce(&mut Server) -> T) -> T {
        let depth = self.execution.depth + 1;
        let inner = Outer { depth, origin, feed: Feed::default(), attempt: Attempt::First };
        let outer = self.execution.push(inner);
        let result = run(self);
        self.execution.pop(outer);
        result
    }

    /// Has `run` run the request of a blocked client again, which is a unit of its own. Gives
    /// [`Attempt::InVain`] when the client stays blocked.
    fn attempt_again(&mut self, run: impl FnOnce(&mut Server)) -> Attempt {
        let inner =
            Outer { depth: 0, origin: Origin::Client, feed: Feed::default(), attempt: Attempt::Again };
        let outer = self.execution.push(inner);
        run(self);
        let attempt = self.execution.attempt;
        self.execution.pop(outer);
        attempt
    }

    /// Has `run` do something that has nothing to do with what is being executed, which stands still meanwhile: serve
    /// clients while a file is loaded, say.
    pub(in crate::server) fn aside<T>(&mut self, run: impl FnOnce(&mut Server) -> T) -> T {
        let outer = std::mem::take(&mut self.execution);
        let result = run(self);
        self.execution = outer;
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::background::Background;
    use crate::config::Config;

    #[test]
    fn what_runs_inside_leaves_the_outer_execution_as_it_was() {
        let background = Arc::new(Background::start(None).expect("threads can be started"));
        let mut server = Server::new(Config::default(), &[], background);
        server.execution.feed = Feed::Nothing;
        server.execution.attempt = Attempt::Again;
        server.nested(Origin::Loading, |server| {
            let inner = &server.execution;
            assert_eq!((inner.depth, inner.origin, inner.attempt), (1, Origin::Loading, Attempt::First));
            server.execution.feed = Feed::Unheard;
            let attempt = server.attempt_again(|server| {
                let again = &mut server.execution;
                assert_eq!((again.depth, again.origin), (0, Origin::Client));
                again.attempt = Attempt::InVain { again_at: None };
            });
            assert_eq!(attempt, Attempt::InVain { again_at: None });
            assert_eq!(server.execution.depth, 1);
            server.execution.unit.push(3, |out| out.push(b'x'));
            server.aside(|server| {
                let other = &server.execution;
                assert_eq!((other.depth, other.origin), (0, Origin::Client));
                assert!(other.unit.is_empty(), "a unit is not mixed with another one");
            });
            assert_eq!(server.execution.depth, 1);
        });
        let outer = &server.execution;
        assert_eq!((outer.depth, outer.origin), (0, Origin::Client));
        assert!(matches!(outer.feed, Feed::Nothing) && outer.attempt != Attempt::First);
        assert!(!outer.stays_blocked());
        assert!(!outer.unit.is_empty(), "what runs inside is part of the unit");
    }
}
