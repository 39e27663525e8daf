//! A request that outlives its input buffer, stored as the bytes that arrived.

use std::sync::Arc;

use crate::resp::Args;
use crate::resp::request::Span;
use crate::structures::sds::Sds;

/// One request.
pub struct KeptRequest {
    /// Index of the command in the command table; [`KeptRequest::UNKNOWN`] if the table has no such command.
    pub command: u16,
    bytes: Box<[u8]>,
    spans: Box<[Span]>,
    large: Box<[Arc<Sds>]>,
}

impl KeptRequest {
    /// Index of a command that is not in the table.
    pub const UNKNOWN: u16 = u16::MAX;

    /// Copies a request. O(bytes); large arguments with memory of their own are shared.
    pub fn new(command: u16, args: &Args<'_>) -> Self {
        let (bytes, spans, large) = args.parts();
        KeptRequest { command, bytes: bytes.into(), spans: spans.into(), large: large.into() }
    }

    /// As [`new`](Self::new), but each argument in `replaced` is another text.
    pub fn with_replaced(command: u16, args: &Args<'_>, replaced: &[(usize, Vec<u8>)]) -> Self {
        let (_, spans, large) = args.parts();
        let mut spans: Box<[Span]> = spans.into();
        // The words alone, one behind the other: they are no request as it arrives.
        let mut bytes = Vec::new();
        for (i, span) in spans.iter_mut().enumerate() {
            let other = replaced.iter().find(|(place, _)| *place == i);
            if other.is_some() || span.large_index().is_none() {
                let word = other.map_or(args.at(i), |(_, text)| text);
                *span = Span::within(bytes.len(), word.len());
                bytes.extend_from_slice(word);
            }
        }
        KeptRequest { command, bytes: bytes.into(), spans, large: large.into() }
    }

    /// The arguments; argument 0 is the name of the command.
    pub fn args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.spans, &self.large)
    }

    /// Bytes allocated for the request.
    pub fn memory(&self) -> usize {
        self.bytes.len()
            + size_of_val(&*self.spans)
            + self.large.iter().map(|large| large.len()).sum::<usize>()
    }
}
