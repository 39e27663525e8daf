//! Crash report: written to the log when a fault ends the server, in the format of Redis.
//!
//! A panic of the main thread (a broken invariant) reaches it through the panic hook; a fatal signal (SIGSEGV,
//! SIGBUS, SIGFPE, SIGILL, SIGABRT) through a handler. Either writes the report and then ends the process by a
//! signal, so that there is a core dump and the parent process learns the cause.
//!
//! A signal handler may do almost nothing, and a report needs almost everything. It is therefore written in order
//! of certainty: first lines that need neither memory nor locks, then parts that may fail themselves. A second
//! fault ends the process at once, and so does an alarm if the report hangs on a lock.
//!
//! Naming the faulty command costs a few stores per command: while a command runs, [`while_running`] keeps a
//! pointer to its arguments, which is only read after a fault.
#![allow(unsafe_code)]

use std::backtrace::Backtrace;
use std::ffi::{c_int, c_void};
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::thread::ThreadId;

use crate::clients::ClientKey;
use crate::config::Config;
use crate::config::table;
use crate::resp::Args;
use crate::server::Server;
use crate::server::process::daemon;
use crate::server::process::version::{BUILD_ID, COMMIT, REDIS_VERSION, VERSION};
use crate::stats::log::{self, Level};
use crate::stdx::alloc;
use crate::stdx::quote;

/// The server that a report describes. It does not move until the process ends.
static SERVER: AtomicPtr<Server> = AtomicPtr::new(ptr::null_mut());
/// The command that a thread runs.
struct Running {
    /// Arguments of the command; null between commands.
    args: AtomicPtr<Args<'static>>,
    /// Key of the client that sent the command.
    client: AtomicUsize,
}

thread_local! {
    /// Thread-local, because the arguments belong to the thread that runs the command. Atomic, because a signal
    /// handler may read it at any moment.
    static RUNNING: Running =
        const { Running { args: AtomicPtr::new(ptr::null_mut()), client: AtomicUsize::new(0) } };
}

/// Whether a report has begun.
static REPORTING: AtomicBool = AtomicBool::new(false);

const FAULTS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

/// Size of the handler's own stack in bytes, because the fault may be a stack overflow. Only touched pages cost
/// memory.
const STACK: usize = 1 << 20;

/// Seconds after which a report that hangs is given up.
const PATIENCE_S: u32 = 10;

/// Bytes shown of each argument, and the number of arguments shown.
const SHOWN_BYTES: usize = 128;
const SHOWN_ARGS: usize = 32;

