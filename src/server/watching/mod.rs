//! Reports to watchers: notifications, invalidations, published messages, monitors, slow commands, keys that cost most.

pub(in crate::server) mod advice;
pub mod hot_keys;
pub mod key_sizes;
pub mod metrics;
pub mod monitor;
pub mod notify;
pub mod observe;
mod page;
pub mod publish;
pub mod tracking;
mod watched_keys;
