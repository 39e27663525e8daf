//! Connections to instances. What cannot be sent at once is kept; how much that can be is limited by the machine, which
//! asks no more of who does not answer.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::net::error_text;
use crate::net::link::Link;
use crate::net::poll::{Poll, Source};
use crate::sentinel::instance::{ConnId, LinkId};
use crate::server::Server;
use crate::server::sentinel::{Sentinel, now};

/// Bytes of an incomplete reply beyond which a connection is closed: nothing that a Sentinel asks for is longer.
const LONGEST_REPLY: usize = 4 << 20;

/// The connections, each under its name.
#[derive(Default)]
pub(super) struct Links {
    open: BTreeMap<ConnId, Open>,
    /// Connections that have something to send.
    dirty: Vec<ConnId>,
}

struct Open {
    link: Link,
    connected: bool,
}

/// The place of a connection among the sources of events.
fn place(conn: ConnId) -> usize {
    (conn.link.0 as usize) << 1 | usize::from(conn.listens)
}

fn conn_at(place: usize) -> ConnId {
    ConnId { link: LinkId((place >> 1) as u64), listens: place & 1 == 1 }
}

impl Links {
    pub(super) fn queue(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some(open) = self.open.get_mut(&conn) {
            open.link.push(bytes);
            self.dirty.push(conn);
        }
    }

    pub(super) fn close(&mut self, conn: ConnId, poll: Option<&Poll>) {
        if let (Some(mut open), Some(poll)) = (self.open.remove(&conn), poll) {
            // Closing the socket has the same effect.
            let _ = poll.registry().deregister(open.link.stream_mut());
        }
    }
}

impl Server {
    pub(super) fn open_sentinel_link(&mut self, conn: ConnId, ip: &str, port: u16) {
        let opened = ip.parse::<IpAddr>().map_err(io::Error::other).and_then(|ip| {
            let source: Option<IpAddr> = self.config.net.bind_source_addr.parse().ok();
            let source = source.filter(|source| source.is_ipv4() == ip.is_ipv4());
            let mut link = Link::connect(SocketAddr::new(ip, port), source)?;
            if self.config.tls.replication
                && let Some(connector) = self.tls.connector()
            {
                link.encrypt(connector);
            }
            let Some(poll) = &self.event_loop.poll else { return Err(io::ErrorKind::NotConnected.into()) };
            poll.registry().register(link.stream_mut(), Source::Sentinel(place(conn)))?;
            Ok(link)
        });
        let Some(sentinel) = &mut self.sentinel else { return };
        match opened {
            Ok(link) => {
                sentinel.links.open.insert(conn, Open { link, connected: false });
            }
            Err(error) => sentinel.machine.refused(conn, &error_text(&error)),
        }
    }

    /// Serves connections that are ready.
    pub(in crate::server) fn serve_sentinel(&mut self, ready: &[usize]) {
        for &place in ready {
            let conn = conn_at(place);
            if let Err(error) = self.serve_sentinel_link(conn) {
                self.sentinel_link_broken(conn, &error);
            }
            // A message may have changed what is connected.
            self.settle_sentinel();
        }
    }

    fn sentinel_link_broken(&mut self, conn: ConnId, error: &io::Error) {
        let Some(sentinel) = &mut self.sentinel else { return };
        if sentinel.links.open.contains_key(&conn) {
            sentinel.links.close(conn, self.event_loop.poll.as_ref());
            sentinel.machine.refused(conn, &error_text(error));
        }
    }

    fn serve_sentinel_link(&mut self, conn: ConnId) -> io::Result<()> {
        let Some(sentinel) = &mut self.sentinel else { return Ok(()) };
        let Sentinel { machine, links, .. } = &mut **sentinel;
        let Some(open) = links.open.get_mut(&conn) else { return Ok(()) };
        if !open.connected {
            open.connected = open.link.finish_connecting()?;
            if !open.connected {
                return Ok(());
            }
            let local = open.link.stream().local_ip().map(|ip| ip.to_string());
            machine.connected(conn, local.unwrap_or_default());
        }
        open.link.flush()?;
        loop {
            let more = open.link.receive();
            while let Some(reply) = open.link.response().map_err(io::Error::other)? {
                machine.received(conn, reply, now());
            }
            if open.link.received().len() > LONGEST_REPLY {
                return Err(io::Error::other("a reply is too long"));
            }
            if !more? {
                return Ok(());
            }
        }
    }

    /// Sends what is to be sent.
    pub(super) fn flush_sentinel_links(&mut self) {
        let Some(sentinel) = &mut self.sentinel else { return };
        let mut broken = Vec::new();
        for conn in std::mem::take(&mut sentinel.links.dirty) {
            if let Some(open) = sentinel.links.open.get_mut(&conn).filter(|open| open.connected)
                && let Err(error) = open.link.flush()
            {
                broken.push((conn, error));
            }
        }
        for (conn, error) in broken {
            self.sentinel_link_broken(conn, &error);
        }
    }
}
