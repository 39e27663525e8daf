//! What is written when the server dies of a fault: a report in the log, in the shape Redis's users know.
//!
//! Two ways lead here. A panic of the main thread (a broken invariant) comes through the panic hook; a signal
//! that ends a process (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT) through a handler. Either writes the report and
//! then ends the process by a signal, so that there is a core dump and whoever waits for us learns how we ended.
//!
//! A handler may do almost nothing, and a report needs almost everything. It is therefore written in order of
//! certainty: first lines that need neither memory nor locks, then what may itself go wrong: a second fault
//! ends the process at once, and so does an alarm if the report hangs on a lock.
//!
//! To name the command at fault costs a few stores per command: while a command runs, [`while_running`] keeps a
//! pointer to its arguments, which nobody reads as long as all is well.
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
use crate::server::process::version::{BUILD_ID, REDIS_VERSION, VERSION};
use crate::stats::log::{self, Level};
use crate::stdx::alloc;
use crate::stdx::quote;

/// The server to report on. It stays where it is until the process ends.
static SERVER: AtomicPtr<Server> = AtomicPtr::new(ptr::null_mut());
/// The command that a thread runs.
struct Running {
    /// Its arguments; null between commands.
    args: AtomicPtr<Args<'static>>,
    /// The key of the client whose command that is.
    client: AtomicUsize,
}

thread_local! {
    /// Each thread's own: the arguments belong to the thread that runs the command. Atomic, because a signal handler
    /// may look at any moment.
    static RUNNING: Running =
        const { Running { args: AtomicPtr::new(ptr::null_mut()), client: AtomicUsize::new(0) } };
}

/// A report has begun.
static REPORTING: AtomicBool = AtomicBool::new(false);

const FAULTS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

/// Memory for the handler to run in, as the fault may be that the stack is used up. Only touched pages cost.
const STACK: usize = 1 << 20;

/// Seconds after which a report that hangs is given up.
const PATIENCE_S: u32 = 10;

/// Bytes of each argument shown, and how many arguments.
const SHOWN_BYTES: usize = 128;
const SHOWN_ARGS: usize = 32;

/// Reports on `server` when this process dies of a fault. To be called by the thread that will run it.
pub fn watch(server: &'static mut Server) -> &'static mut Server {
    SERVER.store(ptr::from_mut(server), Ordering::Release);
    let main = std::thread::current().id();
    std::panic::set_hook(Box::new(move |info| on_panic(info, main)));
    // SAFETY: a fresh anonymous mapping, of which the kernel takes note as this thread's second stack. The
    // actions are plain data, zero being an empty mask; the handler has the signature SA_SIGINFO asks for.
    unsafe {
        let (rw, private) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let memory = libc::mmap(ptr::null_mut(), STACK, rw, private, -1, 0);
        if memory != libc::MAP_FAILED {
            libc::sigaltstack(&libc::stack_t { ss_sp: memory, ss_flags: 0, ss_size: STACK }, ptr::null_mut());
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as extern "C" fn(_, _, _) as usize;
        // A fault within the handler has its default action: the process ends.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND | libc::SA_NODEFER;
        for signal in FAULTS {
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
    }
    server
}

/// Runs a command, and notes meanwhile that this thread runs it, with which arguments and for whom. While one runs
/// inside another, the inner one is noted, and after it none.
#[inline(always)]
pub(in crate::server) fn while_running<R>(client: ClientKey, args: &Args<'_>, run: impl FnOnce() -> R) -> R {
    /// Takes the pointer away also when the command panics.
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
/// The command runs for as long as they are used: what is called returns, or the process ends, before it does.
unsafe fn running_here<'a>() -> Option<&'a Args<'a>> {
    // SAFETY: `while_running` keeps a reference to the arguments for as long as its pointer stands here, in this
    // thread, which is the one that asks.
    RUNNING.with(|running| unsafe { running.args.load(Ordering::Acquire).cast::<Args<'a>>().as_ref() })
}

/// Whether the end is being reported on.
pub fn is_reporting() -> bool {
    REPORTING.load(Ordering::Relaxed)
}

/// Lets `see` look at the arguments of the command that this thread runs, if it runs one, and which of the first 64 are
/// secret, as bits. Safe in a signal handler, if `see` is.
pub(in crate::server) fn for_running(see: impl FnOnce(&Args<'_>, u64)) {
    // SAFETY: the command goes on, or panics, only after `see` has returned.
    if let Some(args) = unsafe { running_here() } {
        see(args, secrets(args));
    }
}

/// Whether this is the first to report; a second fault, in the report or in another thread, is not told.
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

/// Ends the process by a fault, with a report: for tests of that.
pub fn segfault() -> ! {
    // SAFETY: a fresh page that may only be read. Writing to it faults before anything is written; should there
    // be no page, writing to the address that stands for failure faults as well.
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
    if std::thread::current().id() != main {
        // Whoever waits for that thread deals with it.
        let name = std::thread::current().name().unwrap_or("?").to_owned();
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
    // SAFETY: the kernel passes a valid description, of which the code says which fields are there.
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

/// The processor's registers at the fault.
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

/// The server, for a look at it while everything stands still for ever.
fn server() -> Option<&'static Server> {
    // SAFETY: set by `watch` to what is never freed. The thread that changes it is this one, or is
    // still running while another reports: what is read may then be torn, which ends a process that ends.
    unsafe { SERVER.load(Ordering::Acquire).as_ref() }
}

fn crash_log_enabled() -> bool {
    server().is_none_or(|server| server.config.logs.crash_log_enabled)
}

/// Everything behind the first lines, most useful first.
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

/// The arguments of a request as others may see them. Of a request that is no command, nobody knows what is secret.
fn shown<'a>(server: &Server, args: &Args<'a>) -> Vec<&'a [u8]> {
    match server.resolve(server.commands.find(args.at(0)), args) {
        Ok((_, spec)) => spec.shown(args),
        Err(_) => args.iter().take(1).collect(),
    }
}

/// Which of the first 64 arguments of a running command are secret, as bits. Needs no memory, so that signal handlers may
/// ask.
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

/// The client whose command runs, and the command.
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
    // The peak is looked for by the timer, and may be passed since.
    let used = alloc::used();
    let uptime = (now - server.identity.started) / 1000;
    let mut text = String::new();
    let lines: [(&str, &dyn std::fmt::Display); 15] = [
        ("redis_version", &REDIS_VERSION),
        ("spinel_version", &VERSION),
        ("redis_build_id", &format_args!("{BUILD_ID:016x}")),
        ("os", &daemon::system_name()),
        ("process_id", &server.identity.pid),
        ("run_id", &server.identity.run_id),
        ("tcp_port", &server.config.net.port),
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

/// Parameters whose values may matter, without passwords.
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
            // Another thread cannot know how long the arguments stay.
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
