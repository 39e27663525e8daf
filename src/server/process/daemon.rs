//! The process as the system sees it: background, service managers, title, out-of-memory score.
//!
//! Nothing here concerns what the server serves. [`detach`] and [`Title::claim`] must run before the first thread
//! starts; functions that read no state of the server may be called at any time.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::value::{OomScoreAdj, Supervised};
use crate::net::error_text;

/// Continues in a child process without a terminal, with standard streams at `/dev/null`; the calling process exits
/// with success. Call this while there is only one thread.
///
/// # Errors
/// If the system cannot create another process.
pub fn detach() -> io::Result<()> {
    // SAFETY: there is one thread, as the caller promises, so no lock in the child lacks its owner.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        // SAFETY: `_exit` runs no destructors, which the child runs once.
        _ => unsafe { libc::_exit(0) },
    }
    // SAFETY: fails only for the leader of a process group, which a fresh child is not.
    unsafe { libc::setsid() };
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    if let Ok(null) = null {
        for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            // SAFETY: both are descriptors of this process; no Rust object owns the standard streams.
            unsafe { libc::dup2(null.as_raw_fd(), stream) };
        }
    }
    Ok(())
}

/// The memory in which the kernel placed arguments and environment. `ps` reads it as the title of the process.
#[derive(Debug)]
pub struct Title {
    start: NonNull<u8>,
    /// Bytes from the first argument to the end of the environment behind the arguments.
    len: usize,
}

// SAFETY: the C library has a variable of this name and type (POSIX).
unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

impl Title {
    /// Takes over the memory. The environment moves to the heap; arguments must have been read before, because
    /// `std::env::args` reads this memory. `None` if the system does not report the location, on a second call, and
    /// if there is another thread, which may be reading the environment.
    pub fn claim() -> Option<Title> {
        static CLAIMED: AtomicBool = AtomicBool::new(false);
        let alone = fs::read_dir("/proc/self/task").ok()?.count() == 1;
        if !alone || CLAIMED.swap(true, Ordering::Relaxed) {
            return None;
        }
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses, which may hold any bytes, is followed by fields 3 and up; fields 48 to 51 are
        // the bounds of arguments and environment (proc_pid_stat(5)).
        let (_, fields) = stat.rsplit_once(')')?;
        let mut bounds = fields.split_whitespace().skip(48 - 3).map(str::parse::<usize>);
        let mut bound = || bounds.next()?.ok().filter(|&address| address != 0);
        let (arg_start, arg_end, env_start, env_end) = (bound()?, bound()?, bound()?, bound()?);
        let whole = arg_start < arg_end && arg_end <= env_start && env_start <= env_end;
        if !whole {
            return None;
        }
        // SAFETY: this is the only thread, as checked above, so nothing reads the environment meanwhile; each entry
        // before the null pointer is a C string, and its copy is never freed.
        unsafe {
            let mut entry = environ;
            while !entry.is_null() && !(*entry).is_null() {
                *entry = libc::strdup(*entry);
                if (*entry).is_null() {
                    return None;
                }
                entry = entry.add(1);
            }
        }
        // If the environment does not follow the arguments, only the arguments may be overwritten.
        let end = if env_start == arg_end { env_end } else { arg_end };
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(arg_start))?;
        Some(Title { start, len: end - arg_start })
    }

    /// Sets the title, cut to the memory available.
    ///
    /// The kernel shows only the bytes of the arguments, unless the last of these is not NUL: then it takes the
    /// text to continue into the environment and to end at the first NUL. Padding with NULs is right in both cases.
    pub fn set(&mut self, text: &[u8]) {
        let shown = text.len().min(self.len - 1);
        // SAFETY: the kernel placed `len` writable bytes there, which live as long as the process; `claim` moved
        // the environment away, and the remaining arguments stay NUL-terminated because the last byte is NUL.
        unsafe {
            let start = self.start.as_ptr();
            start.write_bytes(0, self.len);
            start.copy_from_nonoverlapping(text.as_ptr(), shown);
        }
    }
}

/// A service manager that expects messages about the server's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Manager {
    /// No service manager.
    #[default]
    None,
    /// upstart, which waits for the process to stop itself once.
    Upstart,
    /// systemd, which listens at `$NOTIFY_SOCKET`.
    Systemd,
}

impl Manager {
    /// The manager that the configuration asks for, if the environment confirms it.
    pub fn find(asked: Supervised) -> Manager {
        let has = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let (upstart, systemd) = (has("UPSTART_JOB"), has("NOTIFY_SOCKET"));
        match asked {
            Supervised::No => Manager::None,
            Supervised::Auto if upstart => Manager::Upstart,
            Supervised::Auto if systemd => Manager::Systemd,
            Supervised::Auto => Manager::None,
            Supervised::Upstart if upstart => Manager::Upstart,
            Supervised::Systemd if systemd => Manager::Systemd,
            Supervised::Upstart => {
                tracing::warn!("upstart supervision requested, but UPSTART_JOB not found!");
                Manager::None
            }
            Supervised::Systemd => {
                tracing::warn!("systemd supervision requested, but NOTIFY_SOCKET not found!");
                Manager::None
            }
        }
    }

