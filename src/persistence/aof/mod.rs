//! The append-only file: every change, written down as the request that makes it.
//!
//! It is a directory of files. A *base* holds the data set at some moment, as a snapshot or as requests; *increments*
//! hold what happened since, each beginning when its base was begun; *history* files are superseded and wait to be
//! removed. The [`manifest`] says which file is which, and is replaced as a whole, so that whatever is cut off in
//! between leaves one state or the other. (The layout is Redis's since version 7.)
//!
//! [`log`] appends and syncs, [`read`] takes files apart into requests, [`rewrite`] writes a base as requests, [`check`]
//! tells whether files are whole.

pub mod check;
pub mod log;
pub mod manifest;
pub mod read;
pub mod rewrite;

pub use log::AofLog;
pub use manifest::Manifest;
