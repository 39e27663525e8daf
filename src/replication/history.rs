//! Histories: the streams of changes that a server can continue.
//!
//! A replica that is promoted begins a new history, because its changes from then on are its own. It remembers the
//! history that it followed and the offset up to which it followed it, so that the other replicas of the former primary
//! can continue from the promoted one. Two histories are enough: a replica that missed two promotions needs a snapshot.

use std::fmt;

use crate::stdx::rng::Rng;

/// Length of a [`ReplicationId`] in bytes.
pub const ID_LEN: usize = 40;

/// Replication ID, the name of a history: 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReplicationId([u8; ID_LEN]);

impl ReplicationId {
    /// Forty zeros, which stand for no history in replies.
    pub const NONE: ReplicationId = ReplicationId([b'0'; ID_LEN]);

    /// A random ID, which no other server draws.
    pub fn random(rng: &mut Rng) -> ReplicationId {
        let mut id = [0; ID_LEN];
        rng.fill_hex(&mut id);
        ReplicationId(id)
    }

    /// Parses an ID; `None` if `text` is not 40 hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<ReplicationId> {
        let id: [u8; ID_LEN] = text.try_into().ok()?;
        id.iter().all(u8::is_ascii_hexdigit).then_some(ReplicationId(id))
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8; ID_LEN] {
        &self.0
    }

    /// The digits as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are text")
    }
}

impl fmt::Display for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The histories that a server knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    /// The current history.
    pub id: ReplicationId,
    /// The previous history, and the offset at which it ended on this server.
    pub former: Option<(ReplicationId, u64)>,
}

/// Why a replica cannot continue a history here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Foreign {
    /// The history is not known.
    Unknown,
    /// The history is known only up to this offset, which the replica has passed.
    EndedAt(u64),
}

impl History {
    /// A new history.
    pub fn new(rng: &mut Rng) -> History {
        History { id: ReplicationId::random(rng), former: None }
    }

    /// Begins a new history at `offset`, which continues the current one.
    pub fn branch(&mut self, offset: u64, rng: &mut Rng) {
        self.former = Some((self.id, offset));
        self.id = ReplicationId::random(rng);
    }

    /// Follows a primary whose history is `id` from `offset` on. Up to there, the current history was followed.
    pub fn follow(&mut self, id: ReplicationId, offset: u64) {
        if id != self.id {
            self.former = Some((self.id, offset));
            self.id = id;
        }
    }

    /// Takes over the history of a primary, whose data replace those of this server.
    pub fn adopt(&mut self, id: ReplicationId) {
        *self = History { id, former: None };
    }

    /// Checks that a replica with the first `offset` bytes of the history `id` has the data that this server had at
    /// that offset.
    ///
    /// # Errors
    /// The replica may have other data.
    pub fn contains(&self, id: &[u8], offset: u64) -> Result<(), Foreign> {
        if id.eq_ignore_ascii_case(self.id.as_bytes()) {
            return Ok(());
        }
        match self.former {
            Some((former, end)) if id.eq_ignore_ascii_case(former.as_bytes()) => {
                if offset <= end {
                    Ok(())
                } else {
                    Err(Foreign::EndedAt(end))
                }
            }
            _ => Err(Foreign::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promoted_server_continues_with_replicas_that_are_not_ahead() {
        let mut rng = Rng::new(7);
        let mut history = History::new(&mut rng);
        let first = history.id;
        assert_eq!(history.contains(first.as_bytes(), u64::MAX), Ok(()));
        history.branch(100, &mut rng);
        assert_ne!(history.id, first);
        assert_eq!(history.contains(first.as_bytes(), 100), Ok(()));
        assert_eq!(history.contains(first.as_bytes(), 101), Err(Foreign::EndedAt(100)));
        assert_eq!(history.contains(history.id.as_bytes(), 500), Ok(()));
        history.branch(200, &mut rng);
        assert_eq!(history.contains(first.as_bytes(), 50), Err(Foreign::Unknown));
        let mut follower = History::new(&mut rng);
        follower.adopt(first);
        follower.follow(history.id, 90);
        assert_eq!(follower.former, Some((first, 90)));
        follower.follow(history.id, 95);
        assert_eq!(follower.former, Some((first, 90)));
    }

    #[test]
    fn names_are_forty_hexadecimal_digits() {
        let text = b"0123456789abcdef0123456789ABCDEF01234567";
        assert_eq!(
            ReplicationId::parse(text).map(|id| id.to_string()),
            String::from_utf8(text.to_vec()).ok()
        );
        assert_eq!(ReplicationId::parse(b"?"), None);
        assert_eq!(ReplicationId::parse(&[b'g'; 40]), None);
        assert_eq!(ReplicationId::parse(&[b'1'; 41]), None);
    }
}