    /// Reports to the manager that the process has started.
    pub fn greet(self) {
        match self {
            Manager::None => {}
            Manager::Upstart => {
                tracing::info!("supervised by upstart, will stop to signal readiness");
                // SAFETY: the process stops until the manager continues it.
                unsafe { libc::raise(libc::SIGSTOP) };
            }
            Manager::Systemd => {
                tracing::info!(
                    "supervised by systemd. Please make sure you set appropriate values for TimeoutStartSec and \
                     TimeoutStopSec in your service unit."
                );
            }
        }
    }

    /// Sends systemd lines such as `READY=1` (sd_notify(3)); does nothing for other managers.
    pub fn notify(self, lines: &str) {
        if self == Manager::Systemd
            && let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
            && let Err(error) = notify(&socket, lines)
        {
            tracing::warn!("Cannot notify systemd: {}", error_text(&error));
        }
    }
}

fn notify(socket: &OsStr, lines: &str) -> io::Result<()> {
    // A leading `@` marks a name outside the file system.
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(lines.as_bytes(), &address).map(drop)
}

/// The score by which the kernel chooses a process to kill when memory runs out.
#[derive(Clone, Copy, Debug, Default)]
pub struct OomScore {
    /// The score that it had before it was changed; `None` while it is not changed.
    base: Option<i32>,
}

impl OomScore {
    const FILE: &str = "/proc/self/oom_score_adj";

    /// Sets the score as `mode` says, or restores the original.
    ///
    /// # Errors
    /// If the kernel refuses: lowering the score requires a privilege.
    pub fn apply(&mut self, mode: OomScoreAdj, value: i32) -> io::Result<()> {
        let base = match self.base {
            Some(base) => base,
            None if mode == OomScoreAdj::No => return Ok(()),
            None => fs::read_to_string(Self::FILE)?.trim().parse().map_err(io::Error::other)?,
        };
        // Once restored it is others' to set.
        self.base = (mode != OomScoreAdj::No).then_some(base);
        let score = match mode {
            OomScoreAdj::No => base,
            OomScoreAdj::Yes | OomScoreAdj::Relative => base + value,
            OomScoreAdj::Absolute => value,
        };
        fs::write(Self::FILE, score.clamp(-1000, 1000).to_string())
    }
}

/// Logs warnings about kernel settings that make memory scarce or slow. Switches transparent huge pages off for
/// this process if `disable_thp` is set and the kernel would use them unasked.
pub fn check_memory_settings(disable_thp: bool) {
    if fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|text| text.trim() == "0") {
        tracing::warn!(
            "WARNING Memory overcommit must be enabled! Otherwise a background save may fail although memory is \
             left. Set 'vm.overcommit_memory = 1' in /etc/sysctl.conf, or run 'sysctl vm.overcommit_memory=1'."
        );
    }
    const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let always = fs::read_to_string(THP).is_ok_and(|text| text.contains("[always]"));
    if !always || disable_thp && disable_huge_pages() {
        return;
    }
    tracing::warn!(
        "WARNING Transparent Huge Pages (THP) are enabled: expect latency and extra memory while a child process \
         saves. Run 'echo madvise > {THP}' as root to let programs choose."
    );
}

/// Switches transparent huge pages off for this process; whether that worked.
fn disable_huge_pages() -> bool {
    // As wide as the kernel reads it, because the compiler does not widen arguments of a variadic function.
    const YES: libc::c_ulong = 1;
    const UNUSED: libc::c_ulong = 0;
    // SAFETY: changes how the kernel backs memory mapped from now on, and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, YES, UNUSED, UNUSED, UNUSED) == 0 }
}

/// Name and version of the kernel and type of the machine, such as `Linux 6.1.0 x86_64`.
pub fn system_name() -> String {
    // SAFETY: `utsname` is plain data, which the call fills with C strings.
    let (rc, name) = unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        (libc::uname(&raw mut name), name)
    };
    if rc != 0 {
        return std::env::consts::OS.into();
    }
    // SAFETY: filled by the call; each field ends with a NUL.
    let text = |field: &[c_char]| unsafe { CStr::from_ptr(field.as_ptr()) }.to_string_lossy().into_owned();
    format!("{} {} {}", text(&name.sysname), text(&name.release), text(&name.machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_stays_where_another_thread_may_read_it() {
        let claimed = std::thread::spawn(|| Title::claim().is_some());
        assert!(!claimed.join().expect("it does not panic"));
    }

    #[test]
    fn systemd_is_notified_by_path_and_by_abstract_name() {
        let path = std::env::temp_dir().join(format!("spinel-notify-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let name = format!("spinel-notify-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).expect("short enough");
        let receivers = [
            (UnixDatagram::bind(&path).expect("a free path"), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).expect("a free name"), format!("@{name}").into()),
        ];
        for (receiver, socket) in receivers {
            notify(&socket, "READY=1\n").expect("somebody listens");
            let mut buffer = [0; 32];
            let n = receiver.recv(&mut buffer).expect("it was sent");
            assert_eq!(&buffer[..n], b"READY=1\n");
        }
        fs::remove_file(&path).expect("bound above");
        assert!(notify(path.as_os_str(), "READY=1").is_err());
    }

    #[test]
    fn a_score_is_left_alone_unless_asked() {
        let mut score = OomScore::default();
        score.apply(OomScoreAdj::No, 500).expect("nothing is written");
        assert_eq!(score.base, None);
    }
}
