//! The process: start, daemon, signals, crash report, watchdog.

pub mod check;
pub mod crash;
pub mod daemon;
pub mod startup;
pub mod version;
pub mod watchdog;
