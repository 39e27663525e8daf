//! What the server tells about itself: counters, logs, latencies. It is told numbers and texts, and knows
//! neither who asks for them nor where they come from.

pub mod counters;
pub mod histogram;
pub mod info;
pub mod latency;
pub mod log;
pub mod slowlog;

pub use counters::{CommandStats, Stats};
