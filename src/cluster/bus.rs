//! Packets of the cluster bus, to and from bytes.
//!
//! Every packet but the light ones begins with the same header of 2,256 bytes; numbers are big-endian.
//!
//! ```text
//!    0 "RCmb"   4 length   8 version 1   10 port   12 type   14 number of gossip entries
//!   16 current epoch   24 configuration epoch   32 offset   40 sender (40)
//!   80 slots (2048)   2128 primary (40)   2168 address (46)   2214 number of extensions   2216 unused (30)
//! 2246 second port   2248 bus port   2250 flags   2252 state   2253 marks (3)   2256 the rest, by type
//! ```
//!
//! A light packet has only the first 16 bytes of it, and the bit `0x8000` in its type.
//!
//! No bytes make reading panic. A packet whose length is not the one that its parts add up to is refused, as all other
//! implementations do. What comes from a stranger is bounded: see [`STRANGERS_LIMIT`].

use thiserror::Error;

use super::nodes::{Flags, ID_LEN, NodeId};
use super::slots::{BITMAP_LEN, Bitmap};
use crate::stdx::bits::bit_set;

/// Length of the header, and of the shortest packet that is not light.
pub const HEADER_LEN: usize = 2256;
/// Length of the header of light packets.
pub const LIGHT_LEN: usize = 16;
/// Longest packet accepted from somebody who is not known: pings are shorter.
pub const STRANGERS_LIMIT: usize = 1 << 20;
/// Number of bytes by which [`frame`] knows the length of a packet.
pub const FRAME_LEN: usize = 14;
/// Bytes of the sender's name in the header.
pub const SENDER: std::ops::Range<usize> = 40..80;

const SIGNATURE: &[u8; 4] = b"RCmb";
const VERSION: u16 = 1;
const LIGHT: u16 = 0x8000;
const GOSSIP_LEN: usize = 104;
const IP_LEN: usize = 46;

/// What a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A heartbeat, which is answered.
    Ping,
    /// An answer to a ping, or news.
    Pong,
    /// A ping by which a node joins.
    Meet,
    /// A node has failed.
    Fail,
    /// A message to a channel.
    Publish,
    /// A replica asks for a vote.
    AuthRequest,
    /// A vote.
    AuthAck,
    /// The owner of some slots is another one.
    Update,
    /// A replica asks its primary to pause, in order to take over.
    MfStart,
    /// A message of a module.
    Module,
    /// A message to a channel that belongs to a slot.
    PublishShard,
}

impl Kind {
    /// All kinds, by their numbers in packets.
    pub const ALL: [Kind; 11] = [
        Kind::Ping,
        Kind::Pong,
        Kind::Meet,
        Kind::Fail,
        Kind::Publish,
        Kind::AuthRequest,
        Kind::AuthAck,
        Kind::Update,
        Kind::MfStart,
        Kind::Module,
        Kind::PublishShard,
    ];

    /// Name in statistics.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ping => "ping",
            Kind::Pong => "pong",
            Kind::Meet => "meet",
            Kind::Fail => "fail",
            Kind::Publish => "publish",
            Kind::AuthRequest => "auth-req",
            Kind::AuthAck => "auth-ack",
            Kind::Update => "update",
            Kind::MfStart => "mfstart",
            Kind::Module => "module",
            Kind::PublishShard => "publishshard",
        }
    }

    fn carries_gossip(self) -> bool {
        matches!(self, Kind::Ping | Kind::Pong | Kind::Meet)
    }
}

bit_set! {
    /// What a packet's first byte of marks says.
    pub struct Marks: u8 {
        /// The sender has paused its clients for a failover on demand.
        PAUSED = 0;
        /// A vote is asked for although the primary works.
        FORCE_ACK = 1;
        /// The sender understands extensions.
        EXTENSIONS = 2;
    }
}

