//! Slots of another node come here: what the source sends is applied as the requests of a client that gets no replies.
//!
//! That client may do nothing but change keys of these slots. Whatever else it asks for ends the migration.

use super::all_owned;
use crate::clients::{ClientFlags, ClientKey, ReplyMode};
use crate::cluster::migration::import::{Import, Next};
use crate::cluster::migration::{Outcome, State, Word};
use crate::cluster::nodes::NodeId;
use crate::cluster::slot::Slot;
use crate::cluster::slots::SlotSet;
use crate::keyspace::{Sink, Suspend};
use crate::persistence::rdb::SlotImport;
use crate::resp::request::{self, write_request};
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::cluster::now;
use crate::server::command::{Flags, Spec};
use crate::server::execution::Origin;
use crate::server::execution::admission::Conditions;
use crate::server::execution::call::Batch;

/// Keys that are removed in one turn of the loop.
const REMOVED_PER_TURN: usize = 1000;

const LOST: &str =
    "Connection lost to source. Check CLUSTER GETSLOTMIGRATIONS on the source node for more information.";

/// A migration to here, or to the primary that is copied.
pub(super) struct Importing {
    pub(super) machine: Import,
    /// The source; `None` if its connection is gone, and for a migration to the primary.
    pub(super) client: Option<ClientKey>,
    /// Whether it was heard of from a primary, or from a file.
    pub(super) follows: bool,
    /// What is to be said.
    says: Vec<Word>,
}

impl Server {
    /// Another node would move slots here; false if this was only heard of, so that nobody waits for a reply.
    ///
    /// # Errors
    /// It cannot.
    pub fn establish_import(
        &mut self,
        key: ClientKey,
        source: NodeId,
        name: NodeId,
        slots: SlotSet,
    ) -> Result<bool, Error> {
        let now = now();
        let Some(cluster) = &mut self.cluster else { return Ok(false) };
        let nodes = &cluster.machine.nodes;
        let me = nodes.my_primary().map_or(nodes.myself().id, |primary| nodes[primary].id);
        let ends = (source, me);
        let imports = &mut cluster.migrations.imports;
        if self.execution.origin.repeats() {
            if imports.iter().all(|import| import.machine.job.name != name) {
                let machine = Import::of_primary(name, ends, slots, now);
                imports.push(Importing { machine, client: None, follows: true, says: Vec::new() });
                self.feed_migrations();
                self.hide_foreign_slots();
            }
            return Ok(false);
        }
        if self.execution.depth > 0 {
            return Err(Error::text(
                "ERR CLUSTER SYNCSLOTS ESTABLISH is not allowed inside a transaction or script",
            ));
        }
        if !nodes.myself().is_primary() {
            return Err(Error::text("ERR Slot migration can only be used on primary nodes."));
        }
        let Some(owner) = nodes.find(&source) else {
            return Err(Error::text("ERR Target node does not know the source node"));
        };
        if owner == nodes.me() {
            return Err(Error::text("ERR Source node is target node itself"));
        }
        if !all_owned(nodes, &slots, Some(owner)) {
            return Err(Error::text("ERR Target node does not agree about current slot ownership"));
        }
        let taken = |slot| imports.iter().any(|import| import.machine.job.slots.contains(slot));
        if slots.iter().any(taken) || imports.iter().any(|import| import.machine.job.name == name) {
            return Err(Error::text(
                "ERR Slot is already being imported on the target by a different migration",
            ));
        }
        if slots.iter().any(|slot| nodes.importing_from(slot).is_some()) {
            return Err(Error::text("ERR Slots are being manually migrated"));
        }
        let machine = Import::new(name, ends, slots.clone(), now);
        tracing::info!("New slot import job created: {}.", machine.job.describe());
        imports.push(Importing { machine, client: Some(key), follows: false, says: Vec::new() });
        // What an earlier attempt may have left behind is not part of the data.
        self.end_leftovers(&slots);
        self.feed_migrations();
        self.hide_foreign_slots();
        let client = &mut self.clients[key];
        client.flags.set(ClientFlags::IMPORTS, true);
        client.reply_mode = ReplyMode::Off;
        self.write_raw(key, b"+OK\r\n");
        Ok(true)
    }

