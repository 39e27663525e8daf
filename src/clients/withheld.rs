//! Withheld output: replies that may not be sent yet because the changes they report could still be lost.

/// Output of a client that may be sent once the log is durable up to an offset. A client has at most two such
/// offsets: one for the group being written, and one for everything after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WithheldOutput {
    marks: [(u64, u64); 2],
    len: usize,
}

impl WithheldOutput {
    /// Whether no output is withheld.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The least offset that withheld output waits for.
    pub fn first(&self) -> Option<u64> {
        (self.len > 0).then_some(self.marks[0].0)
    }

    /// Withholds the output up to its byte `bytes` until the log is durable up to `offset`. Bytes are counted over
    /// the life of the client, so `bytes` never decreases. `under_way` is the end of the group being written.
    pub fn add(&mut self, offset: u64, bytes: u64, under_way: u64) {
        if let Some(last) = self.len.checked_sub(1) {
            // Output that waits for the group being written keeps its offset. Everything later shares one.
            let last = &mut self.marks[last];
            if last.0 >= offset || last.0 > under_way || self.len == 2 {
                *last = (last.0.max(offset), bytes);
                return;
            }
        }
        self.marks[self.len] = (offset, bytes);
        self.len += 1;
    }

    /// Releases output whose offset is at most `durable`. Returns the byte up to which output may be sent, or `None`
    /// if nothing was released.
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

/// The log offset that the latest output depends on. It is known as long as only reads of keys wrote the output,
/// since such a reply depends on no change later than the last ones of those keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OutputDependency {
    /// The byte of output, counted over the life of the client, up to which `offset` is right.
    upto: u64,
    /// The output reports no change that was appended later than this.
    offset: u64,
}

impl OutputDependency {
    /// Notes that the output from byte `before` to byte `after` reports no change appended later than `offset`.
    /// `is_first` says that all output before it has been sent, so that its dependencies no longer matter.
    pub fn add(&mut self, before: u64, after: u64, offset: u64, is_first: bool) {
        if is_first {
            *self = OutputDependency { upto: before, offset: 0 };
        }
        if self.upto == before {
            *self = OutputDependency { upto: after, offset: self.offset.max(offset) };
        }
    }

    /// Takes the offset that the output up to byte `end` depends on, if it is known. Later calls concern later output
    /// only.
    pub fn take(&mut self, end: u64) -> Option<u64> {
        let known = (self.upto == end).then_some(self.offset);
        *self = OutputDependency { upto: end, offset: 0 };
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_when_what_came_before_is_durable() {
        let mut held = WithheldOutput::default();
        held.add(100, 10, 99);
        assert_eq!(held.release(99), None);
        // The group up to 100 is being written; what is added now shares one offset.
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
        let mut held = WithheldOutput::default();
        // First output that depends on the current group only, then output that depends on the next.
        held.add(100, 10, 100);
        held.add(150, 20, 100);
        // Output is sent in order, so nothing overtakes.
        held.add(100, 30, 100);
        assert_eq!(held.release(100), Some(10));
        assert_eq!(held.release(150), Some(30));
        assert!(held.is_empty());
    }

    #[test]
    fn only_what_reads_wrote_is_vouched_for() {
        let mut dependency = OutputDependency::default();
        dependency.add(1000, 1010, 5, true);
        dependency.add(1010, 1020, 3, false);
        assert_eq!(dependency.take(1020), Some(5));
        dependency.add(1020, 1030, 7, false);
        assert_eq!(dependency.take(1040), None, "something else wrote as well");
        dependency.add(1040, 1050, 8, false);
        assert_eq!(dependency.take(1050), Some(8));
        dependency.add(1060, 1070, 1, false);
        assert_eq!(dependency.take(1070), None);
    }
}
