//! Where a request belongs: to this node of a cluster, or to another one that the client is redirected to.
//!
//! A request belongs to the owner of the slot that all of its keys are in. While a slot moves from one node to another,
//! key by key, the old owner serves the keys that it still has and sends clients to the new one for the others (ASK),
//! and the new one serves those who were sent (ASKING). A transaction belongs where its keys do: each request is
//! judged when it is queued, and all together when they are to run.

use crate::clients::{ClientFlags, ClientKey};
use crate::cluster::nodes::{NodeKey, Nodes};
use crate::cluster::slot::Slot;
use crate::config::value::EndpointType;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Begin, CommandId, Find, Flags, KeyFlags, KeySpec, Spec};
use crate::stdx::hash::{self, Key};

/// Why a request cannot be served here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::server) enum Redirect {
    /// The slot is another node's.
    Moved(Slot, NodeKey),
    /// The keys may have been moved to another node, which will get the slot.
    Ask(Slot, NodeKey),
    /// Some of the keys are elsewhere.
    TryAgain,
    /// The keys are in different slots.
    CrossSlot,
    /// The slot is nobody's.
    Unbound,
    /// The cluster does not work.
    Down,
    /// The cluster does not work, and answers nothing but reads.
    DownForWrites,
}

/// What the keys of a request, or of all requests of a transaction, tell about where it belongs.
struct Place<'a> {
    nodes: &'a Nodes,
    /// The slot, its owner and the first key; nothing before the first key.
    first: Option<(Slot, NodeKey, &'a [u8])>,
    /// Whether there are different keys.
    several: bool,
    /// Whether this node's slot is being moved away.
    migrating: bool,
    /// Whether another node's slot is being moved here.
    importing: bool,
    /// Number of keys that are here, while the slot is being moved.
    present: usize,
    /// Number of keys that are not here, while the slot is being moved.
    missing: usize,
}

impl<'a> Place<'a> {
    /// Takes note of a key. `exists` says whether it is here.
    ///
    /// # Errors
    /// It is in another slot than the first one, or in nobody's.
    fn add(&mut self, key: &'a [u8], slot: Slot, exists: impl FnOnce() -> bool) -> Result<(), Redirect> {
        match self.first {
            None => {
                let owner = self.nodes.owner(slot).ok_or(Redirect::Unbound)?;
                self.first = Some((slot, owner, key));
                self.migrating = owner == self.nodes.me() && self.nodes.migrating_to(slot).is_some();
                self.importing = !self.migrating && self.nodes.importing_from(slot).is_some();
            }
            Some((first, ..)) if first != slot => return Err(Redirect::CrossSlot),
            Some((.., first)) => self.several |= first != key,
        }
        if self.migrating || self.importing {
            if exists() {
                self.present += 1;
            } else {
                self.missing += 1;
            }
        }
        Ok(())
    }
}

/// Calls `each` for the arguments that decide where a request belongs: keys, and channels that are in slots as keys are.
fn each_slotted(spec: &Spec, args: &Args<'_>, each: &mut dyn FnMut(usize)) {
    if spec.find_keys.is_some() {
        spec.each_key(args, &mut |i, _| each(i));
        return;
    }
    for keys in spec.keys {
        keys.positions(args, &mut *each);
    }
}

/// The slot of a request's keys, or of its channels if these are in slots; the first one's, if they are in several.
pub(in crate::server) fn slot_of(spec: &Spec, args: &Args<'_>) -> Option<Slot> {
    let mut slot = None;
    each_slotted(spec, args, &mut |i| slot = slot.or_else(|| args.get(i).map(Slot::of)));
    slot
}

/// Whether a command is about channels that are in slots as keys are.
fn is_about_channels(spec: &Spec) -> bool {
    spec.channels.is_some() && !spec.keys.is_empty()
}

/// The first of the keys, if there can be only one, and its place never changes.
pub(super) fn only_key(spec: &Spec) -> Option<usize> {
    // With variable flags, the request decides what happens to the key, but not where it is.
    let is_fixed = |only: &KeySpec| spec.find_keys.is_none() || only.flags.has(KeyFlags::VARIABLE_FLAGS);
    match spec.keys {
        [only] if is_fixed(only) && !only.flags.has(KeyFlags::NOT_KEY) => match (only.begin, only.find) {
            (Begin::Index(at), Find::Range { last: 0, .. }) => Some(usize::from(at)),
            _ => None,
        },
        _ => None,
    }
}

