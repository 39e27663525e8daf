//! Output that may not leave yet, because what it tells of could still be lost.

/// Output of a client that may leave once an offset of the log is durable. A client has two of these at most: one for
/// the group under way, and one for all that came since.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    marks: [(u64, u64); 2],
    len: usize,
}

impl Held {
    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Output up to byte `bytes` of all the client ever gets waits for `offset`. The number of bytes never falls.
    pub fn add(&mut self, offset: u64, bytes: u64, under_way: u64) {
        if let Some(last) = self.len.checked_sub(1) {
            // What waits for the group under way keeps its mark; everything later shares one.
            let last = &mut self.marks[last];
            if last.0 >= offset || last.0 > under_way || self.len == 2 {
                *last = (last.0.max(offset), bytes);
                return;
            }
        }
        self.marks[self.len] = (offset, bytes);
        self.len += 1;
    }

    /// Lets go of what waited for no more than `durable`; up to which byte output may leave, if any was let go.
    pub fn release(&mut self, durable: u64) -> Option<u64> {
        let mut upto = None;
        while self.len > 0 && self.marks[0].0 <= durable {
            upto = Some(self.marks[0].1);
            self.marks[0] = self.marks[1];
            self.len -= 1;
        }
        upto
    }
}

/// What is known of the output that has not been looked at yet: as long as nothing but reads of keys wrote it, it tells
/// of no change later than those of the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vouched {
    /// Byte of all the client ever gets up to which `offset` holds.
    upto: u64,
    /// It tells of nothing appended later.
    offset: u64,
}

impl Vouched {
    /// The bytes from `before` to `after` tell of nothing later than `offset`. If what came before has been sent,
    /// nobody needs to vouch for it.
    pub fn add(&mut self, before: u64, after: u64, offset: u64, is_first: bool) {
        if is_first {
            *self = Vouched { upto: before, offset: 0 };
        }
        if self.upto == before {
            *self = Vouched { upto: after, offset: self.offset.max(offset) };
        }
    }

    /// What the output up to byte `end` tells of, if that is known. It has been looked at then.
    pub fn take(&mut self, end: u64) -> Option<u64> {
        let known = (self.upto == end).then_some(self.offset);
        *self = Vouched { upto: end, offset: 0 };
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_when_what_came_before_is_durable() {
        let mut held = Held::default();
        held.add(100, 10, 99);
        assert_eq!(held.release(99), None);
        // The group up to 100 is under way; what comes now shares one mark.
        held.add(150, 20, 100);
        held.add(180, 30, 100);
        assert_eq!(held.release(100), Some(10));
        assert!(!held.is_empty());
        held.add(200, 40, 180);
        assert_eq!(held.release(199), Some(30));
        assert_eq!(held.release(200), Some(40));
        assert!(held.is_empty());
    }

    #[test]
    fn reads_wait_for_what_they_tell_of() {
        let mut held = Held::default();
        // What depends on the group under way only, and then on the next.
        held.add(100, 10, 100);
        held.add(150, 20, 100);
        // In order: nothing overtakes.
        held.add(100, 30, 100);
        assert_eq!(held.release(100), Some(10));
        assert_eq!(held.release(150), Some(30));
        assert!(held.is_empty());
    }

    #[test]
    fn only_what_reads_wrote_is_vouched_for() {
        let mut vouched = Vouched::default();
        vouched.add(1000, 1010, 5, true);
        vouched.add(1010, 1020, 3, false);
        assert_eq!(vouched.take(1020), Some(5));
        vouched.add(1020, 1030, 7, false);
        assert_eq!(vouched.take(1040), None, "something else wrote as well");
        vouched.add(1040, 1050, 8, false);
        assert_eq!(vouched.take(1050), Some(8));
        vouched.add(1060, 1070, 1, false);
        assert_eq!(vouched.take(1070), None);
    }
}
