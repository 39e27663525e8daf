//! A transaction being assembled: requests stored as the bytes that arrived.

use std::ops::Range;
use std::sync::Arc;

use crate::resp::Args;
use crate::resp::request::Span;
use crate::structures::sds::Sds;

/// The requests between MULTI and EXEC.
#[derive(Default)]
pub struct Transaction {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    requests: Vec<Queued>,
    /// Bytes of all large arguments.
    large_bytes: usize,
    /// Whether a request was refused, so that EXEC will run nothing.
    pub broken: bool,
    /// The database that the last queued SELECT will select, noted for users whose rules need it.
    pub selects: Option<u32>,
}

struct Queued {
    command: u16,
    bytes: Range<usize>,
    spans: Range<usize>,
    large: Vec<Arc<Sds>>,
}

impl Transaction {
    /// Adds a request for the command at index `command` of the command table.
    pub fn push(&mut self, command: u16, args: &Args<'_>) {
        let (bytes, spans, large) = args.parts();
        let queued = Queued {
            command,
            bytes: self.bytes.len()..self.bytes.len() + bytes.len(),
            spans: self.spans.len()..self.spans.len() + spans.len(),
            large: large.to_vec(),
        };
        self.large_bytes += large.iter().map(|string| string.allocated_bytes()).sum::<usize>();
        self.bytes.extend_from_slice(bytes);
        self.spans.extend_from_slice(spans);
        self.requests.push(queued);
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there are no requests.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The requests in order, each with the index of its command.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u16, Args<'_>)> {
        self.requests.iter().map(|queued| {
            let bytes = &self.bytes[queued.bytes.clone()];
            (queued.command, Args::new(bytes, &self.spans[queued.spans.clone()], &queued.large))
        })
    }

    /// Bytes of the requests. O(1).
    pub fn request_bytes(&self) -> usize {
        self.bytes.len() + self.large_bytes
    }

    /// Bytes allocated for the requests. O(1).
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.spans.capacity() * size_of::<Span>()
            + self.requests.capacity() * size_of::<Queued>()
            + self.large_bytes
    }
}