    /// Adds a request about a migration to what copies of the data get, as it came.
    pub fn tell_copies_of_migration(&mut self, args: &Args<'_>) {
        if self.keyspace.ledger.listeners.feeds() {
            const COPIES: u8 = Sink::Log as u8 | Sink::Backlog as u8;
            self.execution.unit.push_requests(0, 1, COPIES, |out| write_request(out, args.iter()));
            self.execution.unit_pending = true;
        }
    }

    /// The source says something.
    ///
    /// # Errors
    /// Whoever says it is no source.
    pub fn hear_source(&mut self, key: ClientKey, word: Word) -> Result<(), Error> {
        if self.execution.origin.repeats() && !self.clients[key].flags.has(ClientFlags::IMPORTS) {
            return Ok(());
        }
        let (limits, now) = (self.migration_limits(), now());
        let next = match self.importing(key) {
            Some(import) => import.machine.heard(word, &limits, now),
            None => {
                return Err(Error::text(format!(
                    "ERR CLUSTER SYNCSLOTS {} should only be used by slot migration clients",
                    word.name()
                )));
            }
        };
        match next {
            Next::Nothing => {}
            Next::Say(word) => {
                if let Some(import) = self.importing(key) {
                    import.says.push(word);
                }
            }
            Next::Take => self.take_granted_slots(key),
        }
        Ok(())
    }

    /// The source says something that it cannot mean.
    ///
    /// # Errors
    /// Whoever says it is no source.
    pub fn hear_nonsense(&mut self, key: ClientKey) -> Result<(), Error> {
        match self.importing(key) {
            Some(import) => {
                import.machine.fail(Outcome::Failed, "Unknown SYNCSLOTS subcommand used", now());
                Ok(())
            }
            None => Err(Error::Syntax),
        }
    }

    fn take_granted_slots(&mut self, key: ClientKey) {
        let Some(import) = self.importing(key) else { return };
        let (slots, source) = (import.machine.job.slots.clone(), import.machine.job.source);
        let taken = self.cluster_change(|machine, local| machine.take_granted(&slots, source, local));
        let Some(import) = self.importing(key) else { return };
        match taken {
            Some(Ok(())) => {
                import.machine.taken(now());
                tracing::info!(
                    "Slot migration {} completed successfully. This node is now the owner of the slots",
                    import.machine.job.describe()
                );
            }
            Some(Err(refused)) => import.machine.fail(Outcome::Failed, &refused.to_string(), now()),
            None => {}
        }
        self.hide_foreign_slots();
    }

    fn importing(&mut self, key: ClientKey) -> Option<&mut Importing> {
        let imports = &mut self.cluster.as_mut()?.migrations.imports;
        imports.iter_mut().find(|import| import.client == Some(key))
    }

