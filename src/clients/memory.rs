//! What all connections cost in memory, by kind, and the largest buffers of recent seconds.
//!
//! Nothing is added up when a buffer grows: the timer visits each client about once a second and corrects what
//! it was counted with. Totals are therefore up to a second old, and reading them costs nothing.

use super::{Client, ClientKey, ClientKind, Clients};
use crate::stdx::clock::UnixMillis;

/// How many seconds "recent" means.
const SECONDS: usize = 8;

/// Totals over all connections.
#[derive(Default)]
pub struct ClientMemory {
    bytes: [usize; ClientKind::ALL.len()],
    recent: Recent,
}

/// Per second (modulo 8), the largest input and output seen in it.
#[derive(Default)]
struct Recent {
    peaks: [(usize, usize); SECONDS],
    second: i64,
}

impl Recent {
    fn note(&mut self, now: UnixMillis, input: usize, output: usize) {
        let second = now.as_secs();
        // Seconds that nobody looked at were quiet; after a long while, or a clock set back, all are.
        let passed = usize::try_from(second - self.second).unwrap_or(SECONDS).min(SECONDS);
        for later in 0..passed as i64 {
            self.peaks[slot(second - later)] = (0, 0);
        }
        self.second = second;
        let peak = &mut self.peaks[slot(second)];
        *peak = (peak.0.max(input), peak.1.max(output));
    }
}

fn slot(second: i64) -> usize {
    second.rem_euclid(SECONDS as i64) as usize
}

impl ClientMemory {
    /// Bytes of all connections of one kind.
    pub fn of(&self, kind: ClientKind) -> usize {
        self.bytes[kind as usize]
    }

    /// Bytes of all connections.
    pub fn total(&self) -> usize {
        self.bytes.iter().sum()
    }

    /// The largest input buffer of one client in the last seconds.
    pub fn recent_max_input(&self) -> usize {
        self.recent.peaks.iter().map(|peak| peak.0).max().unwrap_or(0)
    }

    /// The largest output of one client in the last seconds.
    pub fn recent_max_output(&self) -> usize {
        self.recent.peaks.iter().map(|peak| peak.1).max().unwrap_or(0)
    }

    fn correct(&mut self, before: Option<(ClientKind, usize)>, after: Option<(ClientKind, usize)>) {
        if let Some((kind, bytes)) = before {
            self.bytes[kind as usize] -= bytes;
        }
        if let Some((kind, bytes)) = after {
            self.bytes[kind as usize] += bytes;
        }
    }
}

impl Clients {
    /// Counts a connection with what it costs now.
    pub fn count_memory(&mut self, key: ClientKey, now: UnixMillis) {
        let Some(client) = self.slab.get_mut(key.0) else { return };
        let after = Some((client.kind(), client.memory()));
        self.memory.correct(std::mem::replace(&mut client.counted, after), after);
        self.memory.recent.note(now, client.io.input.allocated(), client.io.output.excess());
    }

    /// A connection is gone: it costs nothing any more.
    pub(super) fn forget_memory(&mut self, client: &mut Client) {
        self.memory.correct(client.counted.take(), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_forgotten_after_eight_seconds() {
        let mut recent = Recent::default();
        let max = |recent: &Recent| recent.peaks.iter().copied().max().expect("eight of them");
        let at = |second: i64| UnixMillis(second * 1000 + 1);
        recent.note(at(1000), 500, 7);
        recent.note(at(1000), 100, 9);
        assert_eq!(max(&recent), (500, 9));
        recent.note(at(1005), 50, 0);
        recent.note(at(1007), 50, 0);
        assert_eq!(max(&recent), (500, 9));
        recent.note(at(1008), 20, 0);
        assert_eq!(max(&recent), (50, 0));
        recent.note(at(5000), 10, 0);
        assert_eq!(max(&recent), (10, 0));
        // The clock is set back.
        recent.note(at(10), 5, 0);
        assert_eq!(max(&recent), (5, 0));
    }

    #[test]
    fn totals_follow_corrections() {
        let mut memory = ClientMemory::default();
        memory.correct(None, Some((ClientKind::Normal, 100)));
        memory.correct(None, Some((ClientKind::PubSub, 10)));
        memory.correct(Some((ClientKind::Normal, 100)), Some((ClientKind::PubSub, 50)));
        assert_eq!((memory.of(ClientKind::Normal), memory.of(ClientKind::PubSub)), (0, 60));
        memory.correct(Some((ClientKind::PubSub, 50)), None);
        assert_eq!(memory.total(), 10);
    }
}