/// What all packets but the light ones say of their sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// The sender.
    pub sender: NodeId,
    /// Its role and state, as it sees them.
    pub flags: Flags,
    /// Marks.
    pub marks: Marks,
    /// Port for clients; that for TLS if the bus uses TLS.
    pub port: u16,
    /// The other port for clients; 0 for none.
    pub second_port: u16,
    /// Port of the bus.
    pub bus_port: u16,
    /// Address that the sender announces; empty for the one it connects from.
    pub ip: &'a str,
    /// The largest epoch that the sender has seen.
    pub current_epoch: u64,
    /// Epoch of its configuration, or of its primary's.
    pub config_epoch: u64,
    /// Offset of its data.
    pub offset: u64,
    /// Its slots, or its primary's.
    pub slots: &'a Bitmap,
    /// Its primary.
    pub primary: Option<NodeId>,
    /// Whether the cluster serves clients, as the sender sees it.
    pub ok: bool,
}

/// What a node says of another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gossip<'a> {
    /// The other node.
    pub id: NodeId,
    /// When it was sent a ping that it has not answered, in seconds since 1970; 0 if it has answered.
    pub ping_sent: u32,
    /// When it last answered, in seconds since 1970.
    pub pong_received: u32,
    /// Its address.
    pub ip: &'a str,
    /// Port for clients; that for TLS if the bus uses TLS.
    pub port: u16,
    /// The other port for clients.
    pub second_port: u16,
    /// Port of its bus.
    pub bus_port: u16,
    /// Its role and state.
    pub flags: Flags,
}

/// What a ping can say besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extension<'a> {
    /// Host name of the sender; empty for none.
    Hostname(&'a str),
    /// Name of the sender for people; empty for none.
    HumanName(&'a str),
    /// A node was removed, and must not come back for a while.
    Forgotten {
        /// The node.
        id: NodeId,
        /// Seconds for which it must not come back.
        ttl_s: u64,
    },
    /// Shard of the sender.
    Shard(NodeId),
}

/// The rest of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// Of a ping, a pong and a MEET: entries, and extensions, as bytes.
    Heartbeat(Heartbeat<'a>),
    /// Who has failed.
    Fail(NodeId),
    /// A message.
    Message {
        /// Where to.
        channel: &'a [u8],
        /// What.
        payload: &'a [u8],
    },
    /// Who owns these slots.
    Update {
        /// Epoch of the owner's configuration.
        config_epoch: u64,
        /// The owner.
        id: NodeId,
        /// All its slots.
        slots: &'a Bitmap,
    },
    /// Of a module's message, which is not read.
    Module(&'a [u8]),
    /// Nothing.
    Empty,
}

/// Entries and extensions of a ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat<'a> {
    gossip: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Heartbeat<'a> {
    /// What is said of others. Entries with impossible names or addresses are left out.
    pub fn gossip(&self) -> impl Iterator<Item = Gossip<'a>> + 'a {
        self.gossip.chunks_exact(GOSSIP_LEN).filter_map(|bytes| {
            Some(Gossip {
                id: NodeId::parse(&bytes[..40])?,
                ping_sent: u32_at(bytes, 40),
                pong_received: u32_at(bytes, 44),
                ip: ip_at(bytes, 48)?,
                port: u16_at(bytes, 94),
                bus_port: u16_at(bytes, 96),
                flags: Flags::from_bits(u16_at(bytes, 98)),
                second_port: u16_at(bytes, 100),
            })
        })
    }

    /// Whether the sender says nothing besides, or did not know yet whether it would be understood.
    pub fn has_no_extensions(&self) -> bool {
        self.extensions.is_empty()
    }

    /// What the sender says besides. Unknown extensions are left out, and those that make no sense.
    pub fn extensions(&self) -> impl Iterator<Item = Extension<'a>> + 'a {
        let mut rest = self.extensions;
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                let len = u32_at(rest, 0) as usize;
                let kind = u16_at(rest, 4);
                let (whole, after) = rest.split_at(len);
                rest = after;
                if let Some(known) = read_extension(kind, &whole[8..]) {
                    return Some(known);
                }
            }
            None
        })
    }
}

fn read_extension(kind: u16, data: &[u8]) -> Option<Extension<'_>> {
    match kind {
        0 => Some(Extension::Hostname(text_of(data).filter(|text| is_host_name(text))?)),
        1 => Some(Extension::HumanName(text_of(data).filter(|text| is_human_name(text))?)),
        2 if data.len() >= ID_LEN + 8 => {
            Some(Extension::Forgotten { id: NodeId::parse(&data[..ID_LEN])?, ttl_s: u64_at(data, ID_LEN) })
        }
        3 if data.len() >= ID_LEN => Some(Extension::Shard(NodeId::parse(&data[..ID_LEN])?)),
        _ => None,
    }
}

