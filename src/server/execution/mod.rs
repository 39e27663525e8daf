//! Running commands: what may run, the one way a command is run, transactions, blocking, and what is passed on.

pub mod admission;
pub mod blocking;
pub mod call;
pub mod feed;
pub mod pause;
pub mod propagate;
pub mod transaction;
pub mod users;
