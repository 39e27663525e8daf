//! Hello messages: how Sentinels find each other, and how a new configuration spreads.
//!
//! ```text
//! ip,port,id,current epoch,primary's name,primary's ip,primary's port,configuration epoch
//! ```
//!
//! Each Sentinel publishes one every two seconds at every primary and replica, and sends it to the Sentinels it knows. It
//! is anybody who can publish there: a message is only believed as far as it names a primary that is watched.

use super::Machine;
use crate::sentinel::instance::{Address, InstanceId};
use crate::stats::log::Level;
use crate::stdx::num::{parse_i64, parse_u64};

/// Longest ID of a Sentinel that is accepted; those of Sentinels have 40 digits.
const MAX_ID: usize = 64;

/// A message, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Hello<'a> {
    host: &'a str,
    port: u16,
    id: &'a str,
    current_epoch: u64,
    primary: &'a str,
    primary_host: &'a str,
    primary_port: u16,
    config_epoch: u64,
}

fn port(text: &str) -> Option<u16> {
    u16::try_from(parse_i64(text.as_bytes())?).ok()
}

fn parse(text: &[u8]) -> Option<Hello<'_>> {
    let text = std::str::from_utf8(text).ok()?;
    let parts: Vec<&str> = text.split(',').take(9).collect();
    let [host, own_port, id, current_epoch, primary, primary_host, primary_port, config_epoch] = parts[..]
    else {
        return None;
    };
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_word(host) || !is_word(id) || id.len() > MAX_ID || !is_word(primary_host) {
        return None;
    }
    Some(Hello {
        host,
        port: port(own_port)?,
        id,
        current_epoch: parse_u64(current_epoch.as_bytes())?,
        primary,
        primary_host,
        primary_port: port(primary_port)?,
        config_epoch: parse_u64(config_epoch.as_bytes())?,
    })
}

impl Machine {
    /// A message has arrived, by an instance or directly from a Sentinel.
    pub fn hello(&mut self, text: &[u8], now: i64) {
        let Some(hello) = parse(text).filter(|hello| hello.id != self.id) else { return };
        let Some(primary) = self.find_primary(hello.primary) else { return };
        let Some(address) = self.locate(hello.host, hello.port) else { return };
        let sentinel = self.greeted_by(primary, hello.id, address, now);
        self.note_epoch(primary, hello.current_epoch);
        if let Some(sentinel) = sentinel {
            if self[primary].config_epoch < hello.config_epoch {
                self.update_from(primary, sentinel, &hello, now);
            }
            // Changing what is watched keeps the Sentinels.
            if let Some(sentinel) = self.instances.get_mut(&sentinel) {
                sentinel.hello_at = now;
            }
        }
    }

    /// The Sentinel of this ID at this address. What else was known by the ID or at the address is forgotten.
    fn greeted_by(
        &mut self,
        primary: InstanceId,
        id: &str,
        address: Address,
        now: i64,
    ) -> Option<InstanceId> {
        let sentinels = self.watch(primary)?.sentinels.clone();
        let has_id = |id_of: InstanceId| self[id_of].run_id.as_deref() == Some(id);
        let known =
            sentinels.iter().copied().find(|&other| has_id(other) && self[other].address.is_same(&address));
        if known.is_some() {
            return known;
        }
        let moved: Vec<InstanceId> = sentinels.iter().copied().filter(|&other| has_id(other)).collect();
        if moved.is_empty() {
            let other = sentinels.iter().copied().find(|&other| self[other].address.is_same(&address));
            if let Some(other) = other {
                // Another one was there before: it is elsewhere now, or gone.
                self.event_about(Level::Notice, "+sentinel-invalid-addr", other, "");
                let gone = Address { port: 0, ..address.clone() };
                self.move_sentinel(other, &gone);
            }
        } else {
            let text = format!(" ip {} port {} for {id}", address.host, address.port);
            self.event_about(Level::Notice, "+sentinel-address-switch", primary, text);
            for other in &moved {
                self.remove(*other);
            }
        }
        let added = self.add_sentinel(primary, id, address.clone(), now)?;
        if moved.is_empty() {
            self.event_about(Level::Notice, "+sentinel", added, "");
        } else {
            self.move_sentinel(added, &address);
        }
        self.save();
        Some(added)
    }

    /// Notes where a Sentinel is, with all primaries that it watches.
    fn move_sentinel(&mut self, id: InstanceId, address: &Address) {
        let Some(run_id) = self[id].run_id.clone() else { return };
        let same: Vec<InstanceId> = self
            .primaries
            .iter()
            .flat_map(|&primary| self[primary].watch.sentinels.clone())
            .filter(|&other| self[other].run_id.as_ref() == Some(&run_id))
            .collect();
        for other in same {
            if self[other].address != *address {
                self[other].address = address.clone();
                self.drop_connections(other);
            }
        }
    }

    /// Somebody knows a later epoch.
    pub(super) fn note_epoch(&mut self, primary: InstanceId, epoch: u64) {
        if epoch > self.current_epoch {
            self.current_epoch = epoch;
            self.save();
            self.event_of(Level::Warning, "+new-epoch", primary, epoch.to_string());
        }
    }

    /// A Sentinel knows a later configuration of a primary.
    fn update_from(&mut self, primary: InstanceId, sentinel: InstanceId, hello: &Hello<'_>, now: i64) {
        let Some(address) = self.locate(hello.primary_host, hello.primary_port) else { return };
        self[primary].config_epoch = hello.config_epoch;
        if self[primary].address.is_same(&address) || address.port == 0 {
            return;
        }
        self.event_about(Level::Warning, "+config-update-from", sentinel, "");
        let old = self[primary].address.clone();
        self.announce_switch(primary, &old, &address);
        self.change_address(primary, address.clone(), now);
        self.call_reconfig(primary, "observer", &old, &address);
    }

    /// Tells that the primary of this name is elsewhere from now on.
    pub(super) fn announce_switch(&mut self, primary: InstanceId, old: &Address, new: &Address) {
        let text = format!(
            "{} {} {} {} {}",
            self[primary].name,
            self.shown(old),
            old.port,
            self.shown(new),
            new.port
        );
        self.event_of(Level::Warning, "+switch-master", primary, text);
    }
}

#[cfg(test)]
mod parsing {
    use super::*;
    use crate::stdx::rng::Rng;

    const EXAMPLE: &[u8] =
        b"127.0.0.1,26379,dd873cb38fcb41be1a429e22cc047c4f1e66dfda,3,mymaster,127.0.0.1,6379,2";

    #[test]
    fn a_message_has_eight_parts() {
        let hello = parse(EXAMPLE).expect("a message");
        assert_eq!((hello.host, hello.port, hello.current_epoch), ("127.0.0.1", 26379, 3));
        assert_eq!((hello.primary, hello.primary_port, hello.config_epoch), ("mymaster", 6379, 2));
        for wrong in [&EXAMPLE[..40], b"", b",,,,,,,", &[EXAMPLE, b",9"].concat()] {
            assert_eq!(parse(wrong), None);
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_none() {
        let mut rng = Rng::new(3);
        let mut machine = super::super::tests::watching(1);
        for _ in 0..20_000 {
            let mut text = EXAMPLE.to_vec();
            for _ in 0..rng.below(4) {
                let at = rng.index(text.len());
                text[at] = b",0129.-:\xff "[rng.index(10)];
            }
            machine.hello(&text, 1);
        }
        assert!(machine.instances.len() < 5000, "what is not watched is ignored, and Sentinels are limited");
    }
}