impl Server {
    /// Whether the only key of a request is in a slot that this node owns and is not moving, while the cluster works: what
    /// is true of nearly all requests, and quickly known. The slot was noted in the key's hash before.
    #[inline]
    pub(in crate::server) fn is_at_home(&self, args: &Args<'_>) -> bool {
        let Some(cluster) = &self.cluster else { return true };
        let Some(slot) = args.known_hash().and_then(hash::note_in) else { return false };
        let (slot, nodes) = (Slot::from_low_bits(u64::from(slot)), &cluster.machine.nodes);
        nodes.ok && nodes.is_mine(slot) && nodes.migrating_to(slot).is_none()
    }

    /// Checks whether a request of a client can be served here; the slot of its keys, if it has any.
    ///
    /// # Errors
    /// Why it cannot.
    pub(in crate::server) fn locate(
        &self,
        key: ClientKey,
        spec: &Spec,
        args: &Args<'_>,
    ) -> Result<Option<Slot>, Redirect> {
        let Some(cluster) = &self.cluster else { return Ok(None) };
        let client = &self.clients[key];
        let ends_multi = spec.flags.has(Flags::ENDS_MULTI);
        let Some(transaction) = client.transaction.as_ref().filter(|_| ends_multi) else {
            return self.locate_requests(
                key,
                spec,
                args,
                std::iter::once((spec, *args)),
                &cluster.machine.nodes,
            );
        };
        let queued = transaction.iter().map(|(id, args)| (self.commands.spec(CommandId(id)), args));
        self.locate_requests(key, spec, args, queued, &cluster.machine.nodes)
    }

