//! Clients that see every command, and the line that they get for each.
//!
//! ```text
//! +1795337751.782000 [0 127.0.0.1:57530] "set" "k" "v"
//!  └ Unix time        │ └ who sent it     └ the arguments, quoted
//!                     └ database that is selected afterwards
//! ```
//!
//! A command is shown once it has run, so the commands of a transaction appear before its EXEC. Administrative
//! commands and passwords are not shown.

use std::io::Write as _;

use crate::clients::{ClientFlags, ClientKey};
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Flags, Spec};
use crate::stdx::clock;
use crate::stdx::quote;

impl Server {
    /// Makes a client a monitor, which sees every command from now on; false if it is one already.
    ///
    /// # Errors
    /// If the client must read a reply of known length next, as in a transaction.
    pub fn start_monitoring(&mut self, key: ClientKey) -> Result<bool, Error> {
        if self.execution.depth > 0 {
            return Err(Error::text("ERR MONITOR isn't allowed for DENY BLOCKING client"));
        }
        let client = &mut self.clients[key];
        if client.flags.has(ClientFlags::MONITOR.with(ClientFlags::REPLICA)) {
            return Ok(false);
        }
        client.flags.set(ClientFlags::MONITOR, true);
        self.clients.monitors.push(key);
        Ok(true)
    }

    /// Ends the monitoring of a client.
    pub fn stop_monitoring(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        if client.flags.has(ClientFlags::MONITOR) {
            client.flags.set(ClientFlags::MONITOR, false);
            self.clients.monitors.retain(|&monitor| monitor != key);
        }
    }

    /// Shows a command that has run to the monitors, unless its kind is not shown.
    #[cold]
    pub(in crate::server) fn feed_monitors(&mut self, key: ClientKey, spec: &Spec, args: &Args<'_>) {
        if !spec.flags.has(Flags::SKIP_MONITOR.with(Flags::ADMIN)) {
            self.show_to_monitors(key, &spec.shown(args));
        }
    }

    /// Shows a request to run a script to the monitors, before the commands of the script.
    #[inline]
    pub fn show_script(&mut self, key: ClientKey, args: &Args<'_>) {
        if !self.clients.monitors.is_empty() && self.persistence.loading.is_none() {
            self.show_to_monitors(key, &args.iter().collect::<Vec<_>>());
        }
    }

    #[cold]
    fn show_to_monitors(&mut self, key: ClientKey, args: &[&[u8]]) {
        let client = &self.clients[key];
        let peer = &client.io.peer;
        let origin = match peer {
            _ if self.scripts.is_client(key) => "lua".to_owned(),
            peer if peer.is_unix() => format!("unix:{}", self.config.net.unixsocket),
            peer => peer.addr(),
        };
        let line = line(clock::now_us(), client.db, &origin, args);
        for i in 0..self.clients.monitors.len() {
            let monitor = self.clients.monitors[i];
            self.clients[monitor].io.output.append(&line, &mut self.pool);
            self.written(monitor);
        }
    }
}

/// A command as a status reply.
fn line(now_us: i64, db: u32, origin: &str, args: &[&[u8]]) -> Vec<u8> {
    let mut line = Vec::with_capacity(64 + args.iter().map(|arg| arg.len() + 3).sum::<usize>());
    // Writing to a `Vec` cannot fail.
    let _ = write!(line, "+{}.{:06} [{db} {origin}]", now_us / 1_000_000, now_us % 1_000_000);
    for arg in args {
        line.push(b' ');
        quote::push_repr(arg, &mut line);
    }
    line.extend_from_slice(b"\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_quoted_and_one_line() {
        let got = line(1_795_337_751_000_042, 3, "127.0.0.1:9", &[b"set", b"k\x01\n\"q\xff", b""]);
        let expected = b"+1795337751.000042 [3 127.0.0.1:9] \"set\" \"k\\x01\\n\\\"q\\xff\" \"\"\r\n";
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(expected));
    }
}
