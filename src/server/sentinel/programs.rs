//! Scripts, as processes.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};

use crate::sentinel::scripts::{Ended, Job};

/// Status of a script that cannot be started, which is not tried again.
const NOT_STARTED: Ended = Ended { signal: 0, status: 2 };

/// Processes of scripts, by the number of the job.
#[derive(Default)]
pub(super) struct Programs {
    running: Vec<(u64, Child)>,
}

impl Programs {
    /// Starts a script and returns its process ID.
    ///
    /// # Errors
    /// How it counts as ended: it cannot be started.
    pub(super) fn start(&mut self, job: &Job) -> Result<u32, Ended> {
        let Some((program, args)) = job.argv.split_first() else { return Err(NOT_STARTED) };
        let child = Command::new(program).args(args).stdin(Stdio::null()).spawn().map_err(|error| {
            tracing::warn!("Cannot start the script {program}: {}", crate::net::error_text(&error));
            NOT_STARTED
        })?;
        let pid = child.id();
        self.running.push((job.id, child));
        Ok(pid)
    }

    /// Scripts that have ended.
    pub(super) fn ended(&mut self) -> Vec<(u64, Ended)> {
        let mut ended = Vec::new();
        self.running.retain_mut(|(id, child)| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                let (signal, status) = (status.signal().unwrap_or(0), status.code().unwrap_or(0));
                ended.push((*id, Ended { signal, status }));
                false
            }
            Err(_) => {
                ended.push((*id, NOT_STARTED));
                false
            }
        });
        ended
    }

    /// Ends the process of a script.
    pub(super) fn kill(&mut self, pid: u32) {
        if let Some((_, child)) = self.running.iter_mut().find(|(_, child)| child.id() == pid) {
            // It may have ended already.
            let _ = child.kill();
        }
    }
}
