//! The file in which a node keeps what it knows of the cluster (`nodes.conf`): a line for each node, and one for the
//! epochs.
//!
//! ```text
//! ID ip:port@bus-port,host,name=value… flags primary ping pong epoch state slots… [slot->-ID] [slot-<-ID]
//! vars currentEpoch 4 lastVoteEpoch 0
//! ```
//!
//! Clients are shown the same lines without the `name=value` pairs. Files of Redis 7.0 have no such pairs, either.
//! Whoever writes the file replaces it as a whole, so a line that makes no sense means that somebody else has damaged
//! it. Then the node must not start: what it has forgotten, such as a vote, could let two primaries own a slot.

use std::fmt::Write as _;

use thiserror::Error;

use super::nodes::{Flags, Node, NodeId, NodeKey, Nodes};
use super::{Moment, Now, Slot};
use crate::stdx::rng::Rng;
use crate::stdx::text::Lossy;

/// A damaged file.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("Unrecoverable error: corrupted cluster config file \"{0}\".")]
pub struct Corrupt(String);

/// Who reads a description.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// The node itself, when it starts again. `tls`: the bus uses TLS.
    File {
        /// Whether the bus uses TLS.
        tls: bool,
    },
    /// A client.
    Client {
        /// Whether it uses TLS.
        tls: bool,
    },
}

/// Describes a node in one line, without the line's end.
pub fn describe(nodes: &Nodes, key: NodeKey, now: &Now, reader: Reader) -> String {
    let node = &nodes[key];
    let (Reader::File { tls } | Reader::Client { tls }) = reader;
    let port = node.client_port(tls);
    let mut line = format!("{} {}:{port}@{}", node.id, node.ip, node.bus_port);
    if let Reader::File { tls } = reader {
        let (name, other) = if tls { ("tcp-port", node.port) } else { ("tls-port", node.tls_port) };
        let _ = write!(line, ",{},{name}={other}", node.hostname);
        if !node.human_name.is_empty() {
            let _ = write!(line, ",nodename={}", node.human_name);
        }
        let _ = write!(line, ",shard-id={}", node.shard);
    } else if !node.hostname.is_empty() {
        let _ = write!(line, ",{}", node.hostname);
    }
    line.push(' ');
    push_flags(&mut line, node.flags);
    match node.primary() {
        Some(primary) => {
            let _ = write!(line, " {}", nodes[primary].id);
        }
        None => line.push_str(" -"),
    }
    let (ping, pong) = (now.wall_at(node.ping_sent).0, now.wall_at(node.pong_received).0);
    let connected = node.is(Flags::MYSELF) || node.link.is_some();
    let state = if connected { "connected" } else { "disconnected" };
    let _ = write!(line, " {ping} {pong} {} {state}", nodes.epoch_of(key));
    for (first, last) in node.slots().ranges() {
        if first == last {
            let _ = write!(line, " {first}");
        } else {
            let _ = write!(line, " {first}-{last}");
        }
    }
    if key == nodes.me() {
        for (slot, to) in nodes.all_migrating() {
            let _ = write!(line, " [{slot}->-{}]", nodes[to].id);
        }
        for (slot, from) in nodes.all_importing() {
            let _ = write!(line, " [{slot}-<-{}]", nodes[from].id);
        }
    }
    line
}

/// Names of flags, joined by commas.
pub fn push_flags(line: &mut String, flags: Flags) {
    let start = line.len();
    for name in flags.names() {
        if line.len() > start {
            line.push(',');
        }
        line.push_str(name);
    }
    if line.len() == start {
        line.push_str("noflags");
    }
}

/// The whole file. Nodes whose names are not known yet are left out.
pub fn write(nodes: &Nodes, now: &Now, tls: bool) -> String {
    let mut text = String::with_capacity(200 * nodes.len());
    for (key, node) in nodes.iter() {
        if !node.is(Flags::HANDSHAKE) {
            text.push_str(&describe(nodes, key, now, Reader::File { tls }));
            text.push('\n');
        }
    }
    let (current, voted) = (nodes.current_epoch, nodes.last_vote_epoch);
    let _ = writeln!(text, "vars currentEpoch {current} lastVoteEpoch {voted}");
    text
}