    /// A migration of the primary that is copied has ended there.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn finish_import(&mut self, name: &NodeId, outcome: Outcome, why: &str) -> Result<(), Error> {
        let repeats = self.execution.origin.repeats();
        let found = self.cluster.as_mut().and_then(|cluster| {
            let imports = &mut cluster.migrations.imports;
            imports.iter_mut().find(|import| import.follows && import.machine.job.name == *name)
        });
        match found {
            Some(import) if repeats => {
                import.machine.ended_at_primary(outcome, why, now());
                self.hide_foreign_slots();
                Ok(())
            }
            _ if repeats => Ok(()),
            _ => Err(Error::text("ERR No such slot migration job")),
        }
    }

    /// Migrations that a snapshot was written during. What is known of others from a primary or a file is forgotten: the
    /// data are others.
    pub(in crate::server) fn adopt_imports(&mut self, known: &[SlotImport]) {
        let now = now();
        let Some(cluster) = &mut self.cluster else { return };
        let nodes = &cluster.machine.nodes;
        let me = nodes.my_primary().map_or(nodes.myself().id, |primary| nodes[primary].id);
        let mut found = Vec::new();
        for SlotImport { name, ranges } in known {
            let mut slots = SlotSet::default();
            for &(first, last) in ranges {
                let (Some(first), Some(last)) = (Slot::new(first.into()), Slot::new(last.into())) else {
                    continue;
                };
                for slot in first.to(last) {
                    slots.insert(slot);
                }
            }
            // A node that has just joined may not know the source yet.
            let owner = slots.iter().next().and_then(|slot| nodes.owner(slot));
            let source = owner.map(|owner| nodes[owner].id).or(NodeId::parse(&[b'0'; 40]));
            if let (Some(name), Some(source)) = (NodeId::parse(name), source) {
                found.push((name, source, slots));
            }
        }
        let imports = &mut cluster.migrations.imports;
        imports.retain(|import| {
            !import.follows || found.iter().any(|(name, ..)| *name == import.machine.job.name)
        });
        for (name, source, slots) in found {
            // A node that has taken the slots meanwhile has them.
            if source != me && imports.iter().all(|import| import.machine.job.name != name) {
                let machine = Import::of_primary(name, (source, me), slots, now);
                imports.push(Importing { machine, client: None, follows: true, says: Vec::new() });
            }
        }
        self.feed_migrations();
        self.hide_foreign_slots();
    }

    /// With the data loaded at the start: a primary does not go on with migrations that were under way when they were
    /// saved. What there is of slots that it does not own is removed.
    pub(in crate::server) fn abandon_imports(&mut self) {
        let copies = self.is_cluster_replica();
        let Some(cluster) = &mut self.cluster else { return };
        let nodes = &cluster.machine.nodes;
        let mut foreign = Vec::new();
        for import in cluster.migrations.imports.iter_mut().filter(|import| import.follows && !copies) {
            if all_owned(nodes, &import.machine.job.slots, Some(nodes.me())) {
                import.machine.ended_at_primary(Outcome::Success, "", now());
            } else {
                import.machine.ended_at_primary(Outcome::Failed, "The server was restarted", now());
                foreign.push(import.machine.job.slots.clone());
            }
            // Copies of the data are told how it ended.
            import.follows = false;
        }
        for slots in foreign {
            self.drop_slot_keys(&slots);
        }
        self.hide_foreign_slots();
    }

    /// The migrations that a snapshot is written during: names and ranges of slots.
    pub(in crate::server) fn saved_imports(&self) -> Vec<SlotImport> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let jobs = cluster.migrations.imports.iter().map(|import| &import.machine.job);
        jobs.filter(|job| !job.is_over())
            .map(|job| {
                let ranges = job.slots.ranges().map(|(first, last)| (first.number(), last.number()));
                SlotImport { name: job.name.as_bytes().to_vec(), ranges: ranges.collect() }
            })
            .collect()
    }

    /// Applies the requests that have arrived from a source.
    pub(in crate::server) fn apply_import(&mut self, key: ClientKey) {
        if self.conditions.has(Conditions::BUSY) || self.pause.is_active() {
            // Data do not change now. At the end of a pause this goes on.
            if self.conditions.has(Conditions::BUSY) {
                self.read_soon(key);
            }
            return;
        }
        let mut batch = Batch::default();
        let outer = std::mem::replace(&mut self.execution.origin, Origin::Import);
        self.keyspace.suspend_expiry(Suspend::Stream, true);
        let mut received = 0;
        let malformed = loop {
            let limits = request::Limits {
                max_bulk: self.config.limits.proto_max_bulk_len as usize,
                ..request::Limits::default()
            };
            let Some(client) = self.clients.get_mut(key).filter(|client| !client.is_closing()) else {
                break None;
            };
            let input = &mut client.io.input;
            let before = input.pos;
            match input.decoder.next(&mut input.buf, &mut input.pos, &mut batch.spans, &limits) {
                Ok(None) => break None,
                Ok(Some(frame)) => {
                    received += input.pos.saturating_sub(before)
                        + frame.large().iter().map(|large| large.len()).sum::<usize>();
                    let barrier = self.enqueue(&mut batch, key, frame);
                    if barrier || batch.is_full() {
                        self.run_batch(&mut batch);
                    }
                }
                Err(error) => break Some(error),
            }
        };
        if !batch.pending.is_empty() {
            self.run_batch(&mut batch);
        }
        self.keyspace.suspend_expiry(Suspend::Stream, false);
        self.execution.origin = outer;
        if let Some(client) = self.clients.get_mut(key) {
            client.io.input.release(&mut self.pool, true);
        }
        if malformed.is_some() {
            self.import_failed(key, "The source does not speak the protocol");
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.migrations.imported_bytes += received as u64;
        }
        if let Some(import) = self.importing(key) {
            import.machine.note_request(now());
        }
    }

    /// Whether a source may ask for this: a change of keys in its slots, or what surrounds such changes.
    ///
    /// # Errors
    /// It may not.
    pub(in crate::server) fn check_import(
        &mut self,
        key: ClientKey,
        spec: &Spec,
        args: &Args<'_>,
    ) -> Result<(), Error> {
        let closing = match self.importing(key) {
            Some(import) => import.machine.is_closing(),
            None => true,
        };
        let flags = self.flags_of(spec, args);
        if self.conditions.has(Conditions::MAXMEMORY) && self.lacks_memory(key, flags) {
            self.import_failed(key, "Ran out of memory (OOM) during slot import");
            return Err(Error::OutOfMemory);
        }
        if spec.flags.has(Flags::LOGGED) && !closing {
            return Ok(());
        }
        let Some(import) = self.importing(key).filter(|_| !closing && spec.flags.has(Flags::WRITE)) else {
            return Err(Error::text("ERR Not a request of a slot migration"));
        };
        let (mut keys, mut foreign) = (0, false);
        let complete = spec.each_key(args, &mut |i, _| {
            keys += 1;
            foreign |= !import.machine.job.slots.contains(Slot::of(args.at(i)));
        });
        if complete && keys > 0 && !foreign {
            Ok(())
        } else {
            Err(Error::text("ERR A key is not in the slots that are being migrated"))
        }
    }

    /// What a source sent cannot be applied.
    #[cold]
    pub(in crate::server) fn import_failed(&mut self, key: ClientKey, why: &str) {
        if let Some(import) = self.importing(key) {
            import.machine.fail(Outcome::Failed, why, now());
        }
    }

    /// The connection of a source is gone.
    pub(in crate::server) fn import_lost(&mut self, key: ClientKey) {
        if self.clients[key].flags.has(ClientFlags::IMPORTS)
            && let Some(import) = self.importing(key)
        {
            import.machine.fail(Outcome::Failed, LOST, now());
            import.client = None;
        }
    }

    /// Says what is to be said, notes who is silent, and removes what is left of migrations that have failed.
    pub(super) fn serve_imports(&mut self) {
        let (limits, now) = (self.migration_limits(), now());
        let Some(cluster) = &mut self.cluster else { return };
        let (mut said, mut unclean) = (Vec::new(), None);
        for (place, import) in cluster.migrations.imports.iter_mut().enumerate() {
            import.machine.tick(&limits, now);
            if let Some(key) = import.client {
                said.extend(import.says.drain(..).map(|word| (key, word)));
            }
            if let State::CleaningUp(_) = import.machine.job.state {
                unclean = Some((place, import.machine.job.slots.clone()));
            }
        }
        for (key, word) in said {
            let mut request = Vec::new();
            let words: [&[u8]; 3] = [b"CLUSTER", b"SYNCSLOTS", word.name().as_bytes()];
            write_request(&mut request, words.into_iter());
            self.write_raw(key, &request);
        }
        if let Some((place, slots)) = unclean
            && !self.pause.is_active()
            && self.drop_some_slot_keys(&slots, REMOVED_PER_TURN) == 0
            && let Some(cluster) = &mut self.cluster
        {
            cluster.migrations.imports[place].machine.cleaned(now);
        }
    }
}

impl Server {
    /// The connections of nodes that move slots here.
    pub(in crate::server) fn import_clients(&self) -> Vec<ClientKey> {
        let imports = self.cluster.iter().flat_map(|cluster| &cluster.migrations.imports);
        imports.filter_map(|import| import.client).collect()
    }

    /// Bytes that are kept for migrations to here.
    pub fn import_memory(&self) -> usize {
        let clients = self.import_clients();
        clients
            .iter()
            .filter_map(|&key| self.clients.get(key))
            .map(|client| client.io.input.allocated() + client.io.output.allocated())
            .sum()
    }
}
