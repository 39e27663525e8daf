//! Spinel: a Redis-compatible in-memory key-value server.
#![deny(unsafe_code)]

pub mod background;
pub mod net;
pub mod stats;
pub mod stdx;
pub mod structures;