/// What a line says of a node; references to others are names yet.
struct Line<'a> {
    node: Node,
    primary: Option<NodeId>,
    /// Whether the line names the node's shard.
    sharded: bool,
    slots: Vec<&'a str>,
}

/// Reads the file. Unknown variables are skipped, with a warning in the list.
///
/// # Errors
/// The line that makes no sense; an empty text if no line is this node's.
pub fn read(text: &[u8], now: Moment, tls: bool, rng: &mut Rng) -> Result<(Nodes, Vec<String>), Corrupt> {
    let (mut lines, mut epochs, mut warnings) = (Vec::new(), (0, 0), Vec::new());
    for bytes in text.split_inclusive(|&byte| byte == b'\n') {
        let corrupt = || Corrupt(Lossy(bytes.trim_ascii_end()).to_string());
        // Only a file that ends in the middle has a last line that is not ended.
        let line =
            bytes.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok()).ok_or_else(corrupt)?;
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.first() {
            None => {}
            Some(&"vars") => read_vars(&words[1..], &mut epochs, &mut warnings).ok_or_else(corrupt)?,
            Some(_) => lines.push((read_line(&words, now, tls, rng).ok_or_else(corrupt)?, line)),
        }
    }
    let mut mine = lines.iter().enumerate().filter(|(_, (line, _))| line.node.is(Flags::MYSELF));
    let (place, _) = mine.next().ok_or_else(|| Corrupt(String::new()))?;
    if let Some((_, (_, line))) = mine.next() {
        return Err(Corrupt((*line).to_owned()));
    }
    let mut nodes = Nodes::new(lines[place].0.node.clone());
    for (other, (line, source)) in lines.iter().enumerate() {
        if other != place && nodes.insert(line.node.clone()).is_none() {
            return Err(Corrupt((*source).to_owned()));
        }
    }
    for (line, source) in &lines {
        join(&mut nodes, line, now, rng).ok_or_else(|| Corrupt((*source).to_owned()))?;
    }
    settle_shards(
        &mut nodes,
        &lines.iter().filter(|(line, _)| line.sharded).map(|(line, _)| line.node.id).collect::<Vec<_>>(),
    );
    (nodes.current_epoch, nodes.last_vote_epoch) = epochs;
    nodes.current_epoch = nodes.max_epoch();
    Ok((nodes, warnings))
}

fn read_vars(words: &[&str], epochs: &mut (u64, u64), warnings: &mut Vec<String>) -> Option<()> {
    let pairs = words.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    for pair in pairs {
        match pair[0] {
            "currentEpoch" => epochs.0 = pair[1].parse().ok()?,
            "lastVoteEpoch" => epochs.1 = pair[1].parse().ok()?,
            name => warnings.push(format!("Skipping unknown cluster config variable '{name}'")),
        }
    }
    Some(())
}

fn read_line<'a>(words: &[&'a str], now: Moment, tls: bool, rng: &mut Rng) -> Option<Line<'a>> {
    let &[id, address, flags, primary, ping, pong, epoch, _state, ref slots @ ..] = words else {
        return None;
    };
    let id = NodeId::parse(id.as_bytes())?;
    let mut node = Node::new(id, read_flags(flags)?, NodeId::random(rng), now);
    let sharded = read_address(address, tls, &mut node)?;
    if node.is(Flags::FAIL) {
        node.failed_at = now;
    }
    // The file may be old: what matters is how much time passes from now on.
    if ping.parse::<i64>().ok()? != 0 && !node.is(Flags::MYSELF) {
        node.ping_sent = now;
    }
    if pong.parse::<i64>().ok()? != 0 && !node.is(Flags::MYSELF) {
        node.pong_received = now;
    }
    node.config_epoch = epoch.parse().ok()?;
    let primary = match primary {
        "-" => None,
        id => Some(NodeId::parse(id.as_bytes())?),
    };
    if node.is_replica() && primary.is_some() {
        node.config_epoch = 0;
    }
    Some(Line { node, primary, sharded, slots: slots.to_vec() })
}

