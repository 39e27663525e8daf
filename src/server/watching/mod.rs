//! Reports to watchers: notifications, invalidations, published messages, monitors, slow commands.

pub mod monitor;
pub mod notify;
pub mod observe;
pub mod publish;
pub mod tracking;
