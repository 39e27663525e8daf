//! Keeping the data: the append-only file, snapshots by child processes, loading, shutdown.

pub mod aof;
pub mod child;
pub mod incoming;
pub mod load;
pub mod persistence;
pub mod shutdown;
