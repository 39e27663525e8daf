//! Propagation of commands to the append-only file.

use crate::resp::request::write_request;

/// What to propagate if the command changed something.
#[derive(Default, Debug)]
pub enum Feed {
    /// There is no sink, so nothing is kept.
    Unheard,
    /// The request, byte for byte.
    #[default]
    AsReceived,
    /// Nothing.
    Nothing,
    /// This RESP instead, and how many requests it is.
    Instead(Vec<u8>, usize),
}

impl Feed {
    /// Passes on nothing but what is said from now on.
    pub fn nothing(&mut self) {
        if !matches!(self, Feed::Unheard) {
            *self = Feed::Nothing;
        }
    }

    /// Passes on the request made of `args` instead of the one received.
    pub fn instead(&mut self, args: &[&[u8]]) {
        if matches!(self, Feed::Unheard) {
            return;
        }
        let (mut out, requests) = match std::mem::take(self) {
            Feed::Instead(out, requests) => (out, requests),
            _ => (Vec::new(), 0),
        };
        write_request(&mut out, args.iter().copied());
        *self = Feed::Instead(out, requests + 1);
    }
}

/// What one command is passed on as.
#[derive(Clone, Copy)]
struct Part {
    /// The database.
    db: u32,
    /// Where its bytes end.
    end: usize,
    /// How many requests they are.
    requests: usize,
}

/// The propagated commands of one unit of execution, in order: a single command, or all commands of a transaction
/// or script, with the removals of expired keys in between.
#[derive(Default)]
pub struct Unit {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// Bytes of the last unit, for tests.
    #[cfg(test)]
    pub drained: Vec<u8>,
}

impl Unit {
    /// Adds a command that `write` appends, to be executed in database `db`.
    pub fn push(&mut self, db: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.push_requests(db, 1, write);
    }

    /// Adds what one command is passed on as: `requests` requests that `write` appends.
    pub fn push_requests(&mut self, db: u32, requests: usize, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.parts.push(Part { db, end: self.bytes.len(), requests });
    }

    /// Whether there is nothing to propagate.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Empties the unit, keeping capacity for a usual one.
    pub fn clear(&mut self) {
        const KEPT: usize = 64 << 10;
        #[cfg(test)]
        self.drained.clone_from(&self.bytes);
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.parts.clear();
        self.parts.shrink_to(KEPT / size_of::<Part>());
    }

    /// Appends the unit to a stream in which database `selected` is selected (`None`: that is
    /// not known). More than one request is enclosed in MULTI and EXEC, so that none is executed
    /// without the others.
    ///
    /// When `apart`, each part is a unit of its own instead.
    pub fn write(&self, selected: &mut Option<u32>, apart: bool, out: &mut Vec<u8>) {
        let requests = self.parts.iter().map(|part| part.requests).sum::<usize>();
        let last = self.parts.len().saturating_sub(1);
        let mut start = 0;
        for (i, &Part { db, end, requests: own }) in self.parts.iter().enumerate() {
            let enclosed = if apart { own > 1 } else { requests > 1 };
            if enclosed && (apart || i == 0) {
                write_request(out, [&b"MULTI"[..]].into_iter());
            }
            if *selected != Some(db) {
                let number = itoa::Buffer::new().format(db).to_owned();
                write_request(out, [&b"SELECT"[..], number.as_bytes()].into_iter());
                *selected = Some(db);
            }
            out.extend_from_slice(&self.bytes[start..end]);
            start = end;
            if enclosed && (apart || i == last) {
                write_request(out, [&b"EXEC"[..]].into_iter());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(unit: &Unit, selected: &mut Option<u32>) -> String {
        let mut out = Vec::new();
        unit.write(selected, false, &mut out);
        String::from_utf8(out).expect("text").replace("\r\n", " ")
    }

    #[test]
    fn one_part_stands_alone_and_several_stay_together() {
        let mut unit = Unit::default();
        unit.push(3, |out| out.extend_from_slice(b"a\r\n"));
        let mut selected = None;
        assert_eq!(written(&unit, &mut selected), "*2 $6 SELECT $1 3 a ");
        assert_eq!(written(&unit, &mut selected), "a ");
        unit.push(0, |out| out.extend_from_slice(b"b\r\n"));
        assert_eq!(written(&unit, &mut selected), "*1 $5 MULTI a *2 $6 SELECT $1 0 b *1 $4 EXEC ");
        assert_eq!(selected, Some(0));
        unit.clear();
        assert!(unit.is_empty());
    }
}
