//! The limit on open files, which bounds the number of clients.
#![allow(unsafe_code)]

use std::io;

use super::error_text;

/// File descriptors reserved for other purposes than clients: listeners, logs, the append-only file, dumps.
const RESERVED_FILES: usize = 32;

/// File descriptors that an I/O thread needs: its poll with two more handles of it, and its waker.
const FILES_OF_THREAD: usize = 4;

/// File descriptors reserved with so many threads for I/O, the main one included.
fn reserved(threads: usize) -> usize {
    RESERVED_FILES + FILES_OF_THREAD * threads.saturating_sub(1)
}

/// The process may open too few files for even one client. The text is the line to log before exiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Your current 'ulimit -n' of {limit} is not enough for the server to start. \
     Please increase your open file limit to at least {needed}. Exiting."
)]
pub struct TooFewFiles {
    /// Number of files the process may open.
    pub limit: usize,
    /// Number of files needed for the requested number of clients.
    pub needed: usize,
}

/// Raises the limit on open files as far as needed for `maxclients` clients and so many `threads` for I/O, the main one
/// included, as far as the system permits. Returns how many clients can be served: `maxclients` or fewer. Logs any
/// change.
///
/// # Errors
/// Not even one client can be served. Nothing is logged then.
pub fn adjust(maxclients: usize, threads: usize) -> Result<usize, TooFewFiles> {
    let reserved = reserved(threads);
    let needed = maxclients.saturating_add(reserved);
    let before = match open_files() {
        Ok(limit) => limit,
        Err(error) => {
            // The usual default is 1024.
            let assumed = 1024 - reserved;
            tracing::warn!(
                "Unable to obtain the current NOFILE limit ({}), assuming 1024 and setting the max clients \
                 configuration accordingly.",
                error_text(&error)
            );
            return Ok(maxclients.min(assumed));
        }
    };
    if before.soft >= needed as libc::rlim_t {
        return Ok(maxclients);
    }
    let Err(refusal) = set_open_files(needed as libc::rlim_t, before.hard.max(needed as libc::rlim_t)) else {
        tracing::info!(
            "Increased maximum number of open files to {needed} (it was originally set to {}).",
            before.soft
        );
        return Ok(maxclients);
    };
    // Only a privileged process may exceed the hard limit, but any process may go up to it.
    let granted = match set_open_files(before.hard, before.hard) {
        Ok(()) => before.hard,
        Err(_) => before.soft,
    };
    let limit = usize::try_from(granted).unwrap_or(usize::MAX);
    if limit <= reserved {
        return Err(TooFewFiles { limit, needed });
    }
    let clients = (limit - reserved).min(maxclients);
    tracing::warn!(
        "You requested maxclients of {maxclients} requiring at least {needed} max file descriptors."
    );
    tracing::warn!(
        "Server can't set maximum open files to {needed} because of OS error: {}.",
        error_text(&refusal)
    );
    tracing::warn!(
        "Current maximum open files is {limit}. maxclients has been reduced to {clients} to compensate for low \
         ulimit. If you need higher maxclients increase 'ulimit -n'."
    );
    Ok(clients)
}

struct OpenFiles {
    soft: libc::rlim_t,
    hard: libc::rlim_t,
}

fn open_files() -> io::Result<OpenFiles> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills the struct it is given.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => Ok(OpenFiles { soft: limit.rlim_cur, hard: limit.rlim_max }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_open_files(soft: libc::rlim_t, hard: libc::rlim_t) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the call reads the struct it is given.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits belong to the process, so they are changed in a child.
    fn under_limits() {
        set_open_files(60, 100).expect("lowering is allowed");
        assert_eq!(adjust(20, 1), Ok(20));
        assert_eq!(open_files().expect("a limit").soft, 60);
        assert_eq!(adjust(20, 4), Ok(20));
        assert_eq!(open_files().expect("a limit").soft, 64);
        assert_eq!(adjust(50, 1), Ok(50));
        assert_eq!(open_files().expect("a limit").soft, 82);
        // A privileged process may exceed the hard limit.
        let privileged = set_open_files(82, 101).is_ok();
        if !privileged {
            assert_eq!(adjust(5000, 1), Ok(68));
            assert_eq!(adjust(5000, 2), Ok(64));
            assert_eq!(open_files().expect("a limit").soft, 100);
            set_open_files(20, 32).expect("lowering is allowed");
            assert_eq!(adjust(5000, 1), Err(TooFewFiles { limit: 32, needed: 5032 }));
        }
    }

    #[test]
    fn open_files_follow_maxclients() {
        const INNER: &str = "SPINEL_TEST_LIMITS";
        if std::env::var_os(INNER).is_some() {
            return under_limits();
        }
        let out = std::process::Command::new(std::env::current_exe().expect("we run"))
            .args(["--exact", "net::descriptors::tests::open_files_follow_maxclients", "--nocapture"])
            .env(INNER, "1")
            .output()
            .expect("the test binary starts");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    #[test]
    fn texts() {
        assert_eq!(
            TooFewFiles { limit: 30, needed: 5032 }.to_string(),
            "Your current 'ulimit -n' of 30 is not enough for the server to start. Please increase your open \
             file limit to at least 5032. Exiting."
        );
    }
}