/// The text up to the first zero byte.
fn text_of(data: &[u8]) -> Option<&str> {
    let end = data.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&data[..end]).ok()
}

fn is_host_name(text: &str) -> bool {
    text.len() < 256 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
}

fn is_human_name(text: &str) -> bool {
    text.len() < 1024 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte))
}

/// A packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// What it is for.
    pub kind: Kind,
    /// Its header; `None` for a light packet, whose sender is who it came from.
    pub header: Option<Header<'a>>,
    /// The rest.
    pub body: Body<'a>,
}

/// Why bytes are no packet, or none that is understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refused {
    /// They are something else: the connection cannot be used any more.
    #[error("Bad message length or signature received from the Cluster bus.")]
    Foreign,
    /// Another version of the protocol.
    #[error("Received a packet of version {0} from the Cluster bus")]
    Version(u16),
    /// A kind that is not known.
    #[error("Received unknown packet type: {0}")]
    Kind(u16),
    /// The parts do not add up to the length.
    #[error("Received invalid {} packet of length {len}", kind.name())]
    Length {
        /// What it is for.
        kind: Kind,
        /// Its length.
        len: usize,
    },
    /// A name or an address is impossible.
    #[error("Received a packet with an impossible sender from the Cluster bus")]
    Sender,
}

/// The length of the packet that begins with these bytes; `None` if there are too few to know.
///
/// # Errors
/// No packet begins like this.
pub fn frame(bytes: &[u8]) -> Result<Option<usize>, Refused> {
    if !SIGNATURE.starts_with(&bytes[..bytes.len().min(4)]) {
        return Err(Refused::Foreign);
    }
    if bytes.len() < FRAME_LEN {
        return Ok(None);
    }
    let len = u32_at(bytes, 4) as usize;
    let least = if u16_at(bytes, 12) & LIGHT != 0 { LIGHT_LEN } else { HEADER_LEN };
    if len < least { Err(Refused::Foreign) } else { Ok(Some(len)) }
}

/// Reads a whole packet.
///
/// # Errors
/// It is none, or none that is understood.
pub fn read(bytes: &[u8]) -> Result<Packet<'_>, Refused> {
    if frame(bytes)? != Some(bytes.len()) {
        return Err(Refused::Foreign);
    }
    let version = u16_at(bytes, 8);
    if version != VERSION {
        return Err(Refused::Version(version));
    }
    let number = u16_at(bytes, 12);
    let kind = *Kind::ALL.get(usize::from(number & !LIGHT)).ok_or(Refused::Kind(number))?;
    let wrong = Refused::Length { kind, len: bytes.len() };
    if number & LIGHT != 0 {
        let body = match kind {
            Kind::Publish | Kind::PublishShard => read_message(&bytes[LIGHT_LEN..]).ok_or(wrong)?,
            Kind::Module => read_module(&bytes[LIGHT_LEN..]).ok_or(wrong)?,
            _ => return Err(Refused::Kind(number)),
        };
        return Ok(Packet { kind, header: None, body });
    }
    let header = read_header(bytes).ok_or(Refused::Sender)?;
    let data = &bytes[HEADER_LEN..];
    let body = match kind {
        Kind::Ping | Kind::Pong | Kind::Meet => {
            let entries = usize::from(u16_at(bytes, 14));
            let gossip = data.get(..entries * GOSSIP_LEN).ok_or(wrong)?;
            let extensions = &data[gossip.len()..];
            if !adds_up(extensions, u16_at(bytes, 2214)) {
                return Err(wrong);
            }
            Body::Heartbeat(Heartbeat { gossip, extensions })
        }
        Kind::Fail => {
            if data.len() != ID_LEN {
                return Err(wrong);
            }
            Body::Fail(NodeId::parse(data).ok_or(Refused::Sender)?)
        }
        Kind::Publish | Kind::PublishShard => read_message(data).ok_or(wrong)?,
        Kind::Module => read_module(data).ok_or(wrong)?,
        Kind::Update => {
            if data.len() != 8 + ID_LEN + BITMAP_LEN {
                return Err(wrong);
            }
            let id = NodeId::parse(&data[8..8 + ID_LEN]).ok_or(Refused::Sender)?;
            let slots = data[8 + ID_LEN..].try_into().expect("the length is checked");
            Body::Update { config_epoch: u64_at(data, 0), id, slots }
        }
        Kind::AuthRequest | Kind::AuthAck | Kind::MfStart => {
            if !data.is_empty() {
                return Err(wrong);
            }
            Body::Empty
        }
    };
    Ok(Packet { kind, header: Some(header), body })
}

