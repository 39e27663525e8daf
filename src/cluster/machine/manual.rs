//! How a replica takes over on demand (CLUSTER FAILOVER).
//!
//! Plain: the replica asks its primary to pause (MFSTART). The primary lets clients write nothing and tells its offset;
//! when the replica has everything up to there, it asks for votes, which are given although the primary works. Nothing
//! is lost. FORCE leaves out the pause, for a primary that does not answer, and TAKEOVER the votes, too.

use bytes::Bytes;

use super::{Action, Local, Machine, Refused, Todo};
use crate::cluster::Moment;
use crate::cluster::bus::{self, Header, Kind, Marks};
use crate::cluster::nodes::NodeKey;
use crate::stats::log::Level;

/// How many times longer than a failover on demand may take a primary pauses: until it knows its successor.
const PAUSE_FACTOR: i64 = 2;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manual {
    /// With the agreement of the primary and the votes of most primaries.
    Plain,
    /// Without the primary.
    Force,
    /// Without asking anybody.
    Takeover,
}

/// A failover on demand that is under way, at the replica or at the primary.
#[derive(Default, Debug)]
pub(super) struct Progress {
    /// When it is given up; never if there is none.
    until: Moment,
    /// The replica that takes over, at the primary.
    pub(super) replica: Option<NodeKey>,
    /// Offset at which the primary has paused, at the replica.
    offset: Option<u64>,
    /// Whether the replica has everything, and may ask for votes.
    ready: bool,
}

impl Progress {
    pub(super) fn is_under_way(&self) -> bool {
        self.until.is_set()
    }

    /// Whether votes may be asked for.
    pub(super) fn may_start(&self) -> bool {
        self.is_under_way() && self.ready
    }
}

impl Machine {
    /// Takes over from this replica's primary.
    ///
    /// # Errors
    /// This is no replica, or its primary cannot be asked.
    pub fn failover(&mut self, manual: Manual, local: &Local) -> Result<(), Refused> {
        let me = self.nodes.myself();
        if me.is_primary() {
            return Err(Refused::text("You should send CLUSTER FAILOVER to a replica"));
        }
        let Some(primary) = me.primary() else {
            return Err(Refused::text("I'm a replica but my master is unknown to me"));
        };
        let link = self.link_to(primary);
        if manual == Manual::Plain && (self.nodes[primary].has_failed() || link.is_none()) {
            return Err(Refused::text("Master is down or failed, please use CLUSTER FAILOVER FORCE"));
        }
        self.end_manual();
        // An election that has failed shortly before is no reason to wait.
        self.election.forget();
        self.manual.until = local.now.at.after(self.settings.manual_timeout_ms);
        match manual {
            Manual::Takeover => {
                self.log(Level::Warning, "Taking over the master (user request).");
                self.take_epoch();
                self.replace_primary(local);
            }
            Manual::Force => {
                self.log(Level::Warning, "Forced failover user request accepted.");
                self.manual.ready = true;
                self.todo = self.todo | Todo::FAILOVER;
            }
            Manual::Plain => {
                self.log(Level::Warning, "Manual failover user request accepted.");
                let packet = self.with_header(local, Marks::NONE, |_, header| {
                    Bytes::from(bus::write_empty(Kind::MfStart, header))
                });
                if let Some(link) = link {
                    self.send(link, Kind::MfStart, packet);
                }
            }
        }
        Ok(())
    }

    /// A replica of this primary asks it to pause.
    pub(super) fn asked_to_pause(&mut self, key: NodeKey, local: &Local) {
        if self.nodes[key].primary() != Some(self.nodes.me()) {
            return;
        }
        self.end_manual();
        let timeout = self.settings.manual_timeout_ms;
        self.manual.until = local.now.at.after(timeout);
        self.manual.replica = Some(key);
        self.actions.push(Action::Pause { ms: timeout * PAUSE_FACTOR });
        let text = format!("Manual failover requested by replica {}.", self.nodes[key].title());
        self.log(Level::Warning, text);
        // It carries the offset at which clients stopped writing.
        if let Some(link) = self.link_to(key) {
            self.send_heartbeat(link, Kind::Ping, local);
        }
    }

    /// The primary has paused, and tells where.
    pub(super) fn note_paused_offset(&mut self, key: NodeKey, header: &Header<'_>) {
        let mine = self.nodes.myself().primary() == Some(key);
        if header.marks.has(Marks::PAUSED)
            && mine
            && self.manual.is_under_way()
            && self.manual.offset.is_none()
        {
            self.manual.offset = Some(header.offset);
            self.todo = self.todo | Todo::MANUAL;
            let offset = header.offset;
            let text = format!("Received replication offset for paused master manual failover: {offset}");
            self.log(Level::Warning, text);
        }
    }

    /// At the replica: whether everything has arrived.
    pub(super) fn continue_manual(&mut self, local: &Local) {
        if self.manual.is_under_way() && !self.manual.ready && self.manual.offset == Some(local.offset) {
            self.manual.ready = true;
            self.todo = self.todo | Todo::FAILOVER;
            self.log(Level::Warning, "All master replication stream processed, manual failover can start.");
        }
    }

    /// At the primary: whether its stream must stand still, so that the replica can catch up.
    pub fn pauses_stream(&self) -> bool {
        self.manual.is_under_way() && self.manual.replica.is_some()
    }

    /// At the replica: whether its owner should call [`Machine::data_arrived`] when data arrive.
    pub fn waits_for_data(&self) -> bool {
        self.manual.is_under_way() && !self.manual.ready && self.manual.offset.is_some()
    }

    /// At the replica: more of the stream was applied.
    pub fn data_arrived(&mut self) {
        self.todo = self.todo | Todo::MANUAL;
    }

    pub(super) fn expire_manual(&mut self, now: Moment) {
        if self.manual.is_under_way() && self.manual.until < now {
            self.log(Level::Warning, "Manual failover timed out.");
            self.end_manual();
        }
    }

    /// Ends a failover on demand, if there is one; a primary that has paused goes on.
    pub(super) fn end_manual(&mut self) {
        let progress = std::mem::take(&mut self.manual);
        if progress.replica.is_some() {
            self.actions.push(Action::Resume);
        }
    }
}
