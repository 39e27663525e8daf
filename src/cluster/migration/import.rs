//! The target of a migration.

use super::{Job, Limits, Outcome, State, Word};
use crate::cluster::nodes::NodeId;
use crate::cluster::slots::SlotSet;
use crate::cluster::{Moment, Now};

/// What the owner of the machine is to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Say this.
    Say(Word),
    /// Take the slots, and report that by [`Import::taken`].
    Take,
}

/// A migration to this node.
#[derive(Clone, Debug)]
pub struct Import {
    /// What others see of it.
    pub job: Job,
    /// When the target heard that clients of the source have stopped writing.
    paused_at: Moment,
}

impl Import {
    /// A migration that the source has introduced. `ends` are source and target.
    pub fn new(name: NodeId, ends: (NodeId, NodeId), slots: SlotSet, now: Now) -> Import {
        Import { job: Job::new(name, false, ends, slots, now), paused_at: Moment::NEVER }
    }

    /// A migration to the primary that this node copies.
    pub fn of_primary(name: NodeId, ends: (NodeId, NodeId), slots: SlotSet, now: Now) -> Import {
        let mut import = Import::new(name, ends, slots, now);
        import.job.state = State::OccurringOnPrimary;
        import
    }

    /// The source speaks.
    pub fn heard(&mut self, word: Word, limits: &Limits, now: Now) -> Next {
        if self.is_closing() {
            return Next::Nothing;
        }
        self.job.heard(now);
        match (self.job.state, word) {
            (State::WaitingForAck, Word::Ack) => {
                self.job.enter(State::ReceivingSnapshot, now);
                Next::Say(Word::Ack)
            }
            (_, Word::Ack) => Next::Say(Word::Ack),
            (State::ReceivingSnapshot, Word::SnapshotEof) => {
                self.job.enter(State::WaitingForPaused, now);
                Next::Say(Word::RequestPause)
            }
            (State::WaitingForPaused, Word::Paused) => {
                self.job.enter(State::FailoverRequested, now);
                self.paused_at = now.at;
                Next::Say(Word::RequestFailover)
            }
            (State::FailoverRequested, Word::FailoverGranted) => {
                if self.is_late(limits, now) {
                    self.fail(Outcome::Failed, "The slots were granted too late", now);
                    return Next::Nothing;
                }
                self.job.enter(State::Granted, now);
                Next::Take
            }
            _ => {
                self.fail(Outcome::Failed, "Unexpected state machine transition", now);
                Next::Nothing
            }
        }
    }

    fn is_late(&self, limits: &Limits, now: Now) -> bool {
        now.at.since(self.paused_at) > limits.handover_ms
    }

    /// The slots are this node's.
    pub fn taken(&mut self, now: Now) {
        self.job.enter(State::Done(Outcome::Success), now);
    }

    /// The source sends a request for a key.
    pub fn note_request(&mut self, now: Now) {
        self.job.heard_at = now.at;
    }

    /// The time passes.
    pub fn tick(&mut self, limits: &Limits, now: Now) {
        if self.is_closing() || self.job.state == State::OccurringOnPrimary {
            return;
        }
        if self.job.state == State::FailoverRequested && self.is_late(limits, now) {
            self.fail(Outcome::Failed, "Timed out waiting for the slots to be granted", now);
        } else if now.at.since(self.job.heard_at) > limits.silence_ms {
            self.fail(Outcome::Failed, "Timed out waiting for the source", now);
        }
    }

    /// It ends without success: what there is of the slots is to be removed, which [`Import::cleaned`] reports.
    pub fn fail(&mut self, outcome: Outcome, why: &str, now: Now) {
        if !self.is_closing() {
            self.job.enter(State::CleaningUp(outcome), now);
            why.clone_into(&mut self.job.message);
        }
    }

    /// Nothing of the slots is left.
    pub fn cleaned(&mut self, now: Now) {
        if let State::CleaningUp(outcome) = self.job.state {
            self.job.enter(State::Done(outcome), now);
        }
    }

    /// The primary that this node copies says how it ended there.
    pub fn ended_at_primary(&mut self, outcome: Outcome, why: &str, now: Now) {
        why.clone_into(&mut self.job.message);
        self.job.enter(State::Done(outcome), now);
    }

    /// Whether it has ended, or what is left of it is being removed.
    pub fn is_closing(&self) -> bool {
        matches!(self.job.state, State::CleaningUp(_) | State::Done(_))
    }
}
