//! Spinel: a Redis-compatible in-memory key-value server.
#![deny(unsafe_code)]

pub mod config;
pub mod stdx;
pub mod structures;
