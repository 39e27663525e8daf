//! The connection to a primary, and how far it is.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use crate::clients::ClientKey;
use crate::net::link::Link;
use crate::replication::handshake::Handshake;
use crate::replication::transfer::Body;
use crate::replication::{ReplicationId, transfer};
use crate::stats::progress::Progress;
use crate::stdx::clock::UnixMillis;

/// The number of the connection to the primary among those that this server opens.
pub(in crate::server) const LINK: usize = 0;
/// The primary that is followed, and how the connection to it is.
pub struct Following {
    /// How far the connection is.
    pub link: LinkState,
    /// Since when there has been no stream; `None` while there is one.
    pub down_since: Option<UnixMillis>,
    /// Whether the data are those of the history at its offset, so that the stream may go on from there.
    pub resumable: bool,
    /// Database that the stream has selected.
    pub db: u32,
    /// When something last came from the primary.
    pub heard_at: Instant,
    /// Whether the primary speaks the protocol without histories.
    pub plain: bool,
}

/// How far the connection to the primary is.
pub enum LinkState {
    /// There is none: the next attempt is made by the timer.
    Down,
    /// It is being opened.
    Connecting(Box<Link>),
    /// The replica introduces itself.
    Greeting(Box<Link>, Handshake),
    /// A snapshot is received.
    Copying(Box<Link>, Box<Copying>),
    /// A snapshot that was received is being loaded; the connection is with who loads it.
    Loading,
    /// The stream flows, to this client.
    Linked(ClientKey),
}

impl Following {
    pub(super) fn new(now: UnixMillis, resumable: bool) -> Following {
        Following {
            link: LinkState::Down,
            down_since: Some(now),
            resumable,
            db: 0,
            heard_at: Instant::now(),
            plain: false,
        }
    }

    /// Whether the stream flows.
    pub fn is_linked(&self) -> bool {
        matches!(self.link, LinkState::Linked(_))
    }

    /// Whether a snapshot is being received or loaded.
    pub fn is_copying(&self) -> bool {
        matches!(self.link, LinkState::Copying(..) | LinkState::Loading)
    }

    /// Name of the state for ROLE.
    pub fn state_name(&self) -> &'static str {
        match self.link {
            LinkState::Down => "connect",
            LinkState::Connecting(_) => "connecting",
            LinkState::Greeting(..) => "handshake",
            LinkState::Copying(..) | LinkState::Loading => "sync",
            LinkState::Linked(_) => "connected",
        }
    }
}

/// A snapshot that is being received.
pub struct Copying {
    /// The history of the primary, if it has one.
    pub(super) id: Option<ReplicationId>,
    /// The offset that the snapshot stands for.
    pub(super) offset: u64,
    /// `None` until its header has arrived.
    pub(super) body: Option<Body>,
    /// The file that it goes to; `None` if it is loaded as it arrives.
    pub(super) file: Option<(PathBuf, File)>,
    /// Bytes of the file that were synced.
    pub(super) synced: u64,
    /// How far it has come, for those who wait for it; `None` if it is loaded as it arrives, which tells by itself.
    pub(super) progress: Option<Progress>,
    /// Whether it is complete in its file, or its first bytes are there to be loaded.
    pub(super) ready: bool,
}

impl Copying {
    /// Removes what was received.
    pub(in crate::server) fn give_up(&self) {
        if let Some((path, _)) = &self.file {
            // It would only take space.
            let _ = fs::remove_file(path);
        }
    }

    /// Bytes received, and how many there will be.
    pub fn progress(&self) -> (u64, Option<u64>) {
        self.body.as_ref().map_or((0, None), |body| (body.received(), body.size()))
    }
}

/// Receives what has arrived, up to about `most` bytes unread. Returns how many bytes there are.
pub(in crate::server) fn receive_all(link: &mut Link, most: usize) -> io::Result<usize> {
    while link.received().len() <= most && link.receive()? {}
    Ok(link.received().len())
}

/// The header of a snapshot, if it has arrived; what precedes it is consumed.
pub(in crate::server) fn header(link: &mut Link) -> Result<Option<transfer::Framing>, transfer::Refused> {
    let (found, used) = transfer::read_header(link.received())?;
    link.consume(used);
    Ok(found)
}
