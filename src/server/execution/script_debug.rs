//! Sessions of the debugger of scripts, which a client opens by SCRIPT DEBUG and its next EVAL.
//!
//! While a session lasts, its client is talked with directly, not by the event loop: by a child process whose changes are
//! lost, so that the server serves on, or by the server itself, which then serves nobody else. The end of the connection
//! is the end of the session.

use std::io;
use std::time::Duration;

use crate::clients::ClientKey;
use crate::clients::client::ScriptDebug;
use crate::net::io::Received;
use crate::net::peer::Peer;
use crate::resp::{Error, Replied};
use crate::scripting::Script;
use crate::server::Server;
use crate::server::command::CmdResult;
use crate::server::execution::scripts::{Invocation, Program};

/// How long a client may take to read what it is sent.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that are received at once.
const ROOM: usize = 4096;

impl Server {
    /// Runs a script in a session of its caller's debugger.
    ///
    /// # Errors
    /// As [`Server::run_program`]; or the system has no room for another process.
    pub fn debug_script(
        &mut self,
        key: ClientKey,
        mode: ScriptDebug,
        script: Script,
        call: Invocation<'_>,
    ) -> CmdResult {
        let call = Invocation { debug: true, ..call };
        if mode == ScriptDebug::Sync {
            tracing::warn!("Redis synchronous debugging eval session started");
            self.send_all(key);
            let result = self.run_program(key, Program::Script(script), call);
            self.close_after_reply(key);
            tracing::warn!("Redis synchronous debugging eval session ended");
            return result;
        }
        let forked = self.fork_debugger(|server| {
            tracing::info!("Redis forked for debugging eval");
            server.send_all(key);
            if let Err(error) = server.run_program(key, Program::Script(script), call) {
                server.reply(key).error(&error);
            }
            server.send_all(key);
        });
        match forked {
            Ok(()) => {
                self.discard_output(key);
                self.close_soon(key);
                Ok(Replied::later())
            }
            Err(error) => {
                tracing::warn!("Can't fork for debugging: {}", crate::net::error_text(&error));
                Err(Error::text("ERR Can't create a child process to debug the script"))
            }
        }
    }

    /// Sends all that waits for a client, and waits until it is sent.
    fn send_all(&mut self, key: ClientKey) {
        let io = &mut *self.clients[key].io;
        let output = io.output.take_all();
        // A client that is gone is noticed when it is asked for something.
        let _ = send(&mut io.peer, &output);
        io.output.begin(&mut self.pool, usize::MAX);
    }

    /// Sends bytes to a client and waits for bytes from it; `None` when it is gone.
    pub(in crate::server) fn converse(&mut self, key: ClientKey, output: &[u8]) -> Option<Vec<u8>> {
        let peer = &mut self.clients[key].io.peer;
        send(peer, output)?;
        let mut bytes = Vec::new();
        while bytes.is_empty() {
            if !peer.holds_plaintext() {
                peer.stream()?.wait(false, None).ok()?;
            }
            if peer.receive_into(&mut bytes, ROOM).ok()? == Received::Closed {
                return None;
            }
        }
        Some(bytes)
    }
}

/// Sends all of `bytes`; `None` when that is not possible in time.
fn send(peer: &mut Peer, mut bytes: &[u8]) -> Option<()> {
    while !bytes.is_empty() {
        match peer.send(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !peer.stream()?.wait(true, Some(PATIENCE)).ok()? {
                    return None;
                }
            }
            Err(_) => return None,
        }
    }
    Some(())
}
