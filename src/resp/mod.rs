//! The wire format, RESP2 and RESP3: requests in, replies out.
//!
//! This room knows no sockets and no commands. [`request`] finds requests in bytes, [`args`] presents a request as
//! slices of those bytes, [`reply`] writes replies into a buffer that grows into a [`chain`], [`response`] reads
//! replies of other servers, and [`error`] defines the text of every error.
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
