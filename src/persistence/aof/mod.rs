//! The append-only file: every change, recorded as the request that makes it.
//!
//! It is a directory of files. A *base* holds the data set at some moment, as a snapshot or as requests. *Increments*
//! hold the changes since, each from the moment its base was begun. *History* files are superseded and wait to be
//! removed. The [`manifest`] lists the files and is replaced as a whole, so that an interruption leaves either the
//! old state or the new one. (The layout is that of Redis 7.)
//!
//! [`log`] appends and syncs, [`read`] splits files into requests, [`rewrite`] writes a base as requests, [`check`]
//! examines whether files are whole.

pub mod check;
pub mod log;
pub mod manifest;
pub mod read;
pub mod rewrite;

pub use log::AofLog;
pub use manifest::Manifest;
