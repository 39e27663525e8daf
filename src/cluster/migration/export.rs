//! The source of a migration.

use super::{Job, Limits, Outcome, State, Word};
use crate::cluster::nodes::NodeId;
use crate::cluster::slots::SlotSet;
use crate::cluster::{Moment, Now};

/// Milliseconds between two words by which the source says that it is there.
const ACK_MS: i64 = 1000;

/// What the owner of the machine is to do, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Let clients write nothing for so many milliseconds, or until the migration is over.
    Pause(i64),
    /// Say this, behind all that was sent before.
    Say(Word),
}

/// What the machine must know of its surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Bytes that wait to be sent.
    pub unsent: usize,
    /// Whether all slots are this node's.
    pub mine: bool,
    /// Whether all slots are the target's.
    pub theirs: bool,
}

/// A migration away from this node.
#[derive(Clone, Debug)]
pub struct Export {
    /// What others see of it.
    pub job: Job,
    spoke_at: Moment,
    paused_at: Moment,
}

impl Export {
    /// A migration that is to begin. `ends` are source and target.
    pub fn new(name: NodeId, ends: (NodeId, NodeId), slots: SlotSet, now: Now) -> Export {
        Export {
            job: Job::new(name, true, ends, slots, now),
            spoke_at: Moment::NEVER,
            paused_at: Moment::NEVER,
        }
    }

    /// The connection stands; with `auth`, a password was sent, otherwise the introduction.
    pub fn connected(&mut self, auth: bool, now: Now) {
        self.job.enter(if auth { State::Authenticating } else { State::Establishing }, now);
        self.job.heard(now);
    }

    /// The password was accepted, and the introduction sent.
    pub fn authenticated(&mut self, now: Now) {
        self.job.enter(State::Establishing, now);
        self.job.heard(now);
    }

    /// The target agrees: the keys are to be sent, behind this.
    #[must_use]
    pub fn established(&mut self, now: Now) -> Next {
        self.job.enter(State::Snapshotting, now);
        self.job.heard(now);
        self.spoke_at = now.at;
        Next::Say(Word::Ack)
    }

    /// All keys have been sent.
    pub fn snapshot_sent(&mut self, now: Now) {
        self.job.enter(State::Streaming, now);
    }

    /// The target speaks; `mine` says whether all slots are this node's.
    pub fn heard(&mut self, word: Word, mine: bool, limits: &Limits, now: Now) -> Option<Next> {
        if self.job.is_over() {
            return None;
        }
        self.job.heard(now);
        match (self.job.state, word) {
            (_, Word::Ack) => None,
            (State::Streaming, Word::RequestPause) => {
                self.job.enter(State::WaitingToPause, now);
                None
            }
            (State::Paused, Word::RequestFailover) => {
                if now.at.since(self.paused_at) > limits.handover_ms {
                    self.fail(Outcome::Failed, "Slot migration timed out during slot failover", now);
                    None
                } else if !mine {
                    self.fail(Outcome::Failed, "Slots are no longer owned by myself", now);
                    None
                } else {
                    self.job.enter(State::Granted, now);
                    Some(Next::Say(Word::FailoverGranted))
                }
            }
            _ => {
                self.fail(Outcome::Failed, "Unexpected state machine transition", now);
                None
            }
        }
    }

    /// The time passes. `most_unsent` bytes may wait to be sent when clients are made to wait; negative for any number.
    pub fn tick(&mut self, seen: Seen, most_unsent: i64, limits: &Limits, now: Now) -> Vec<Next> {
        let mut next = Vec::new();
        if self.job.is_over() {
            return next;
        }
        let paused_ms = now.at.since(self.paused_at);
        match self.job.state {
            State::Granted if seen.theirs => self.job.enter(State::Done(Outcome::Success), now),
            State::Granted if paused_ms > limits.handover_ms * 2 => self.fail(
                Outcome::Failed,
                "Unpaused before migration completed (migration may have succeeded with lost writes)",
                now,
            ),
            State::Granted => {}
            _ if !seen.mine => self.fail(Outcome::Failed, "Slots are no longer owned by myself", now),
            State::Paused if paused_ms > limits.handover_ms => {
                self.fail(Outcome::Failed, "Slot migration timed out during slot failover", now);
            }
            _ if now.at.since(self.job.heard_at) > limits.silence_ms => {
                self.fail(Outcome::Failed, "Timed out waiting for the target", now);
            }
            State::WaitingToPause if most_unsent < 0 || seen.unsent as u64 <= most_unsent.unsigned_abs() => {
                self.job.enter(State::Paused, now);
                self.paused_at = now.at;
                next.extend([Next::Pause(limits.handover_ms * 2), Next::Say(Word::Paused)]);
            }
            _ => {}
        }
        let speaks = matches!(
            self.job.state,
            State::Snapshotting | State::Streaming | State::WaitingToPause | State::Paused
        );
        if speaks && now.at.since(self.spoke_at) >= ACK_MS {
            self.spoke_at = now.at;
            next.push(Next::Say(Word::Ack));
        }
        next
    }

    /// The connection is gone. A target that may take the slots may have done so.
    pub fn lost(&mut self, why: &str, now: Now) {
        if self.job.state != State::Granted {
            self.fail(Outcome::Failed, why, now);
        }
    }

    /// It ends without success.
    pub fn fail(&mut self, outcome: Outcome, why: &str, now: Now) {
        if !self.job.is_over() {
            self.job.enter(State::Done(outcome), now);
            why.clone_into(&mut self.job.message);
        }
    }

    /// Whether clients are waiting.
    pub fn pauses(&self) -> bool {
        matches!(self.job.state, State::Paused | State::Granted)
    }

    /// Whether what changes is to be sent, in so far as it has been sent before.
    pub fn streams(&self) -> bool {
        matches!(
            self.job.state,
            State::Snapshotting | State::Streaming | State::WaitingToPause | State::Paused
        )
    }
}
