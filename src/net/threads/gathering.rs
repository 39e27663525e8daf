//! When an I/O thread wakes the main thread.
//!
//! To wake a thread costs both sides more than to execute a few requests. So a main thread that sleeps is left asleep
//! until enough has been posted for it, or for a short while, in which the I/O thread naps. Naps suit a thread with many
//! busy clients; with few, they would only make clients wait. So a thread naps only if enough others have sent something
//! of late. And whether a nap was worthwhile shows by what has arrived in the meantime: where that is little, the thread
//! takes none for some time.

use std::time::Duration;

/// The main thread is woken for so many requests at once, while there is more to receive.
const ENOUGH: usize = 32;

/// Nanoseconds for which requests wait for others, at most, while there is more to receive.
const PATIENCE_NS: u64 = 100_000;

/// A nap is taken only if so many clients may send something meanwhile.
const OTHERS: usize = 20;

/// Length of a nap for each of these clients: somewhat less than a client needs from a reply to the next request, so that
/// clients that share a processor are still at it when the nap ends.
const NAP_PER_CLIENT: Duration = Duration::from_micros(1);

/// Length of the longest nap.
const LONGEST_NAP: Duration = Duration::from_micros(50);

/// Clients count that have sent something in this period or the last one.
const PERIOD_NS: u64 = 1_000_000;

/// A nap is worthwhile if so many requests have arrived meanwhile.
const WORTHWHILE: usize = 4;

/// Most occasions for a nap that are passed over in a row.
const MOST_SKIPPED: u32 = 1023;

/// What a thread does that has nothing to receive or send at this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Waits for sockets and orders.
    Wait,
    /// Looks whether anything has become ready, and wakes the main thread if not.
    Look,
    /// Naps, and looks afterwards.
    Nap(Duration),
    /// Wakes the main thread.
    Wake,
}

/// What has been posted for the main thread since it was last woken, and what is known about naps.
#[derive(Default)]
pub(super) struct Gathering {
    /// Number of requests, or of parcels without any.
    posted: usize,
    /// When the first of them was posted.
    since_ns: u64,
    /// What had been posted when a nap began.
    before_nap: Option<usize>,
    /// Occasions that are passed over after the next nap in vain, and those that are left to pass over.
    backoff: u32,
    skip: u32,
    /// The present period, and its beginning.
    period: u32,
    period_ns: u64,
    /// Number of clients that have sent something in the present period, and in the last one.
    clients: usize,
    clients_before: usize,
}

