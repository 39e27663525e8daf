//! Spinel: a Redis-compatible in-memory key-value server.
#![deny(unsafe_code)]
pub mod stdx;

pub mod structures;

pub mod background;
pub mod resp;
pub mod stats;

pub mod types;

pub mod keyspace;

pub mod net;

pub mod config;

pub mod clients;

pub mod server;

pub mod commands;
