//! Builds a stream from parts that come from outside, and refuses everything that is invalid in them.
//!
//! Versions of the file format differ only in which parts exist. The reader of files passes the parts that it finds, in
//! their order in the file.

use super::group::{ConsumerId, Group};
use super::id::StreamId;
use super::log::Log;
use super::node::{Node, NodeError};
use super::pending::{Owner, Pending};
use super::sorted::Keyed;
use super::{Idempotency, Inner, Stream};

/// Why parts do not form a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoadError {
    /// A node is not a valid listpack.
    #[error("a stream node is no valid listpack")]
    Listpack,
    /// A node does not have the form of a stream node, or its counts are wrong.
    #[error("a stream node has not its form")]
    NodeForm,
    /// Ids do not ascend within a node, or from node to node.
    #[error("stream ids do not ascend")]
    Order,
    /// The number of entries is not the announced one.
    #[error("the length of a stream is wrong")]
    Length,
    /// An entry has a greater id than the last one.
    #[error("the last id of a stream is smaller than that of an entry")]
    LastId,
    /// Two groups of a stream have the same name.
    #[error("a group occurs twice")]
    DuplicateGroup,
    /// Two consumers of a group have the same name.
    #[error("a consumer occurs twice")]
    DuplicateConsumer,
    /// An id is pending twice in a group.
    #[error("a pending entry occurs twice")]
    DuplicatePending,
    /// A consumer has an id that is not pending in its group.
    #[error("an entry is pending for a consumer and not for its group")]
    NotPending,
    /// A pending entry belongs to two consumers, or to one although it was released.
    #[error("a pending entry belongs to two")]
    TwoOwners,
    /// A pending entry belongs to no consumer and was not released.
    #[error("a pending entry belongs to nobody")]
    NoOwner,
    /// A part precedes the one that it belongs to.
    #[error("a part of a stream is out of place")]
    OutOfPlace,
    /// An idempotency id belongs to two entries, or a limit of idempotency ids is zero.
    #[error("an idempotency id is wrong")]
    Idempotency,
}

/// Builds a stream. The parts are added in the order of the methods: each group before its pending entries, these
/// before its consumers, and each consumer before its ids.
#[derive(Default)]
pub struct Builder {
    log: Log,
    has_meta: bool,
    /// Whether the file has no counters, so that it does not state how much groups have read either.
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
    /// If the node does not have the required form, or does not follow the previous one.
    pub fn node(&mut self, master: StreamId, bytes: &[u8]) -> Result<(), LoadError> {
        if self.has_meta {
            return Err(LoadError::OutOfPlace);
        }
        let node = Node::load(master, bytes).map_err(|error| match error {
            NodeError::Listpack => LoadError::Listpack,
            NodeError::Form => LoadError::NodeForm,
            NodeError::Order => LoadError::Order,
        })?;
        // Until all nodes are read, the last id is the greatest one so far.
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

    /// Completes the nodes with the number of entries, the last id and, in newer files, the greatest deleted id and the
    /// number of entries ever added. The first id is determined from the entries, whatever a file states.
    ///
    /// # Errors
    /// If the entries contradict these numbers.
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

    /// Begins a group. Older files do not state the number of entries that it has read, which is then determined if
    /// possible.
    ///
    /// # Errors
    /// If the name exists, or the previous group is incomplete.
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

    /// Adds a pending entry to the group. O(1) in ascending order of ids, otherwise O(log n).
    ///
    /// # Errors
    /// If the id is pending already.
    pub fn pending(&mut self, id: StreamId, delivered_ms: i64, deliveries: u64) -> Result<(), LoadError> {
        let entry = Pending { id, time: delivered_ms, owner: Owner::Unknown, count: deliveries };
        if self.last_group()?.pending.insert(entry) { Ok(()) } else { Err(LoadError::DuplicatePending) }
    }

    /// Begins a consumer of the group. Older files do not state when it last received an entry: pass the time it was
    /// last seen.
    ///
    /// # Errors
    /// If the name exists.
    pub fn consumer(&mut self, name: &[u8], seen_ms: i64, active_ms: i64) -> Result<(), LoadError> {
        let consumer = self.last_group()?.create_consumer(name, seen_ms, active_ms);
        self.consumer = Some(consumer.ok_or(LoadError::DuplicateConsumer)?);
        Ok(())
    }

    /// Assigns a pending entry of the group to the consumer. O(log n).
    ///
    /// # Errors
    /// If the entry is not pending, or has an owner.
    pub fn consumer_pending(&mut self, id: StreamId) -> Result<(), LoadError> {
        let ConsumerId(number) = self.consumer.ok_or(LoadError::OutOfPlace)?;
        self.own(id, Owner::Consumer(number))
    }

    /// Marks a pending entry of the group as released. O(log n).
    ///
    /// # Errors
    /// If the entry is not pending, or has an owner.
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

    /// Adds the settings of idempotent producers.
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
    /// If the idempotency id belongs to another entry, or [`idempotency`](Self::idempotency) was not called before.
    pub fn idempotency_id(&mut self, producer: &[u8], iid: &[u8], id: StreamId) -> Result<(), LoadError> {
        let state = self.idempotency.as_mut().ok_or(LoadError::OutOfPlace)?;
        state.record(producer, iid, id).map_err(|_| LoadError::Idempotency)
    }

    /// Sets the counters of idempotent producers.
    ///
    /// # Errors
    /// If [`idempotency`](Self::idempotency) was not called before.
    pub fn idempotency_counters(&mut self, added: u64, duplicates: u64) -> Result<(), LoadError> {
        self.idempotency.as_mut().ok_or(LoadError::OutOfPlace)?.set_counters(added, duplicates);
        Ok(())
    }

    /// Removes the state of idempotent producers if it is the default: files contain that, too, if another part of the
    /// stream requires their form.
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
