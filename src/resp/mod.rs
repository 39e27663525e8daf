//! The wire format, RESP2 and RESP3: requests in, replies out.
//!
//! Nothing here knows a socket or a command. [`request`] finds requests in bytes, [`args`] shows
//! a request as slices of those bytes, [`reply`] writes answers into a buffer that grows into a [`chain`], [`response`]
//! reads those of other servers, and [`error`] is the one place that turns what went wrong into the text a client reads.
#![warn(missing_docs)]

pub mod args;
pub mod chain;
pub mod error;
pub mod reply;
pub mod request;
pub mod response;

pub use args::Args;
pub use error::Error;
pub use reply::{Protocol, Replied, Reply};