fn read_flags(text: &str) -> Option<Flags> {
    let mut flags = Flags::NONE;
    for word in text.split(',').filter(|&word| word != "noflags") {
        let (flag, _) = Flags::NAMES.iter().find(|(_, name)| *name == word && !name.is_empty())?;
        flags.set(*flag, true);
    }
    (!flags.covers(Flags::ROLE)).then_some(flags)
}

/// Reads `ip:port@bus-port,host,name=value…`. Returns whether it names the shard.
fn read_address(text: &str, tls: bool, node: &mut Node) -> Option<bool> {
    let mut parts = text.split(',');
    let (ip, ports) = parts.next()?.rsplit_once(':')?;
    // Older files do not say which port the bus has.
    let (port, bus_port) = match ports.split_once('@') {
        Some((port, bus_port)) => (port.parse().ok()?, bus_port.parse().ok()?),
        None => {
            let port: u16 = ports.parse().ok()?;
            (port, port.checked_add(10_000)?)
        }
    };
    node.ip = ip.into();
    node.bus_port = bus_port;
    *(if tls { &mut node.tls_port } else { &mut node.port }) = port;
    node.hostname = parts.next().unwrap_or("").into();
    let mut sharded = false;
    for pair in parts {
        let (name, value) = pair.split_once('=')?;
        match name {
            "shard-id" => {
                node.shard = NodeId::parse(value.as_bytes())?;
                sharded = true;
            }
            "nodename" => node.human_name = value.into(),
            "tcp-port" => node.port = value.parse().ok()?,
            "tls-port" => node.tls_port = value.parse().ok()?,
            // Newer versions note more, for clients.
            _ if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {}
            _ => return None,
        }
    }
    Some(sharded)
}

/// Joins a node to its primary and its slots.
fn join(nodes: &mut Nodes, line: &Line<'_>, now: Moment, rng: &mut Rng) -> Option<()> {
    let key = nodes.find(&line.node.id)?;
    if let Some(primary) = line.primary {
        let primary = known(nodes, primary, now, rng)?;
        nodes.set_primary(key, Some(primary));
    }
    for word in &line.slots {
        if let Some(word) = word.strip_prefix('[') {
            let word = word.strip_suffix(']')?;
            let (slot, other, away) = match word.split_once("->-") {
                Some((slot, to)) => (slot, to, true),
                None => word.split_once("-<-").map(|(slot, from)| (slot, from, false))?,
            };
            let (slot, other) = (read_slot(slot)?, NodeId::parse(other.as_bytes())?);
            let other = known(nodes, other, now, rng)?;
            if key != nodes.me() {
                continue;
            }
            if away {
                nodes.set_migrating(slot, Some(other));
            } else {
                nodes.set_importing(slot, Some(other));
            }
            continue;
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last) = (read_slot(first)?, read_slot(last)?);
        if first > last {
            return None;
        }
        for slot in first.to(last) {
            nodes.set_owner(slot, Some(key));
        }
    }
    Some(())
}

/// The node of this name, which is added if there is none: nothing else is known of it.
fn known(nodes: &mut Nodes, id: NodeId, now: Moment, rng: &mut Rng) -> Option<NodeKey> {
    nodes.find(&id).or_else(|| nodes.insert(Node::new(id, Flags::NONE, NodeId::random(rng), now)))
}

fn read_slot(text: &str) -> Option<Slot> {
    Slot::parse(text.as_bytes())
}

/// Replicas belong to the shard of their primary. Where only replicas know the name of the shard, the primary takes it.
fn settle_shards(nodes: &mut Nodes, sharded: &[NodeId]) {
    for key in nodes.keys() {
        let Some(primary) = nodes[key].primary() else { continue };
        if !sharded.contains(&nodes[primary].id) && sharded.contains(&nodes[key].id) {
            nodes[primary].shard = nodes[key].shard;
        }
    }
    for key in nodes.keys() {
        if let Some(primary) = nodes[key].primary() {
            nodes[key].shard = nodes[primary].shard;
        }
    }
}

#[cfg(test)]
mod tests;
