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

    /// Output up to byte `bytes` of all the client ever gets waits for `offset`. Both never fall.
    pub fn add(&mut self, offset: u64, bytes: u64, under_way: u64) {
        // What waits for the group under way keeps its mark; everything later shares one.
        if self.len > 0 && (self.marks[self.len - 1].0 > under_way || self.len == self.marks.len()) {
            self.marks[self.len - 1] = (offset, bytes);
        } else {
            self.marks[self.len] = (offset, bytes);
            self.len += 1;
        }
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
}
