//! A stream out of parts that come from outside: whatever is wrong in them is refused.
//!
//! The versions of the file format differ only in which parts there are, so that the reader of files calls what it
//! finds, in the order in which files have it.

use super::group::{ConsumerId, Group};
use super::id::StreamId;
use super::log::Log;
use super::node::{Node, NodeError};
use super::pending::{Owner, Pending};
use super::sorted::Keyed;
use super::{Idempotency, Inner, Stream};

/// Why parts make no stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoadError {
    /// A node is no valid listpack.
    #[error("a stream node is no valid listpack")]
    Listpack,
    /// A node has not the form of a stream node, or its counts are wrong.
    #[error("a stream node has not its form")]
    NodeForm,
    /// Ids do not ascend inside a node, or from node to node.
    #[error("stream ids do not ascend")]
    Order,
    /// The entries are not as many as said.
    #[error("the length of a stream is wrong")]
    Length,
    /// An entry has a greater id than the last one.
    #[error("the last id of a stream is smaller than that of an entry")]
    LastId,
    /// Two groups of a stream have one name.
    #[error("a group occurs twice")]
    DuplicateGroup,
    /// Two consumers of a group have one name.
    #[error("a consumer occurs twice")]
    DuplicateConsumer,
    /// An id is pending twice in a group.
    #[error("a pending entry occurs twice")]
    DuplicatePending,
    /// A consumer has an id that is not pending in its group.
    #[error("an entry is pending for a consumer and not for its group")]
    NotPending,
    /// Two consumers have one pending entry, or one has it that was given back.
    #[error("a pending entry belongs to two")]
    TwoOwners,
    /// Nobody has a pending entry that was not given back.
    #[error("a pending entry belongs to nobody")]
    NoOwner,
    /// A part came before the one that it belongs to.
    #[error("a part of a stream is out of place")]
    OutOfPlace,
    /// An idempotency id stands for two entries, or its limits are zero.
    #[error("an idempotency id is wrong")]
    Idempotency,
}

/// Puts a stream together. Parts come in the order of the methods; each group before its pending entries, these before
/// its consumers, each of these before its ids.
#[derive(Default)]
pub struct Builder {
    log: Log,
    has_meta: bool,
    /// Whether there were no counters, so that groups do not tell how much they have read either.
    is_legacy: bool,
    groups: Vec<Group>,
    consumer: Option<ConsumerId>,
    idempotency: Option<Box<Idempotency>>,
}

impl Builder {
    /// A builder without parts.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Adds a node: its master id and the bytes of its listpack. O(n).
    ///
    /// # Errors
    /// If the node has not its form, or does not follow the one before.
    pub fn node(&mut self, master: StreamId, bytes: &[u8]) -> Result<(), LoadError> {
        if self.has_meta {
            return Err(LoadError::OutOfPlace);
        }
        let node = Node::load(master, bytes).map_err(|error| match error {
            NodeError::Listpack => LoadError::Listpack,
            NodeError::Form => LoadError::NodeForm,
            NodeError::Order => LoadError::Order,
        })?;
        // Until all is read, the last id is the greatest so far.
        let empty = self.log.index.back().is_none();
        if !empty
            && (node.id() <= self.log.last_id || node.first_live().is_some_and(|id| id <= self.log.last_id))
        {
            return Err(LoadError::Order);
        }
        self.log.last_id = node.last_live().unwrap_or(node.id()).max(node.id());
        self.log.length += node.counts().0;
        self.log.index.push(node);
        Ok(())
    }

    /// Ends the nodes: the number of entries, the last id, and in newer files the greatest deleted id and the number
    /// of entries ever added. The first id is found out, whatever a file says.
    ///
    /// # Errors
    /// If the entries contradict it.
    pub fn meta(
        &mut self,
        length: u64,
        last_id: StreamId,
        counters: Option<(StreamId, u64)>,
    ) -> Result<(), LoadError> {
        if self.has_meta {
            return Err(LoadError::OutOfPlace);
        }
        if length != self.log.length {
            return Err(LoadError::Length);
        }
        if last_id < self.log.last_id {
            return Err(LoadError::LastId);
        }
        self.log.last_id = last_id;
        (self.log.max_deleted, self.log.entries_added) = counters.unwrap_or((StreamId::MIN, length));
        self.log.find_first();
        (self.has_meta, self.is_legacy) = (true, counters.is_none());
        Ok(())
    }

    /// Begins a group. Older files do not tell the number of entries it has read: it is found out where it can be.
    ///
    /// # Errors
    /// If its name occurred, or the group before is not complete.
    pub fn group(
        &mut self,
        name: &[u8],
        last_id: StreamId,
        entries_read: Option<u64>,
    ) -> Result<(), LoadError> {
        if !self.has_meta {
            return Err(LoadError::OutOfPlace);
        }
        self.end_group()?;
        let entries_read = if self.is_legacy { self.log.added_up_to(last_id) } else { entries_read };
        self.groups.push(Group::new(name, last_id, entries_read));
        Ok(())
    }

