//! Slots that move from one node to another as a whole, as Valkey 9 moves them.
//!
//! The node that gives slots away connects to the one that gets them, and the two speak in requests
//! (`CLUSTER SYNCSLOTS word`, a [`Word`] each):
//!
//! | source | target |
//! |---|---|
//! | `ESTABLISH`: who, which slots | `+OK` |
//! | the keys, as requests that create them; `SNAPSHOT-EOF` | |
//! | changes made meanwhile | `REQUEST-PAUSE` |
//! | clients stop writing; the last changes; `PAUSED` | |
//! | | `REQUEST-FAILOVER` |
//! | `FAILOVER-GRANTED` | takes the slots with a larger epoch |
//!
//! Each tells the other by `ACK` that it is there. Until the target takes the slots, its clients do not see the keys,
//! and the source serves them.
//!
//! What is never to happen is that both serve a slot's writes. The source lets clients write again if it does not hear
//! that the slots have an owner, so the target must not take them later than that. By its own clock, the source grants
//! a request only within one limit from the beginning of the pause, which lasts for two; the target takes the slots only
//! within one limit from hearing of the pause. If it heard too late, its request comes too late as well.
//!
//! - [`export`]: the source;
//! - [`import`]: the target;
//! - [`progress`]: which keys the source has sent.

pub mod export;
pub mod import;
pub mod progress;

use std::collections::VecDeque;

use super::nodes::NodeId;
use super::slots::SlotSet;
use super::{Moment, Now};
use crate::stdx::clock::UnixMillis;

/// What the two ends say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// The one who speaks is there.
    Ack,
    /// The keys have been sent, and changes follow.
    SnapshotEof,
    /// Clients are to stop writing.
    RequestPause,
    /// They have stopped, and all changes have been sent.
    Paused,
    /// The target would take the slots now.
    RequestFailover,
    /// It may.
    FailoverGranted,
}

impl Word {
    /// All there are.
    pub const ALL: [Word; 6] = [
        Word::Ack,
        Word::SnapshotEof,
        Word::RequestPause,
        Word::Paused,
        Word::RequestFailover,
        Word::FailoverGranted,
    ];

    /// The word in a request.
    pub fn name(self) -> &'static str {
        match self {
            Word::Ack => "ACK",
            Word::SnapshotEof => "SNAPSHOT-EOF",
            Word::RequestPause => "REQUEST-PAUSE",
            Word::Paused => "PAUSED",
            Word::RequestFailover => "REQUEST-FAILOVER",
            Word::FailoverGranted => "FAILOVER-GRANTED",
        }
    }

    /// The word written in `text`, in any letter case.
    pub fn parse(text: &[u8]) -> Option<Word> {
        Word::ALL.into_iter().find(|word| word.name().as_bytes().eq_ignore_ascii_case(text))
    }
}

/// How a migration ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The slots have moved.
    Success,
    /// They have not.
    Failed,
    /// They have not, because nobody wants it any more.
    Cancelled,
}

/// How far a migration is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The source connects.
    Connecting,
    /// The source has sent its password.
    Authenticating,
    /// The source has said what it is about.
    Establishing,
    /// The source sends the keys.
    Snapshotting,
    /// The source sends changes.
    Streaming,
    /// The target wants clients to stop writing, and the source has too much to send yet.
    WaitingToPause,
    /// Clients have stopped writing.
    Paused,
    /// The target may take the slots.
    Granted,
    /// The target has not heard from the source since that introduced itself.
    WaitingForAck,
    /// The target receives the keys.
    ReceivingSnapshot,
    /// The target has the keys, and waits until clients of the source have stopped writing.
    WaitingForPaused,
    /// The target would take the slots.
    FailoverRequested,
    /// This node copies the target.
    OccurringOnPrimary,
    /// The target removes what it got of the slots.
    CleaningUp(Outcome),
    /// It is over.
    Done(Outcome),
}

