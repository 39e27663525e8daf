//! Sentinel: watches over primaries, agrees with other Sentinels that one is down, and has a replica take its place.
//!
//! - [`instance`]: what is known of a primary, a replica or another Sentinel, and of the connections to it;
//! - [`machine`]: what follows from what is heard, and from time;
//! - [`scripts`]: the queue of scripts that users have called at events;
//! - [`conf`]: the `sentinel` directives of the configuration file, which is also where the state is kept.
//!
//! A machine has neither sockets nor a clock: it is told what has arrived, and what time it is, and says what to do as
//! [`Action`](machine::Action)s. The time is that of the wall clock in milliseconds, because a jump of that clock is what
//! TILT mode is about.
#![warn(missing_docs)]

pub mod conf;
pub mod instance;
pub mod machine;
pub mod scripts;

/// The channel on which Sentinels find each other.
pub const HELLO_CHANNEL: &[u8] = b"__sentinel__:hello";
