//! Host names are looked up by a thread, because the system's resolver waits.

use std::net::ToSocketAddrs as _;
use std::thread;
use std::time::Duration;

use crate::stdx::sync::mpsc::{Receiver, Sender, channel};

/// The address of a host name; `None` if there is none.
pub(super) fn look_up(host: &str) -> Option<String> {
    let found: Vec<_> = (host, 0).to_socket_addrs().ok()?.collect();
    // Sentinels that speak of one instance must find the same address.
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first())?;
    Some(first.ip().to_string())
}

/// A host name and its address.
type Found = (String, Option<String>);

/// The thread, once there is something to look up.
#[derive(Default)]
pub(super) struct Names {
    thread: Option<(Sender<String>, Receiver<Found>)>,
}

impl Names {
    /// Has a host name looked up.
    pub(super) fn ask(&mut self, host: String) {
        let (ask, _) = self.thread.get_or_insert_with(|| {
            let (ask, asked) = channel::<String>();
            let (answer, answers) = channel();
            let run = move || {
                while let Ok(host) = asked.recv() {
                    let ip = look_up(&host);
                    if answer.send((host, ip)).is_err() {
                        return;
                    }
                }
            };
            // Without the thread, names stay unknown, and are asked for again.
            let _ = thread::Builder::new().name("sentinel-names".to_owned()).spawn(run);
            (ask, answers)
        });
        let _ = ask.send(host);
    }

    /// An answer, if there is one.
    pub(super) fn found(&mut self) -> Option<Found> {
        self.thread.as_ref()?.1.recv_timeout(Duration::ZERO).ok()
    }
}
