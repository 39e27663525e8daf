//! The wire format: bytes to arguments, values to replies.
//!
//! The room knows no socket and no command. Whatever bytes it is given, split wherever they may be, it
//! answers with requests or with an error: it never panics, and never holds more than what it was given
//! calls for.
pub mod request;
