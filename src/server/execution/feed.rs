//! Propagation of commands to the append-only file and to replicas.

use crate::keyspace::Sink;
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
    /// The sinks it is for, a bit each.
    sinks: u8,
}

/// The propagated commands of one unit of execution, in order: a single command, or all commands of a transaction
/// or script, with the removals of expired keys in between.
#[derive(Default)]
pub struct Unit {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// Whether a part is not for every sink.
    partial: bool,
    /// Bytes of the last unit, for tests.
    #[cfg(test)]
    pub drained: Vec<u8>,
}

impl Unit {
    /// Adds a command that `write` appends, to be executed in database `db`.
    pub fn push(&mut self, db: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.push_requests(db, 1, Sink::EVERY, write);
    }

    /// Adds what one command is passed on as to `sinks`, a bit each: `requests` requests that `write` appends.
    pub fn push_requests(&mut self, db: u32, requests: usize, sinks: u8, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.partial |= sinks != Sink::EVERY;
        self.parts.push(Part { db, end: self.bytes.len(), requests, sinks });
    }

    /// About how many bytes [`Unit::write`] appends; seldom more.
    pub fn written_len(&self) -> usize {
        const ENCLOSING: usize = 64;
        self.bytes.len() + ENCLOSING
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
        self.partial = false;
        self.parts.shrink_to(KEPT / size_of::<Part>());
    }

    /// What is for `sink`: requests, and the databases that they are for.
    pub fn parts_for(&self, sink: Sink) -> impl Iterator<Item = (u32, &[u8])> {
        let starts = std::iter::once(0).chain(self.parts.iter().map(|part| part.end));
        let parts = self.parts.iter().zip(starts).filter(move |(part, _)| part.sinks & sink as u8 != 0);
        parts.map(|(part, start)| (part.db, &self.bytes[start..part.end]))
    }

    /// Appends the unit to a stream in which database `selected` is selected (`None`: that is
    /// not known). More than one request is enclosed in MULTI and EXEC, so that none is executed
    /// without the others.
    ///
    /// When `apart`, each part is a unit of its own instead.
    ///
    /// Only the parts for `sink` are written.
    pub fn write(&self, sink: Sink, selected: &mut Option<u32>, apart: bool, out: &mut Vec<u8>) {
        let (mut requests, mut first, mut last) = (0, 0, self.parts.len().saturating_sub(1));
        if self.partial {
            let is_for = |part: &&Part| part.sinks & sink as u8 != 0;
            let mut of_sink = self.parts.iter().enumerate().filter(|(_, part)| is_for(part)).map(|(i, _)| i);
            (first, last) = (of_sink.clone().next().unwrap_or(0), of_sink.next_back().unwrap_or(0));
        }
        for part in self.parts.iter().filter(|part| part.sinks & sink as u8 != 0) {
            requests += part.requests;
        }
        let mut start = 0;
        for (i, &Part { db, end, requests: own, sinks }) in self.parts.iter().enumerate() {
            if sinks & sink as u8 == 0 {
                start = end;
                continue;
            }
            let enclosed = if apart { own > 1 } else { requests > 1 };
            if enclosed && (apart || i == first) {
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
        unit.write(Sink::Log, selected, false, &mut out);
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