impl State {
    /// The name that clients see.
    pub fn name(self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Authenticating => "reading-auth-response",
            State::Establishing => "reading-establish-response",
            State::Snapshotting => "snapshotting",
            State::Streaming => "streaming",
            State::WaitingToPause => "waiting-to-pause",
            State::Paused => "failover-paused",
            State::Granted => "failover-granted",
            State::WaitingForAck => "waiting-for-ack",
            State::ReceivingSnapshot => "receiving-snapshot",
            State::WaitingForPaused => "waiting-for-paused",
            State::FailoverRequested => "failover-requested",
            State::OccurringOnPrimary => "occurring-on-primary",
            State::CleaningUp(_) => "cleaning-up",
            State::Done(Outcome::Success) => "success",
            State::Done(Outcome::Failed) => "failed",
            State::Done(Outcome::Cancelled) => "cancelled",
        }
    }
}

/// One migration, as one of its ends sees it.
#[derive(Clone, Debug)]
pub struct Job {
    /// The name that the source gave it.
    pub name: NodeId,
    /// Whether this node is the source.
    pub is_export: bool,
    /// The slots.
    pub slots: SlotSet,
    /// Whose they were.
    pub source: NodeId,
    /// Whose they are to be.
    pub target: NodeId,
    /// How far it is.
    pub state: State,
    /// Why it ended, if it did not as it should.
    pub message: String,
    /// When it began.
    pub created: UnixMillis,
    /// When its state last changed.
    pub updated: UnixMillis,
    /// When the other end last spoke.
    pub acknowledged: UnixMillis,
    heard_at: Moment,
}

impl Job {
    fn new(name: NodeId, is_export: bool, ends: (NodeId, NodeId), slots: SlotSet, now: Now) -> Job {
        Job {
            name,
            is_export,
            slots,
            source: ends.0,
            target: ends.1,
            state: if is_export { State::Connecting } else { State::WaitingForAck },
            message: String::new(),
            created: now.wall,
            updated: now.wall,
            acknowledged: now.wall,
            heard_at: now.at,
        }
    }

    fn enter(&mut self, state: State, now: Now) {
        self.state = state;
        self.updated = now.wall;
    }

    fn heard(&mut self, now: Now) {
        self.acknowledged = now.wall;
        self.heard_at = now.at;
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    /// The ranges of slots, as clients see them.
    pub fn ranges(&self) -> String {
        let shown: Vec<String> = self.slots.ranges().map(|(first, last)| format!("{first}-{last}")).collect();
        shown.join(" ")
    }

    /// What the log says of it.
    pub fn describe(&self) -> String {
        let (operation, side, node) = match self.is_export {
            true => ("export", "target", self.target),
            false => ("import", "source", self.source),
        };
        let (name, slots) = (self.name.as_str(), self.ranges());
        format!("{{name: {name}, operation: {operation}, {side}_node_id: {node}, slots: {slots}}}")
    }
}

/// Migrations that are over, the newest first.
#[derive(Default, Debug)]
pub struct History {
    jobs: VecDeque<Job>,
}

impl History {
    /// Adds a migration, of which at most `most` are kept.
    pub fn add(&mut self, job: Job, most: usize) {
        self.jobs.push_front(job);
        self.jobs.truncate(most);
    }

    /// The migrations, the newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Job> {
        self.jobs.iter()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.jobs.clear();
    }
}