/// Makes `server` the subject of crash reports. Call this from the thread that will run it.
pub fn watch(server: &'static mut Server) -> &'static mut Server {
    SERVER.store(ptr::from_mut(server), Ordering::Release);
    let main = std::thread::current().id();
    std::panic::set_hook(Box::new(move |info| on_panic(info, main)));
    // SAFETY: a fresh anonymous mapping, which the kernel uses as this thread's second stack. The actions are plain
    // data, zero being an empty mask; the handler has the signature that SA_SIGINFO requires.
    unsafe {
        let (rw, private) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let memory = libc::mmap(ptr::null_mut(), STACK, rw, private, -1, 0);
        if memory != libc::MAP_FAILED {
            libc::sigaltstack(&libc::stack_t { ss_sp: memory, ss_flags: 0, ss_size: STACK }, ptr::null_mut());
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as extern "C" fn(_, _, _) as usize;
        // A fault within the handler takes its default action, which ends the process.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND | libc::SA_NODEFER;
        for signal in FAULTS {
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
    }
    server
}

/// Runs a command and records meanwhile its arguments and client for this thread. If commands nest, the inner one
/// is recorded, and none after it.
#[inline(always)]
pub(in crate::server) fn while_running<R>(client: ClientKey, args: &Args<'_>, run: impl FnOnce() -> R) -> R {
    /// Clears the pointer, also when the command panics.
    struct Done;
    impl Drop for Done {
        #[inline(always)]
        fn drop(&mut self) {
            RUNNING.with(|running| running.args.store(ptr::null_mut(), Ordering::Release));
        }
    }
    let done = Done;
    RUNNING.with(|running| {
        running.client.store(client.0, Ordering::Relaxed);
        running.args.store(ptr::from_ref(args).cast_mut().cast(), Ordering::Release);
    });
    let result = run();
    drop(done);
    result
}

/// The arguments of the command that this thread runs.
///
/// # Safety
/// The command keeps running for as long as the arguments are used: the caller returns, or the process ends, before
/// the command does.
unsafe fn running_here<'a>() -> Option<&'a Args<'a>> {
    // SAFETY: `while_running` keeps a reference to the arguments alive for as long as its pointer is stored here,
    // in the calling thread.
    RUNNING.with(|running| unsafe { running.args.load(Ordering::Acquire).cast::<Args<'a>>().as_ref() })
}

/// Whether a crash report is being written.
pub fn is_reporting() -> bool {
    REPORTING.load(Ordering::Relaxed)
}

/// Passes the arguments of the command that this thread runs to `see`, with a bit mask of the secret ones among the
/// first 64; does nothing between commands. Async-signal-safe if `see` is.
pub(in crate::server) fn for_running(see: impl FnOnce(&Args<'_>, u64)) {
    // SAFETY: the command continues, or panics, only after `see` has returned.
    if let Some(args) = unsafe { running_here() } {
        see(args, secrets(args));
    }
}

/// Claims the report. False for a second fault, in the report or in another thread, which is not reported.
fn begin() -> bool {
    !REPORTING.swap(true, Ordering::SeqCst)
}

/// Ends the process by `signal`.
fn end(signal: c_int) -> ! {
    // SAFETY: all of these are async-signal-safe.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
        libc::_exit(1)
    }
}

/// Causes a segmentation fault, to test the crash report.
pub fn segfault() -> ! {
    // SAFETY: a fresh read-only page. The write faults before it changes anything; without a page, writing to the
    // address that stands for failure faults as well.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0);
        page.cast::<u8>().write_volatile(0);
    }
    end(libc::SIGSEGV)
}

fn on_panic(info: &PanicHookInfo<'_>, main: ThreadId) {
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message =
        message.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason");
    let place = info.location().map_or_else(String::new, ToString::to_string);
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    // Without an I/O thread, its clients would wait for ever.
    if std::thread::current().id() != main && !name.starts_with(crate::net::threads::NAME) {
        // The thread that joins this one handles its panic.
        tracing::error!("The thread {name} panicked at {place}: {message}\n{}", Backtrace::force_capture());
        return;
    }
    if !begin() {
        end(libc::SIGABRT);
    }
    if crash_log_enabled() {
        log::raw(Level::Warning, START);
        if message.starts_with("assertion ") {
            tracing::error!("=== ASSERTION FAILED ===");
            tracing::error!("==> {place} '{message}' is not true");
        } else {
            tracing::error!("------------------------------------------------");
            tracing::error!("!!! Software Failure. The server has reached a state it must not be in.");
            tracing::error!("Guru Meditation: {message} #{place}");
            tracing::error!("------------------------------------------------");
        }
        report();
    } else {
        tracing::error!("Panicked at {place}: {message}");
    }
    end(libc::SIGABRT);
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    if !begin() {
        end(signal);
    }
    if !crash_log_enabled() {
        end(signal);
    }
    // SAFETY: without a handler, the alarm ends the process.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::alarm(PATIENCE_S);
    }
    log::raw(Level::Warning, START);
    // SAFETY: the kernel passes a valid description, and its code says which fields are present.
    let (code, address, pid, uid) =
        unsafe { ((*info).si_code, (*info).si_addr(), (*info).si_pid(), (*info).si_uid()) };
    let mut line = [0; 80];
    let mut room = &mut line[..];
    let _ = write!(room, "Spinel {VERSION} crashed by signal: {signal}, si_code: {code}");
    let len = 80 - room.len();
    log::from_signal_handler(std::str::from_utf8(&line[..len]).unwrap_or("crashed by signal"));
    let sent = code <= 0;
    if sent {
        tracing::error!("Killed by PID: {pid}, UID: {uid}");
    } else if signal == libc::SIGSEGV || signal == libc::SIGBUS {
        tracing::error!("Accessing address: {address:p}");
    }
    registers(context);
    report();
    end(signal);
}

const START: &str = "\n\n=== SPINEL BUG REPORT START: Cut & paste starting from here ===\n";
const END: &str = "\n=== SPINEL BUG REPORT END. Make sure to include from START to END. ===\n\n";

/// Logs the processor's registers at the fault.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn registers(context: *mut c_void) {
    const NAMES: [(&str, c_int); 18] = [
        ("RAX", libc::REG_RAX),
        ("RBX", libc::REG_RBX),
        ("RCX", libc::REG_RCX),
        ("RDX", libc::REG_RDX),
        ("RDI", libc::REG_RDI),
        ("RSI", libc::REG_RSI),
        ("RBP", libc::REG_RBP),
        ("RSP", libc::REG_RSP),
        ("R8 ", libc::REG_R8),
        ("R9 ", libc::REG_R9),
        ("R10", libc::REG_R10),
        ("R11", libc::REG_R11),
        ("R12", libc::REG_R12),
        ("R13", libc::REG_R13),
        ("R14", libc::REG_R14),
        ("R15", libc::REG_R15),
        ("RIP", libc::REG_RIP),
        ("EFL", libc::REG_EFL),
    ];
    // SAFETY: the kernel passes the handler a `ucontext_t`.
    let values = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    tracing::error!("Crashed running the instruction at: {:#x}", values[libc::REG_RIP as usize]);
    let mut text = String::from("\n------ REGISTERS ------\n");
    for (i, (name, register)) in NAMES.into_iter().enumerate() {
        let end = if i % 2 == 1 { '\n' } else { ' ' };
        let _ = write!(text, "{name}:{:016x}{end}", values[register as usize]);
    }
    log::raw(Level::Warning, &text);
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn registers(_: *mut c_void) {}

/// The server, to be read while the process is about to end.
fn server() -> Option<&'static Server> {
    // SAFETY: `watch` stores a pointer to a server that is never freed. The thread that changes the server is this
    // one, or keeps running while another reports; the values read may then be torn, which at worst ends a process
    // that is ending.
    unsafe { SERVER.load(Ordering::Acquire).as_ref() }
}

fn crash_log_enabled() -> bool {
    server().is_none_or(|server| server.config.logs.crash_log_enabled)
}

/// Writes the report after its first lines, most useful parts first.
fn report() {
    let section = |title: &str, text: &str| {
        log::raw(Level::Warning, &format!("\n------ {title} ------\n{text}"));
    };
    if let Some(server) = server() {
        section("CURRENT CLIENT INFO", &current_command(server));
    }
    section("STACK TRACE", &format!("Backtrace:\n{}", Backtrace::force_capture()));
    if let Some(server) = server() {
        section("INFO OUTPUT", &info(server));
        section("CLIENT LIST OUTPUT", &client_list(server));
        section("CONFIG OUTPUT (what differs from the default)", &changed_parameters(&server.config));
        let general = &server.config.general;
        if general.daemonize && !general.pidfile.is_empty() {
            let _ = std::fs::remove_file(&general.pidfile);
        }
    }
    log::raw(Level::Warning, END);
}

/// The arguments of a request with secrets hidden. In a request that is no command, all arguments may be secret.
fn shown<'a>(server: &Server, args: &Args<'a>) -> Vec<&'a [u8]> {
    match server.resolve(server.commands.find(args.at(0)), args) {
        Ok((_, spec)) => spec.shown(args),
        Err(_) => args.iter().take(1).collect(),
    }
}

