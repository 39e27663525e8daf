//! Reports to watchers: notifications, invalidations, published messages, monitors, slow commands.

mod advice;
pub mod metrics;
pub mod monitor;
pub mod notify;
pub mod observe;
mod page;
pub mod publish;
pub mod tracking;