/// Time limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Milliseconds of silence after which the other end counts as gone.
    pub silence_ms: i64,
    /// Milliseconds within which the slots must be taken once clients have stopped writing: see the module's text.
    pub handover_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::export::{Export, Seen};
    use super::import::{Import, Next};
    use super::*;
    use crate::cluster::slot::Slot;
    use crate::stdx::rng::Rng;

    pub(super) const LIMITS: Limits = Limits { silence_ms: 60_000, handover_ms: 5000 };

    pub(super) fn at(ms: i64) -> Now {
        Now { at: Moment(1 + ms), wall: UnixMillis(1_700_000_000_000 + ms) }
    }

    pub(super) fn id(digit: u8) -> NodeId {
        NodeId::parse(&[digit; 40]).expect("digits make a name")
    }

    pub(super) fn slots() -> SlotSet {
        SlotSet::range(Slot::new(5).expect("a slot"), Slot::new(9).expect("a slot"))
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for word in Word::ALL {
            assert_eq!(Word::parse(word.name().to_ascii_lowercase().as_bytes()), Some(word));
        }
        assert_eq!(Word::parse(b"FINISH"), None);
    }

    #[test]
    fn only_the_newest_are_remembered() {
        let mut history = History::default();
        for digit in b'1'..=b'5' {
            history.add(Import::new(id(digit), (id(b'a'), id(b'b')), slots(), at(0)).job, 3);
        }
        let names: Vec<&str> = history.iter().map(|job| &job.name.as_str()[..1]).collect();
        assert_eq!(names, ["5", "4", "3"]);
    }

    /// Both ends, with words that are delayed at random, and clocks that differ. The source says when its clients write.
    fn run(seed: u64) -> bool {
        let mut rng = Rng::new(seed);
        let mut source = Export::new(id(b'1'), (id(b'a'), id(b'b')), slots(), at(0));
        let mut target = Import::new(id(b'1'), (id(b'a'), id(b'b')), slots(), at(0));
        let (mut to_target, mut to_source) = (VecDeque::new(), VecDeque::new());
        source.connected(false, at(0));
        assert_eq!(source.established(at(0)), export::Next::Say(Word::Ack));
        to_target.push_back(Word::Ack);
        let (mut now, mut paused_until, mut taken) = (0, None, false);
        let slow = rng.below(4) as i64 * 2000;
        let mut sent = false;
        while now < 200_000 && !(source.job.is_over() && target.job.is_over()) {
            now += 1 + rng.below(1 + slow as u64 / 4) as i64;
            if source.job.state == State::Snapshotting && rng.below(3) == 0 && !sent {
                sent = true;
                source.snapshot_sent(at(now));
                to_target.push_back(Word::SnapshotEof);
            }
            let seen =
                Seen { unsent: rng.below(3) as usize, mine: !taken, theirs: taken && rng.below(4) == 0 };
            for step in source.tick(seen, 1, &LIMITS, at(now)) {
                match step {
                    export::Next::Pause(ms) => paused_until = Some(now + ms),
                    export::Next::Say(word) => to_target.push_back(word),
                }
            }
            if source.job.is_over() {
                paused_until = None;
            }
            if rng.below(3) == 0
                && let Some(word) = to_source.pop_front()
                && let Some(export::Next::Say(word)) = source.heard(word, !taken, &LIMITS, at(now))
            {
                to_target.push_back(word);
            }
            target.tick(&LIMITS, at(now));
            if rng.below(3) == 0
                && let Some(word) = to_target.pop_front()
            {
                match target.heard(word, &LIMITS, at(now)) {
                    Next::Nothing => {}
                    Next::Say(word) => to_source.push_back(word),
                    Next::Take => {
                        let writes = paused_until.is_none_or(|until| now > until);
                        assert!(!writes, "seed {seed}: slots are taken while clients of the source write");
                        taken = true;
                        target.taken(at(now));
                    }
                }
            }
            if let State::CleaningUp(_) = target.job.state {
                target.cleaned(at(now));
            }
        }
        taken
    }

    #[test]
    fn slots_are_never_taken_while_their_source_writes() {
        let taken = (0..2000).filter(|&seed| run(seed)).count();
        assert!((200..2000).contains(&taken), "{taken} of 2000 ended well");
    }

    #[test]
    fn words_in_no_order_do_no_harm() {
        for seed in 0..500 {
            let mut rng = Rng::new(seed);
            let mut target = Import::new(id(b'1'), (id(b'a'), id(b'b')), slots(), at(0));
            let mut source = Export::new(id(b'1'), (id(b'a'), id(b'b')), slots(), at(0));
            source.connected(false, at(0));
            assert_eq!(source.established(at(0)), export::Next::Say(Word::Ack));
            let mut heard = Vec::new();
            for _ in 0..20 {
                let word = Word::ALL[rng.below(6) as usize];
                if !matches!(target.job.state, State::CleaningUp(_) | State::Done(_)) {
                    heard.push(word);
                }
                if target.heard(word, &LIMITS, at(1)) == Next::Take {
                    let asked: Vec<Word> = heard.into_iter().filter(|word| *word != Word::Ack).collect();
                    assert_eq!(asked, [Word::SnapshotEof, Word::Paused, Word::FailoverGranted]);
                    break;
                }
                let next = source.heard(word, true, &LIMITS, at(1));
                assert_ne!(next, Some(export::Next::Say(Word::FailoverGranted)), "nothing was sent yet");
            }
        }
    }
}