/// Bit mask of the secret arguments among the first 64 of a running command. Async-signal-safe: it allocates
/// nothing.
fn secrets(args: &Args<'_>) -> u64 {
    let mut secret = 0;
    let Some(server) = server() else { return secret };
    match server.commands.find(args.at(0)).and_then(|id| server.commands.meant(id, args)) {
        Some(id) => {
            if let Some(find) = server.commands.spec(id).secrets {
                find(args, &mut |i| secret |= 1u64.checked_shl(i as u32).unwrap_or(0));
            }
        }
        None => secret = !1,
    }
    secret
}

/// Describes the running command and its client.
fn current_command(server: &Server) -> String {
    // SAFETY: this thread reports on its own fault: the command does not go on before the report is written.
    let Some(args) = (unsafe { running_here() }) else {
        return "No command was running in the thread at fault.\n".into();
    };
    let key = ClientKey(RUNNING.with(|running| running.client.load(Ordering::Relaxed)));
    let mut text = String::new();
    if server.clients.get(key).is_some() {
        let _ = writeln!(text, "{}", server.client_line(key));
    }
    let _ = writeln!(text, "argc: {}", args.len());
    for (i, arg) in shown(server, args).into_iter().enumerate().take(SHOWN_ARGS) {
        let shown = &arg[..arg.len().min(SHOWN_BYTES)];
        let more = match arg.len() - shown.len() {
            0 => String::new(),
            more => format!("... ({more} more bytes)"),
        };
        let _ = writeln!(text, "argv[{i}]: '{}'{more}", quote::repr(shown));
    }
    text
}

