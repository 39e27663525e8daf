//! A request that outlives its input buffer: kept as the bytes that arrived.

use std::sync::Arc;

use crate::resp::Args;
use crate::resp::request::Span;
use crate::structures::sds::Sds;

/// One request.
pub struct KeptRequest {
    /// Place of its command in the command table; [`KeptRequest::UNKNOWN`] where there is no such command.
    pub command: u16,
    bytes: Box<[u8]>,
    spans: Box<[Span]>,
    large: Box<[Arc<Sds>]>,
}

impl KeptRequest {
    /// Stands for a command that is not in the table.
    pub const UNKNOWN: u16 = u16::MAX;

    /// Copies a request. O(bytes); arguments that were received apart are shared.
    pub fn new(command: u16, args: &Args<'_>) -> Self {
        let (bytes, spans, large) = args.parts();
        KeptRequest { command, bytes: bytes.into(), spans: spans.into(), large: large.into() }
    }

    /// The arguments, the command's name being argument 0.
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
