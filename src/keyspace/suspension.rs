//! Reasons to keep due keys, and their effect on lookups.
//!
//! Several rooms may each have a reason of their own, for as long as it lasts. The effect is derived from all
//! reasons together and never set directly, so that no room can undo what another still needs.

/// Treatment of due keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Expiry {
    /// They are removed.
    #[default]
    Remove,
    /// They are treated as absent, but not removed.
    Hide,
    /// They are treated as absent, and removed by commands that write to them.
    Overwrite,
    /// They are treated as present.
    Ignore,
}

/// A reason to keep due keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Suspend {
    /// Clients are paused: the data must not change, but due keys must stay invisible.
    Pause = 1,
    /// Data are being loaded, and commands that follow in the file depend on keys that are due.
    Loading = 1 << 1,
    /// A script runs for long while other clients are served: keys must not disappear under it.
    Busy = 1 << 2,
    /// The server is a replica: the primary decides when keys expire.
    Replica = 1 << 3,
    /// Commands from the primary are applied, which depend on keys that are due.
    Stream = 1 << 4,
    /// The server is a replica that clients may write to.
    WritableReplica = 1 << 5,
}

/// The current reasons.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Suspension {
    reasons: u8,
    expiry: Expiry,
}

impl Suspension {
    /// Adds or removes a reason; adding it twice has no further effect.
    pub(super) fn set(&mut self, reason: Suspend, on: bool) {
        if on {
            self.reasons |= reason as u8;
        } else {
            self.reasons &= !(reason as u8);
        }
        let has = |reason: Suspend| self.reasons & reason as u8 != 0;
        // The strongest treatment takes precedence.
        self.expiry = match () {
            () if has(Suspend::Loading) || has(Suspend::Stream) => Expiry::Ignore,
            () if has(Suspend::Pause) || has(Suspend::Busy) || has(Suspend::Replica) => Expiry::Hide,
            () if has(Suspend::WritableReplica) => Expiry::Overwrite,
            () => Expiry::Remove,
        };
    }

    /// The treatment that follows from the reasons.
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
        const REASONS: [Suspend; 3] = [Suspend::Pause, Suspend::Loading, Suspend::Busy];
        let mut suspension = Suspension::default();
        suspension.set(Suspend::WritableReplica, true);
        assert_eq!(suspension.expiry(), Expiry::Overwrite);
        suspension.set(Suspend::Pause, true);
        assert_eq!(suspension.expiry(), Expiry::Hide, "nothing is written meanwhile");
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
