//! What a handler is, and what it is given.

use std::sync::Arc;

use crate::clients::ClientKey;
use crate::clients::blocking::Wait;
use crate::config::Limits;
use crate::keyspace::Db;
use crate::resp::{Args, Error, Replied, Reply};
use crate::server::Server;
use crate::server::execution::feed::Feed;
use crate::server::execution::users::Permissions;
use crate::stdx::clock::UnixMillis;
use crate::structures::sds::Sds;

/// What a handler returns: its reply is written, or this error is to be.
pub type CmdResult = Result<Replied, Error>;

/// What a data command can reach. Fields, not accessors: borrows of them are disjoint.
pub struct Ctx<'a> {
    /// The request's arguments, the command's name being argument 0.
    pub args: Args<'a>,
    /// The selected database.
    pub db: Db<'a>,
    /// Where the answer goes.
    pub reply: Reply<'a>,
    /// Sizes and thresholds from the configuration.
    pub limits: &'a Limits,
    /// How the command is passed on to the AOF and replicas; as received unless said otherwise.
    pub feed: &'a mut Feed,
    /// The command's name, for error texts.
    pub name: &'static str,
    /// The time at which the command runs.
    pub now: UnixMillis,
    /// Whether a script runs the command.
    pub from_script: bool,
    /// What the user may do; `None`: everything.
    pub permissions: Option<Permissions<'a>>,
    /// What the command waits for, if it found nothing to do.
    pub wait: &'a mut Option<Wait>,
    /// A long string that is sent from where it lies: see [`Ctx::lend`].
    pub lent: &'a mut Option<Arc<Sds>>,
}

impl Ctx<'_> {
    /// Whether the user may read every key, whatever its name: what a command needs that finds keys in values.
    pub fn reads_every_key(&self) -> bool {
        self.permissions.is_none_or(|permissions| permissions.read_every_key(&self.args))
    }

    /// Answers with a long string without copying it. Nothing may follow it in this command's reply.
    pub fn lend(&mut self, text: Arc<Sds>) -> Replied {
        let replied = self.reply.bulk_header(text.len());
        *self.lent = Some(text);
        replied
    }

    /// Ends the command for now: it is run again when there may be something for it.
    pub fn wait_for(&mut self, wait: Wait) -> CmdResult {
        *self.wait = Some(wait);
        Ok(Replied::later())
    }
}

/// The function behind a command.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Touches keys and the reply only.
    Data(fn(&mut Ctx<'_>) -> CmdResult),
    /// May reach the whole server.
    Admin(fn(&mut Server, ClientKey, Args<'_>) -> CmdResult),
    /// Has subcommands and does nothing by itself.
    Container,
    /// There is none: only other servers of the family have the command.
    Absent,
}