impl Gathering {
    /// A turn begins.
    pub(super) fn turn(&mut self, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.period_ns);
        if elapsed >= PERIOD_NS {
            self.clients_before = if elapsed < 2 * PERIOD_NS { self.clients } else { 0 };
            self.clients = 0;
            self.period = self.period.wrapping_add(1);
            self.period_ns = now_ns;
        }
    }

    /// A client has sent a request; `last` is the period in which it last did, and is changed.
    pub(super) fn sent(&mut self, last: &mut u32) {
        if *last != self.period {
            *last = self.period;
            self.clients += 1;
        }
    }

    /// Something has been posted.
    pub(super) fn add(&mut self, requests: usize, now_ns: u64) {
        if self.posted == 0 {
            self.since_ns = now_ns;
        }
        self.posted += requests.max(1);
    }

    /// Whether the main thread must be woken although there may be more to receive.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        self.posted >= ENOUGH || self.posted > 0 && now_ns.saturating_sub(self.since_ns) >= PATIENCE_NS
    }

    /// What to do if there is nothing to receive or send at this moment, and the main thread sleeps or does not.
    pub(super) fn next(&mut self, main_sleeps: bool) -> Next {
        match (self.posted, self.before_nap) {
            (0, _) => Next::Wait,
            (_, Some(_)) => Next::Wake,
            // It finds by itself what was posted.
            _ if !main_sleeps => Next::Wake,
            _ if self.others() < OTHERS => Next::Look,
            _ if self.skip > 0 => {
                self.skip -= 1;
                Next::Look
            }
            _ => {
                self.before_nap = Some(self.posted);
                Next::Nap((self.others() as u32 * NAP_PER_CLIENT).min(LONGEST_NAP))
            }
        }
    }

    /// Number of clients that have sent something of late, without those whose requests have been posted.
    fn others(&self) -> usize {
        self.clients.max(self.clients_before).saturating_sub(self.posted)
    }

    /// The main thread is woken for what was posted. Returns how long the thread may wait for replies alone, if it may.
    pub(super) fn woken(&mut self) -> Option<Duration> {
        if let Some(before) = self.before_nap.take() {
            let worthwhile = self.posted - before >= WORTHWHILE;
            self.backoff = if worthwhile { 0 } else { (2 * self.backoff + 1).min(MOST_SKIPPED) };
            self.skip = self.backoff;
        }
        self.posted = 0;
        (self.backoff == 0 && self.others() >= OTHERS).then_some(LONGEST_NAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that so many clients have sent something to.
    fn with_clients(clients: u32) -> Gathering {
        let mut gathering = Gathering::default();
        gathering.turn(PERIOD_NS);
        for _ in 0..clients {
            gathering.sent(&mut 0);
        }
        gathering
    }

    /// One round: so many requests are posted, and so many more while the thread naps. Returns whether it napped, and
    /// whether it then waits for replies alone.
    fn round(gathering: &mut Gathering, at_once: usize, later: usize) -> (bool, bool) {
        gathering.add(at_once, 1);
        let napped = match gathering.next(true) {
            Next::Nap(_) => {
                if later > 0 {
                    gathering.add(later, 2);
                }
                assert_eq!(gathering.next(true), Next::Wake, "one nap is enough");
                true
            }
            next => {
                assert_eq!(next, Next::Look);
                false
            }
        };
        let alone = gathering.woken().is_some();
        assert_eq!(gathering.next(true), Next::Wait, "nothing is left");
        (napped, alone)
    }

    #[test]
    fn many_clients_are_gathered() {
        let mut gathering = with_clients(50);
        for _ in 0..100 {
            assert_eq!(round(&mut gathering, 3, WORTHWHILE), (true, true));
        }
    }

    #[test]
    fn naps_are_as_long_as_there_are_clients() {
        for (clients, us) in [(21, 20), (50, 49), (200, 50)] {
            let mut gathering = with_clients(clients);
            gathering.add(1, 1);
            assert_eq!(gathering.next(true), Next::Nap(Duration::from_micros(us)));
        }
    }

    #[test]
    fn few_clients_never_wait() {
        for clients in 0..OTHERS as u32 {
            assert_eq!(round(&mut with_clients(clients), 1, 0), (false, false));
        }
    }

    #[test]
    fn clients_hardly_ever_wait_for_others_that_are_silent() {
        let mut gathering = with_clients(50);
        let naps = (0..10_000).filter(|_| round(&mut gathering, 1, 0).0).count();
        assert!((10..30).contains(&naps), "{naps}");
        // When they have become busy, this shows soon.
        let naps = (0..2048).filter(|_| round(&mut gathering, 1, WORTHWHILE).0).count();
        assert!(naps > 1000, "{naps}");
    }

    #[test]
    fn a_client_counts_once_in_a_period_and_is_forgotten() {
        let mut gathering = Gathering::default();
        let (mut a, mut b) = (0, 0);
        gathering.turn(PERIOD_NS);
        for _ in 0..2 {
            gathering.sent(&mut a);
            gathering.sent(&mut b);
        }
        assert_eq!(gathering.clients, 2);
        gathering.turn(2 * PERIOD_NS - 1);
        gathering.sent(&mut b);
        assert_eq!(gathering.clients, 2);
        gathering.turn(2 * PERIOD_NS);
        gathering.sent(&mut a);
        assert_eq!((gathering.clients_before, gathering.clients), (2, 1));
        gathering.turn(9 * PERIOD_NS);
        assert_eq!((gathering.clients_before, gathering.clients), (0, 0));
    }

    #[test]
    fn a_main_thread_that_is_awake_is_not_waited_for() {
        let mut gathering = Gathering::default();
        assert_eq!(gathering.next(false), Next::Wait);
        gathering.add(1, 0);
        assert_eq!(gathering.next(false), Next::Wake);
    }

    #[test]
    fn enough_is_due_at_once_and_little_in_time() {
        let mut gathering = Gathering::default();
        assert!(!gathering.is_due(u64::MAX));
        gathering.add(0, 1000);
        gathering.add(ENOUGH - 2, 50_000);
        assert!(!gathering.is_due(100_000));
        assert!(gathering.is_due(101_000));
        gathering.add(1, 60_000);
        assert!(gathering.is_due(60_000));
        gathering.woken();
        assert!(!gathering.is_due(u64::MAX));
    }
}