    fn last_group(&mut self) -> Result<&mut Group, LoadError> {
        self.groups.last_mut().ok_or(LoadError::OutOfPlace)
    }

    /// Adds a pending entry to the group. O(1) in order of ids, else O(log n).
    ///
    /// # Errors
    /// If it has the id already.
    pub fn pending(&mut self, id: StreamId, delivered_ms: i64, deliveries: u64) -> Result<(), LoadError> {
        let entry = Pending { id, time: delivered_ms, owner: Owner::Unknown, count: deliveries };
        if self.last_group()?.pending.insert(entry) { Ok(()) } else { Err(LoadError::DuplicatePending) }
    }

    /// Begins a consumer of the group. Older files do not tell when it last got an entry: take the time it was seen.
    ///
    /// # Errors
    /// If its name occurred.
    pub fn consumer(&mut self, name: &[u8], seen_ms: i64, active_ms: i64) -> Result<(), LoadError> {
        let consumer = self.last_group()?.create_consumer(name, seen_ms, active_ms);
        self.consumer = Some(consumer.ok_or(LoadError::DuplicateConsumer)?);
        Ok(())
    }

    /// Gives a pending entry of the group to the consumer. O(log n).
    ///
    /// # Errors
    /// If it is not pending, or somebody has it.
    pub fn consumer_pending(&mut self, id: StreamId) -> Result<(), LoadError> {
        let ConsumerId(number) = self.consumer.ok_or(LoadError::OutOfPlace)?;
        self.own(id, Owner::Consumer(number))
    }

    /// Says that a pending entry of the group was given back. O(log n).
    ///
    /// # Errors
    /// If it is not pending, or somebody has it.
    pub fn released(&mut self, id: StreamId) -> Result<(), LoadError> {
        self.own(id, Owner::Nobody)
    }

    fn own(&mut self, id: StreamId, owner: Owner) -> Result<(), LoadError> {
        let group = self.last_group()?;
        let at = group.pending.find(id).ok_or(LoadError::NotPending)?;
        let pending = group.pending.get(at);
        if pending.owner != Owner::Unknown {
            return Err(LoadError::TwoOwners);
        }
        let time = if owner == Owner::Nobody { 0 } else { pending.time };
        group.assign(id, owner, time, pending.count);
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), LoadError> {
        self.consumer = None;
        match self.groups.last() {
            Some(group) if group.pending.iter().any(|entry| entry.owner == Owner::Unknown) => {
                Err(LoadError::NoOwner)
            }
            _ => Ok(()),
        }
    }

    /// Adds what is remembered of idempotent producers.
    ///
    /// # Errors
    /// If a limit is zero.
    pub fn idempotency(&mut self, duration_s: u64, max_size: u64) -> Result<(), LoadError> {
        if duration_s == 0 || max_size == 0 {
            return Err(LoadError::Idempotency);
        }
        self.idempotency.get_or_insert_default().configure(Some(duration_s), Some(max_size));
        Ok(())
    }

    /// Adds an idempotency id of a producer.
    ///
    /// # Errors
    /// If it stands for another entry, or [`idempotency`](Self::idempotency) did not come before.
    pub fn idempotency_id(&mut self, producer: &[u8], iid: &[u8], id: StreamId) -> Result<(), LoadError> {
        let state = self.idempotency.as_mut().ok_or(LoadError::OutOfPlace)?;
        state.record(producer, iid, id).map_err(|_| LoadError::Idempotency)
    }

    /// Sets the counters of idempotent producers.
    ///
    /// # Errors
    /// If [`idempotency`](Self::idempotency) did not come before.
    pub fn idempotency_counters(&mut self, added: u64, duplicates: u64) -> Result<(), LoadError> {
        self.idempotency.as_mut().ok_or(LoadError::OutOfPlace)?.set_counters(added, duplicates);
        Ok(())
    }

    /// Takes away what is remembered of idempotent producers if that is what is true of any stream: a form that needs it
    /// for something else has it, too.
    pub fn forget_default_idempotency(&mut self) {
        self.idempotency.take_if(|state| state.is_default());
    }

    /// The stream.
    ///
    /// # Errors
    /// If parts are missing or contradict each other.
    pub fn finish(mut self) -> Result<Stream, LoadError> {
        if !self.has_meta {
            return Err(LoadError::OutOfPlace);
        }
        self.end_group()?;
        self.groups.sort_by(|a, b| a.name().cmp(b.name()));
        if self.groups.windows(2).any(|pair| pair[0].name() == pair[1].name()) {
            return Err(LoadError::DuplicateGroup);
        }
        self.groups.shrink_to_fit();
        let inner = Inner { log: self.log, groups: self.groups, idempotency: self.idempotency };
        Ok(Stream(Box::new(inner)))
    }
}