    fn locate_requests<'a>(
        &'a self,
        key: ClientKey,
        spec: &Spec,
        args: &Args<'_>,
        requests: impl Iterator<Item = (&'a Spec, Args<'a>)>,
        nodes: &'a Nodes,
    ) -> Result<Option<Slot>, Redirect> {
        let client = &self.clients[key];
        let mut place = Place {
            nodes,
            first: None,
            several: false,
            migrating: false,
            importing: false,
            present: 0,
            missing: 0,
        };
        for (spec, args) in requests {
            let (mut outcome, channels) = (Ok(()), is_about_channels(spec));
            each_slotted(spec, &args, &mut |i| {
                if outcome.is_err() {
                    return;
                }
                let name = args.at(i);
                let slot = match args.hashed_key(i).and_then(Key::note) {
                    Some(slot) => Slot::from_low_bits(u64::from(slot)),
                    None => Slot::of(name),
                };
                // Channels do not move with the keys.
                let exists = || channels || self.keyspace.kind_of(client.db as usize, args.key(i)).is_some();
                outcome = place.add(name, slot, exists);
            });
            outcome?;
        }
        let Some((slot, owner, _)) = place.first else { return Ok(None) };
        let (flags, channels) = (self.flags_of(spec, args), is_about_channels(spec));
        let options = &self.config.cluster;
        if !nodes.ok {
            if channels {
                if !options.allow_pubsubshard_when_down {
                    return Err(Redirect::Down);
                }
            } else if !options.allow_reads_when_down {
                return Err(Redirect::Down);
            } else if flags.has(Flags::WRITE) {
                return Err(Redirect::DownForWrites);
            }
        }
        if (place.migrating || place.importing) && spec.flags.has(Flags::IN_OPEN_SLOT) {
            return Ok(Some(slot));
        }
        if place.migrating
            && place.missing > 0
            && let Some(to) = nodes.migrating_to(slot)
        {
            return Err(if place.present > 0 { Redirect::TryAgain } else { Redirect::Ask(slot, to) });
        }
        let asking = client.flags.has(ClientFlags::ASKING) || spec.flags.has(Flags::ASKING);
        if place.importing && asking {
            return if place.several && place.missing > 0 { Err(Redirect::TryAgain) } else { Ok(Some(slot)) };
        }
        let reads_copies = client.flags.has(ClientFlags::READS_COPIES) || channels;
        if reads_copies && self.copies(nodes, owner) && !self.would_write(key, spec, flags) {
            return Ok(Some(slot));
        }
        if owner == nodes.me() { Ok(Some(slot)) } else { Err(Redirect::Moved(slot, owner)) }
    }

    /// Whether this node is a replica of another one.
    fn copies(&self, nodes: &Nodes, primary: NodeKey) -> bool {
        nodes.myself().is_replica() && nodes.myself().primary() == Some(primary)
    }

    /// The error that tells a client where to go, or why it need not go anywhere.
    pub(in crate::server) fn redirection(&self, key: ClientKey, why: Redirect) -> Error {
        let (word, slot, node) = match why {
            Redirect::Moved(slot, node) => ("MOVED", slot, node),
            Redirect::Ask(slot, node) => ("ASK", slot, node),
            Redirect::TryAgain => {
                return Error::text("TRYAGAIN Multiple keys request during rehashing of slot");
            }
            Redirect::CrossSlot => {
                return Error::text("CROSSSLOT Keys in request don't hash to the same slot");
            }
            Redirect::Unbound => return Error::text("CLUSTERDOWN Hash slot not served"),
            Redirect::Down => return Error::text("CLUSTERDOWN The cluster is down"),
            Redirect::DownForWrites => {
                return Error::text("CLUSTERDOWN The cluster is down and only accepts read commands");
            }
        };
        let Some(cluster) = &self.cluster else { return Error::text("CLUSTERDOWN The cluster is down") };
        let node = &cluster.machine.nodes[node];
        let endpoint = match self.config.cluster.preferred_endpoint_type {
            EndpointType::Ip => &*node.ip,
            EndpointType::Hostname if node.hostname.is_empty() => "?",
            EndpointType::Hostname => &*node.hostname,
            EndpointType::Unknown => "",
        };
        let port = node.client_port(self.uses_tls(key));
        Error::text(format!("{word} {slot} {endpoint}:{port}"))
    }

    /// Whether a client's connection is encrypted, so that it is told of ports for such.
    pub fn uses_tls(&self, key: ClientKey) -> bool {
        self.clients[self.on_behalf_of(key)].io.peer.is_secure()
    }

    /// Why a client that waits for keys would wait in vain; `None` if they are, or will be, this node's.
    pub(in crate::server) fn redirect_of_waiting(
        &self,
        key: ClientKey,
        spec: &Spec,
        keys: &Args<'_>,
    ) -> Option<Redirect> {
        let nodes = &self.cluster.as_ref()?.machine.nodes;
        if !nodes.ok {
            return Some(Redirect::Down);
        }
        let client = &self.clients[key];
        let reads = client.flags.has(ClientFlags::READS_COPIES) && !spec.flags.has(Flags::WRITE);
        keys.iter().map(Slot::of).find_map(|slot| match nodes.owner(slot) {
            _ if nodes.importing_from(slot).is_some() => None,
            None => Some(Redirect::Unbound),
            Some(owner) if owner == nodes.me() || (reads && self.copies(nodes, owner)) => None,
            Some(owner) => Some(Redirect::Moved(slot, owner)),
        })
    }

    /// Judges a command of a script by the slots of its keys.
    ///
    /// # Errors
    /// It cannot be served here, or its keys are not in the slot of those before.
    pub(in crate::server) fn check_slots_in_script(
        &mut self,
        key: ClientKey,
        spec: &Spec,
        args: &Args<'_>,
        allow_cross_slot: bool,
    ) -> Result<(), Error> {
        let slot = self.locate(key, spec, args).map_err(|why| {
            Error::text(match why {
                Redirect::DownForWrites => {
                    "ERR Script attempted to execute a write command while the cluster is down and readonly"
                        .into()
                }
                Redirect::Down => {
                    "ERR Script attempted to execute a command while the cluster is down".to_owned()
                }
                Redirect::CrossSlot => format!(
                    "ERR Command '{}' in script attempted to access keys that don't hash to the same slot",
                    spec.name
                ),
                Redirect::Moved(..) | Redirect::Ask(..) | Redirect::TryAgain | Redirect::Unbound => {
                    "ERR Script attempted to access a non local key in a cluster node".into()
                }
            })
        })?;
        match slot {
            Some(slot) if !allow_cross_slot && !self.scripts.stays_in(slot) => {
                Err(Error::text("ERR Script attempted to access keys that do not hash to the same slot"))
            }
            _ => Ok(()),
        }
    }
}
