//! Lines about a state that requests keep running into, with what to do next: each at most once a minute.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::stdx::clock;

/// Says when a line is due again.
#[derive(Debug)]
pub struct Occasion {
    /// Second of the monotonic clock at which the line is due again.
    next_s: AtomicU64,
}

impl Occasion {
    /// Seconds between two lines.
    pub const EVERY_S: u64 = 60;

    /// An occasion that has not arisen so far.
    #[expect(
        clippy::new_without_default,
        reason = "an occasion is a static, for which a default is of no use"
    )]
    pub const fn new() -> Occasion {
        Occasion { next_s: AtomicU64::new(0) }
    }

    /// Whether a line is written now. Looks at the clock.
    pub fn is_due(&self) -> bool {
        self.is_due_at(clock::monotonic_ns() / 1_000_000_000)
    }

    fn is_due_at(&self, second: u64) -> bool {
        // Two threads may both find it due, which costs a line.
        let due = second >= self.next_s.load(Ordering::Relaxed);
        if due {
            self.next_s.store(second + Occasion::EVERY_S, Ordering::Relaxed);
        }
        due
    }
}

/// Logs a warning at most once a minute: `advise!("…", …)`. Each use has an [`Occasion`] of its own.
#[macro_export]
macro_rules! advise {
    ($($text:tt)+) => {{
        use $crate::stats::advice::Occasion;
        static OCCASION: Occasion = Occasion::new();
        if OCCASION.is_due() {
            tracing::warn!($($text)+);
        }
    }};
}
pub use advise;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once_a_minute() {
        let occasion = Occasion::new();
        let due: Vec<u64> = (100..300).filter(|&second| occasion.is_due_at(second)).collect();
        assert_eq!(due, [100, 160, 220, 280]);
        assert!(occasion.is_due_at(1000) && !occasion.is_due_at(1001));
    }
}