/// Whether bytes are exactly so many extensions.
fn adds_up(mut bytes: &[u8], mut count: u16) -> bool {
    while count > 0 {
        if bytes.len() < 8 {
            return false;
        }
        let len = u32_at(bytes, 0) as usize;
        if len < 8 || !len.is_multiple_of(8) || len > bytes.len() {
            return false;
        }
        bytes = &bytes[len..];
        count -= 1;
    }
    bytes.is_empty()
}

fn read_header(bytes: &[u8]) -> Option<Header<'_>> {
    let primary = &bytes[2128..2128 + ID_LEN];
    Some(Header {
        sender: NodeId::parse(&bytes[SENDER])?,
        flags: Flags::from_bits(u16_at(bytes, 2250)),
        marks: Marks(bytes[2253] & 7),
        port: u16_at(bytes, 10),
        second_port: u16_at(bytes, 2246),
        bus_port: u16_at(bytes, 2248),
        ip: ip_at(bytes, 2168)?,
        current_epoch: u64_at(bytes, 16),
        config_epoch: u64_at(bytes, 24),
        offset: u64_at(bytes, 32),
        slots: bytes[80..80 + BITMAP_LEN].try_into().expect("a bitmap's length"),
        primary: if primary.iter().all(|&byte| byte == 0) { None } else { Some(NodeId::parse(primary)?) },
        ok: bytes[2252] == 0,
    })
}

fn read_message(data: &[u8]) -> Option<Body<'_>> {
    let lengths = data.get(..8)?;
    let (channel, payload) = (u32_at(lengths, 0) as usize, u32_at(lengths, 4) as usize);
    let data = &data[8..];
    if channel.checked_add(payload)? != data.len() {
        return None;
    }
    let (channel, payload) = data.split_at(channel);
    Some(Body::Message { channel, payload })
}

fn read_module(data: &[u8]) -> Option<Body<'_>> {
    let head = data.get(..13)?;
    (u32_at(head, 8) as usize == data.len() - 13).then_some(Body::Module(data))
}

/// Writes a packet without a body: a request for a vote, a vote, or a request to pause.
pub fn write_empty(kind: Kind, header: &Header<'_>) -> Vec<u8> {
    finish(start(kind, header, 0))
}

