//! A small HTTP server for those who watch the server: it answers GET and HEAD from one thread, and nothing that comes
//! from outside is without bound.
//!
//! - [`request`] reads requests, and [`response`] writes responses; neither knows a socket.
//! - [`connection`] is one connection as a machine: bytes and the time go in, bytes come out.
//! - [`server`] joins them with sockets.

pub mod connection;
pub mod request;
pub mod response;
pub mod server;
