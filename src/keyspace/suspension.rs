//! Why keys that are due stay, and what a lookup makes of them meanwhile.
//!
//! Several rooms may ask for it, each for a reason of its own and each for as long as that lasts. What holds follows
//! from all reasons together; nobody sets it, so that nobody can undo what another room still needs.

/// What happens to a key that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Expiry {
    /// It is removed.
    #[default]
    Remove,
    /// It is treated as absent; removing it is somebody else's decision.
    Hide,
    /// It is treated as present.
    Ignore,
}

/// A reason for due keys to stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Suspend {
    /// Clients are paused: the data must not change, but nobody is to see what is due.
    Pause = 1,
    /// Data are being loaded, and what is still to come counts on what came before.
    Loading = 1 << 1,
}

/// All reasons there are at a time.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Suspension {
    reasons: u8,
    expiry: Expiry,
}

impl Suspension {
    /// Adds a reason, or takes it away. A reason is there or not, however often it is given.
    pub(super) fn set(&mut self, reason: Suspend, on: bool) {
        if on {
            self.reasons |= reason as u8;
        } else {
            self.reasons &= !(reason as u8);
        }
        let has = |reason: Suspend| self.reasons & reason as u8 != 0;
        // The stronger demand wins.
        self.expiry = match () {
            () if has(Suspend::Loading) => Expiry::Ignore,
            () if has(Suspend::Pause) => Expiry::Hide,
            () => Expiry::Remove,
        };
    }

    /// What follows.
    #[inline]
    pub(super) fn expiry(self) -> Expiry {
        self.expiry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_come_and_go_in_any_order() {
        const REASONS: [Suspend; 2] = [Suspend::Pause, Suspend::Loading];
        // Every sequence of four steps, each of which sets or clears one reason.
        for steps in 0..4usize.pow(4) {
            let (mut suspension, mut model) = (Suspension::default(), [false; 2]);
            for step in (0..4).map(|i| steps / 4usize.pow(i) % 4) {
                let (which, on) = (step / 2, step % 2 == 1);
                suspension.set(REASONS[which], on);
                model[which] = on;
                let expected = match model {
                    [_, true] => Expiry::Ignore,
                    [true, false] => Expiry::Hide,
                    [false, false] => Expiry::Remove,
                };
                assert_eq!(suspension.expiry(), expected, "{steps}");
            }
        }
    }
}