/// Writes a ping, a pong or a MEET.
pub fn write_heartbeat<'a>(
    kind: Kind,
    header: &Header<'_>,
    gossip: impl ExactSizeIterator<Item = Gossip<'a>>,
    extensions: &[Extension<'_>],
) -> Vec<u8> {
    assert!(kind.carries_gossip());
    let count = u16::try_from(gossip.len()).expect("a ping tells of some nodes");
    let mut out = start(kind, header, gossip.len() * GOSSIP_LEN + 256);
    out[14..16].copy_from_slice(&count.to_be_bytes());
    for entry in gossip {
        out.extend_from_slice(entry.id.as_bytes());
        out.extend_from_slice(&entry.ping_sent.to_be_bytes());
        out.extend_from_slice(&entry.pong_received.to_be_bytes());
        push_ip(&mut out, entry.ip);
        for number in [entry.port, entry.bus_port, entry.flags.bits(), entry.second_port, 0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
    out[2214..2216].copy_from_slice(&(extensions.len() as u16).to_be_bytes());
    for extension in extensions {
        push_extension(&mut out, extension);
    }
    finish(out)
}

/// Writes the news that a node has failed.
pub fn write_fail(header: &Header<'_>, id: NodeId) -> Vec<u8> {
    let mut out = start(Kind::Fail, header, ID_LEN);
    out.extend_from_slice(id.as_bytes());
    finish(out)
}

/// Writes who owns which slots.
pub fn write_update(header: &Header<'_>, id: NodeId, config_epoch: u64, slots: &Bitmap) -> Vec<u8> {
    let mut out = start(Kind::Update, header, 8 + ID_LEN + BITMAP_LEN);
    out.extend_from_slice(&config_epoch.to_be_bytes());
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(slots);
    finish(out)
}

/// Writes a message to a channel.
pub fn write_message(header: &Header<'_>, sharded: bool, channel: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = start(message_kind(sharded), header, 8 + channel.len() + payload.len());
    push_message(&mut out, channel, payload);
    finish(out)
}

/// Writes a light message to a channel, for nodes that have said that they understand it.
pub fn write_light_message(sharded: bool, channel: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(LIGHT_LEN + 8 + channel.len() + payload.len());
    push_start(&mut out, message_kind(sharded) as u16 | LIGHT, 0);
    out.extend_from_slice(&[0; 2]);
    push_message(&mut out, channel, payload);
    finish(out)
}

fn message_kind(sharded: bool) -> Kind {
    if sharded { Kind::PublishShard } else { Kind::Publish }
}

fn push_message(out: &mut Vec<u8>, channel: &[u8], payload: &[u8]) {
    for part in [channel, payload] {
        let len = u32::try_from(part.len()).expect("arguments are shorter than 4 GB");
        out.extend_from_slice(&len.to_be_bytes());
    }
    out.extend_from_slice(channel);
    out.extend_from_slice(payload);
}

fn push_start(out: &mut Vec<u8>, kind: u16, port: u16) {
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[0; 4]);
    for number in [VERSION, port, kind] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn start(kind: Kind, header: &Header<'_>, more: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + more);
    push_start(&mut out, kind as u16, header.port);
    out.extend_from_slice(&[0; 2]);
    for number in [header.current_epoch, header.config_epoch, header.offset] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(header.sender.as_bytes());
    out.extend_from_slice(header.slots);
    out.extend_from_slice(header.primary.as_ref().map_or(&[0; ID_LEN], |primary| primary.as_bytes()));
    push_ip(&mut out, header.ip);
    out.extend_from_slice(&[0; 32]);
    for number in [header.second_port, header.bus_port, header.flags.bits()] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&[u8::from(!header.ok), header.marks.bits(), 0, 0]);
    debug_assert_eq!(out.len(), HEADER_LEN);
    out
}

/// Notes the length of what has been written.
fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let len = u32::try_from(out.len()).expect("a packet is shorter than 4 GB");
    out[4..8].copy_from_slice(&len.to_be_bytes());
    out
}

/// Addresses have a fixed length, and end with a zero byte.
fn push_ip(out: &mut Vec<u8>, ip: &str) {
    let ip = &ip.as_bytes()[..ip.len().min(IP_LEN - 1)];
    out.extend_from_slice(ip);
    out.resize(out.len() + IP_LEN - ip.len(), 0);
}

fn push_extension(out: &mut Vec<u8>, extension: &Extension<'_>) {
    let start = out.len();
    let kind: u16 = match extension {
        Extension::Hostname(_) => 0,
        Extension::HumanName(_) => 1,
        Extension::Forgotten { .. } => 2,
        Extension::Shard(_) => 3,
    };
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    match extension {
        Extension::Hostname(name) | Extension::HumanName(name) => {
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
        Extension::Forgotten { id, ttl_s } => {
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(&ttl_s.to_be_bytes());
        }
        Extension::Shard(id) => out.extend_from_slice(id.as_bytes()),
    }
    let len = (out.len() - start).next_multiple_of(8);
    out.resize(start + len, 0);
    out[start..start + 4].copy_from_slice(&(len as u32).to_be_bytes());
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The address at a place. It consists of what addresses and host names consist of, so that it can be shown in a line.
fn ip_at(bytes: &[u8], at: usize) -> Option<&str> {
    let text = text_of(&bytes[at..at + IP_LEN])?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".:-_%".contains(&byte);
    text.bytes().all(fits).then_some(text)
}

#[cfg(test)]
mod tests;