fn info(server: &Server) -> String {
    let now = crate::stdx::clock::UnixMillis::now();
    // The timer samples the peak, so current use may exceed it.
    let used = alloc::used();
    let uptime = (now - server.identity.started) / 1000;
    let mut text = String::new();
    let lines: [(&str, &dyn std::fmt::Display); 16] = [
        ("redis_version", &REDIS_VERSION),
        ("spinel_version", &VERSION),
        ("redis_git_sha1", &COMMIT),
        ("redis_build_id", &format_args!("{BUILD_ID:016x}")),
        ("os", &daemon::system_name()),
        ("process_id", &server.identity.pid),
        ("run_id", &server.identity.run_id),
        ("tcp_port", &server.config.main_port()),
        ("uptime_in_seconds", &uptime),
        ("executable", &server.identity.executable.display()),
        ("connected_clients", &server.clients.len()),
        ("used_memory", &used),
        ("used_memory_peak", &server.stats.peak_memory.max(used)),
        ("total_connections_received", &server.stats.connections_received),
        ("total_commands_processed", &server.stats.commands_processed),
        ("keys", &server.keyspace.len()),
    ];
    for (name, value) in lines {
        let _ = writeln!(text, "{name}:{value}");
    }
    text
}

fn client_list(server: &Server) -> String {
    let mut text = String::new();
    for key in server.clients.by_age() {
        let _ = writeln!(text, "{}", server.client_line(key));
    }
    text
}

/// Parameters that differ from their defaults, without passwords.
fn changed_parameters(config: &Config) -> String {
    let defaults = Config::default();
    let mut text = String::new();
    for param in table::params().filter(|param| !param.sensitive) {
        let value = param.print(config);
        if value != param.print(&defaults) {
            let _ = writeln!(text, "{} {}", param.name, quote::repr(&value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::request::{Decoder, Limits, write_request};
    use std::panic::{self, AssertUnwindSafe};

    fn seen() -> Option<Vec<u8>> {
        let mut seen = None;
        for_running(|args, _| seen = Some(args.at(0).to_vec()));
        seen
    }

    #[test]
    fn a_command_is_seen_by_its_thread_while_it_runs() {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        write_request(&mut bytes, [&b"PING"[..]].into_iter());
        let frame = Decoder::default().next(&mut bytes, &mut 0, &mut spans, &Limits::default());
        let frame = frame.expect("well formed").expect("complete");
        let args = Args::new(frame.head(&bytes), frame.spans(&spans), &[]);
        assert_eq!(seen(), None);
        let result = while_running(ClientKey(7), &args, || {
            assert_eq!(seen().as_deref(), Some(&b"PING"[..]));
            // Another thread gets nothing, because it cannot know how long the arguments live.
            assert_eq!(std::thread::spawn(seen).join().expect("it does not panic"), None);
            5
        });
        assert_eq!((result, seen()), (5, None));
        let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
            while_running(ClientKey(7), &args, || panic!("meant to be seen in the test's output"));
        }));
        assert!(panicked.is_err());
        assert_eq!(seen(), None, "nothing is left of a command that panicked");
    }
}
