//! Statistics that the server reports: counters, logs, latencies. This room receives numbers and texts; it knows
//! neither where they come from nor who asks for them.
#![warn(missing_docs)]

pub mod advice;
pub mod counters;
pub mod histogram;
pub mod info;
pub mod latency;
pub mod log;
pub mod metrics;
pub mod progress;
pub mod slowlog;
pub mod space_saving;

pub use counters::{CommandStats, Stats};
