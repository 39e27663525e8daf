//! The signals that ask the server to stop, as a flag that the event loop can query.
//!
//! SIGTERM and SIGINT set a flag and end the wait for events; the event loop then shuts down in order. A second
//! SIGINT ends the process at once, since somebody at the keyboard insists. SIGHUP, SIGPIPE and SIGXFSZ are ignored:
//! the server outlives its terminal, `send` reports a closed connection, and `write` reports a file that may not
//! grow.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level;

use super::poll::Waker;
use crate::stats::log;

/// A request to stop, by its signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT: the terminal's interrupt key.
    Interrupt,
    /// SIGTERM: a service manager, or `kill`.
    Terminate,
}

/// State shared by the handlers and their owner.
#[derive(Debug, Default)]
struct Flags {
    /// The latest request: zero for none, otherwise the discriminant of [`Stop`] plus one.
    stop: AtomicU8,
    /// Whether a request ends the process at once, because nothing can be lost yet.
    loading: AtomicBool,
}

/// The installed handlers. Dropping this removes the handlers without restoring the earlier ones.
#[derive(Debug)]
pub struct Signals {
    flags: Arc<Flags>,
    ids: Vec<SigId>,
}

impl Signals {
    /// Installs the handlers. A signal ends a wait of the `waker`'s poll.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn install(waker: &Waker) -> io::Result<Signals> {
        for signal in [libc::SIGHUP, libc::SIGPIPE, libc::SIGXFSZ] {
            // SAFETY: ignoring a signal runs no code.
            if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        let mut signals = Signals { flags: Arc::default(), ids: Vec::new() };
        for (signal, stop) in [(SIGINT, Stop::Interrupt), (SIGTERM, Stop::Terminate)] {
            let (flags, waker) = (Arc::clone(&signals.flags), waker.clone());
            // SAFETY: the action reads and writes atomics, writes to files and may end the process by
            // `_exit`: all async-signal-safe, and it cannot panic.
            let id = unsafe { low_level::register(signal, move || on_signal(stop, &flags, &waker)) }?;
            signals.ids.push(id);
        }
        Ok(signals)
    }

    /// The latest request to stop, if there is one. One load.
    pub fn stop_requested(&self) -> Option<Stop> {
        match self.flags.stop.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Stop::Interrupt),
            _ => Some(Stop::Terminate),
        }
    }

    /// Clears the request, because the server could not stop (for example, saving failed) and continues until asked
    /// again.
    pub fn forget_request(&self) {
        self.flags.stop.store(0, Ordering::Relaxed);
    }

    /// A handle by which others can cancel the request.
    pub fn request(&self) -> Request {
        Request(Arc::clone(&self.flags))
    }

    /// Sets whether the server is loading its data set. Meanwhile a request ends the process at once.
    pub fn set_loading(&self, loading: bool) {
        self.request().set_loading(loading);
    }
}

/// A handle on a request to stop, which may or may not exist.
#[derive(Clone, Debug)]
pub struct Request(Arc<Flags>);

impl Request {
    /// Cancels the request. Returns whether there was one.
    pub fn take_back(&self) -> bool {
        self.0.stop.swap(0, Ordering::Relaxed) != 0
    }

    /// As [`Signals::set_loading`].
    pub fn set_loading(&self, loading: bool) {
        self.0.loading.store(loading, Ordering::Relaxed);
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            low_level::unregister(id);
        }
    }
}

/// Path of the file to remove when the process ends at once; null for none.
static HALF_DONE: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Sets the path of a file that is removed, if it exists, when a signal ends the process at once, because a partly
/// written file is of no use. The path is never freed.
///
/// # Errors
/// The path contains a NUL byte.
pub fn remove_when_interrupted(path: &str) -> io::Result<()> {
    HALF_DONE.store(CString::new(path)?.into_raw(), Ordering::Release);
    Ok(())
}

/// Runs within the signal handler.
fn on_signal(stop: Stop, flags: &Flags, waker: &Waker) {
    let before = flags.stop.swap(stop as u8 + 1, Ordering::Relaxed);
    if before != 0 && stop == Stop::Interrupt {
        log::from_signal_handler("You insist... exiting now.");
        let file = HALF_DONE.load(Ordering::Acquire);
        if !file.is_null() {
            // SAFETY: a C string that is never freed; `unlink` is async-signal-safe.
            unsafe { libc::unlink(file) };
        }
        low_level::exit(1);
    }
    if flags.loading.load(Ordering::Relaxed) {
        log::from_signal_handler("Received shutdown signal during loading, exiting now.");
        low_level::exit(0);
    }
    log::from_signal_handler(match stop {
        Stop::Interrupt => "Received SIGINT scheduling shutdown...",
        Stop::Terminate => "Received SIGTERM scheduling shutdown...",
    });
    waker.wake();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::poll::Poll;
    use std::process::{Command, Output};

    fn raise(signal: i32) {
        low_level::raise(signal).expect("a signal that exists");
    }

    /// Signals belong to the process, so each scene runs in a process of its own.
    fn play(scene: &str) {
        let mut poll = Poll::new().expect("descriptors are left");
        let signals = Signals::install(&poll.waker()).expect("handlers are allowed");
        assert_eq!(signals.stop_requested(), None);
        match scene {
            "graceful" => {
                raise(libc::SIGHUP);
                raise(libc::SIGPIPE);
                raise(libc::SIGXFSZ);
                assert_eq!(signals.stop_requested(), None);
                raise(SIGTERM);
                // Would wait for ever if the signal had not ended the wait.
                poll.wait(None).expect("a wait");
                assert_eq!(signals.stop_requested(), Some(Stop::Terminate));
                signals.forget_request();
                raise(SIGINT);
                poll.wait(None).expect("a wait");
                assert_eq!(signals.stop_requested(), Some(Stop::Interrupt));
                raise(SIGTERM);
                assert_eq!(signals.stop_requested(), Some(Stop::Terminate));
            }
            "insisting" => {
                raise(SIGINT);
                raise(SIGINT);
                unreachable!("the second ends the process");
            }
            "loading" => {
                signals.set_loading(true);
                raise(SIGTERM);
                unreachable!("it ends the process");
            }
            _ => unreachable!("no such scene"),
        }
    }

    const SCENE: &str = "SPINEL_TEST_SIGNALS";

    fn in_a_process(scene: &str) -> Output {
        Command::new(std::env::current_exe().expect("we run"))
            .args([
                "--exact",
                "net::signals::tests::signals_stop_the_server",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(SCENE, scene)
            .output()
            .expect("the test binary starts")
    }

    #[test]
    fn signals_stop_the_server() {
        if let Ok(scene) = std::env::var(SCENE) {
            return play(&scene);
        }
        let out = in_a_process("graceful");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        for (scene, code, line) in [
            ("insisting", 1, ") You insist... exiting now.\n"),
            ("loading", 0, ") Received shutdown signal during loading, exiting now.\n"),
        ] {
            let out = in_a_process(scene);
            assert_eq!(out.status.code(), Some(code), "{scene}: {}", String::from_utf8_lossy(&out.stderr));
            let text = String::from_utf8_lossy(&out.stdout);
            assert!(text.contains(":signal-handler (") && text.contains(line), "{scene}: {text}");
            assert!(!text.contains("test result"), "{scene}: {text}");
        }
    }
}
