//! Requests that wait for their client's turn, as the bytes that arrived.

use std::ops::Range;
use std::sync::Arc;

use crate::resp::Args;
use crate::resp::request::Span;
use crate::structures::sds::Sds;

/// Requests in the order in which they are to be run.
#[derive(Default)]
pub struct Held {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    requests: Vec<Request>,
}

struct Request {
    /// Place of the command in the command table; `None` where there is no such command.
    command: Option<u16>,
    bytes: Range<usize>,
    spans: Range<usize>,
    large: Vec<Arc<Sds>>,
}

impl Held {
    /// Keeps one more request.
    pub fn push(&mut self, command: Option<u16>, args: &Args<'_>) {
        let (bytes, spans, large) = args.parts();
        self.requests.push(Request {
            command,
            bytes: self.bytes.len()..self.bytes.len() + bytes.len(),
            spans: self.spans.len()..self.spans.len() + spans.len(),
            large: large.to_vec(),
        });
        self.bytes.extend_from_slice(bytes);
        self.spans.extend_from_slice(spans);
    }

    /// The requests in order, each with its command's place.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Option<u16>, Args<'_>)> {
        self.requests.iter().map(|request| {
            let bytes = &self.bytes[request.bytes.clone()];
            (request.command, Args::new(bytes, &self.spans[request.spans.clone()], &request.large))
        })
    }

    /// Bytes allocated for the requests.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.spans.capacity() * size_of::<Span>()
            + self.requests.capacity() * size_of::<Request>()
            + self.requests.iter().flat_map(|request| &request.large).map(|large| large.len()).sum::<usize>()
    }
}
