//! A network of Sentinels.

use super::*;

/// A Sentinel that watches one primary.
pub(super) fn watching(seed: u64) -> Machine {
    let mut machine = Machine::new(Rng::new(seed));
    machine.ensure_id();
    let address = Address { host: "127.0.0.1".to_owned(), ip: "127.0.0.1".to_owned(), port: 6379 };
    machine.monitor("mymaster", address, 2, 1).expect("a new name");
    machine
}
