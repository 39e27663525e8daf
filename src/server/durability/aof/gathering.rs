//! How long a group of clients waits for more clients before its writes are synced.

use std::time::{Duration, Instant};

/// Decides whether the next group waits for clients that were just answered. Such clients are likely to write again at
/// once. Without waiting, two groups of clients would take turns; with it, they become one, which needs half as many
/// syncs.
#[derive(Default)]
pub(super) struct Gathering {
    /// The group is not synced before this moment, unless it is complete.
    until: Option<Instant>,
    /// Number of clients in the complete group.
    complete: usize,
    /// How many of them waited already when the others were answered.
    early: usize,
    /// How many of 256 answered clients write again in time, as a moving average.
    returning: usize,
    /// When the last sync was started.
    pub(super) handed_over: Option<Instant>,
}

impl Gathering {
    /// Longest time that a group waits.
    const LONGEST: Duration = Duration::from_millis(2);

    /// Begins a group: the last one is durable, so `answered` clients got their replies; `waiting` others are in the new
    /// group already.
    pub(super) fn begin(&mut self, answered: usize, waiting: usize) {
        if self.until.is_none() {
            // While groups do not wait, the clients that came during the sync show whether waiting would be worth it.
            self.observe(waiting, answered);
        }
        let now = Instant::now();
        // A wait as long as a sync costs the clients in the group no more than missing a sync would.
        let took = self.handed_over.map_or(Duration::ZERO, |then| now - then);
        self.until = (self.returning >= 128).then(|| now + took.min(Gathering::LONGEST));
        self.complete = waiting + answered;
        self.early = waiting;
    }

    fn observe(&mut self, came: usize, of: usize) {
        self.returning = (self.returning * 3 + came.min(of) * 256 / of.max(1)) / 4;
    }

    /// Whether the group with `waiting` clients should wait for more.
    pub(super) fn goes_on(&mut self, waiting: usize) -> bool {
        let Some(until) = self.until else { return false };
        if waiting < self.complete && Instant::now() < until {
            return true;
        }
        self.until = None;
        self.observe(waiting.saturating_sub(self.early), self.complete - self.early);
        false
    }

    /// Time until the group waits no longer, for which the loop may sleep.
    pub(super) fn patience(&self) -> Duration {
        self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_wait_for_clients_that_come_back_and_for_no_others() {
        let mut gathering = Gathering::default();
        let long_ago = || Instant::now().checked_sub(Duration::from_secs(1));
        // Two groups of 25 clients take turns, until it is worth while to wait.
        for _ in 0..4 {
            gathering.handed_over = long_ago();
            gathering.until = None;
            gathering.begin(25, 25);
        }
        gathering.until = Some(Instant::now() + Duration::from_secs(60));
        assert!(gathering.goes_on(25) && gathering.goes_on(49));
        assert!(!gathering.goes_on(50), "everybody is there");
        assert_eq!(gathering.patience(), Duration::MAX);
        // Nobody comes back.
        for _ in 0..8 {
            gathering.handed_over = long_ago();
            gathering.begin(50, 0);
            if gathering.until.is_some() {
                gathering.until = Some(Instant::now());
                assert!(!gathering.goes_on(0), "the time is over");
            }
        }
        assert!(gathering.until.is_none() && !gathering.goes_on(1));
    }
}
