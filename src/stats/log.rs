//! The server's log: `tracing` events as lines of Redis's format, to stdout, a file and the system logger.
//!
//! ```text
//! 4711:M 22 Nov 2026 05:51:08.032 * Ready to accept connections
//! │    │ │                        │ └ message, then ` key=value` for each other field of the event
//! │    │ │                        └ level: . debug   - verbose   * notice   # warning
//! │    │ └ local time
//! │    └ role: M master   S replica   X sentinel   C child process
//! └ process id
//! ```
//!
//! [`set_format`] chooses other formats, for programs that read the log.
//!
//! The levels below are spelled `tracing::trace!` (debug), `debug!` (verbose), `info!` (notice), `warn!` and
//! `error!` (warning). An event below the level in force costs one load.
//!
//! What always holds:
//! - a line is one `write` in append mode, so that lines of parent and children do not mix;
//! - the file is opened for each line, so that once a tool has moved the file away the next line starts a new one;
//! - a child process takes no lock of the C library, since the thread that held the lock may not exist there: a child
//!   uses its parent's last known offset from UTC.
//!
//! There is one log per process, as there is one stdout, so the state of this module is global.
#![allow(unsafe_code)]

mod line;

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

pub use line::{Format, TimestampFormat, escape_json};
use line::{Moment, date_text};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::stdx::clock;

/// Severity of an event, in ascending order. As a setting: the lowest severity logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Details for development.
    Debug,
    /// Details that are rarely useful.
    Verbose,
    /// What an operator wants to read. The default.
    Notice,
    /// Important or critical events.
    Warning,
    /// As a setting: no events at all.
    Nothing,
}

impl Level {
    const ALL: [Level; 5] = [Level::Debug, Level::Verbose, Level::Notice, Level::Warning, Level::Nothing];

    /// The name in `redis.conf`.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Verbose => "verbose",
            Level::Notice => "notice",
            Level::Warning => "warning",
            Level::Nothing => "nothing",
        }
    }

    /// The name that other programs than Redis use for the level.
    const fn common_name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Verbose => "info",
            Level::Notice => "notice",
            Level::Warning | Level::Nothing => "warning",
        }
    }

    const fn sign(self) -> char {
        match self {
            Level::Debug => '.',
            Level::Verbose => '-',
            Level::Notice => '*',
            Level::Warning | Level::Nothing => '#',
        }
    }

    const fn syslog_priority(self) -> c_int {
        match self {
            Level::Debug => libc::LOG_DEBUG,
            Level::Verbose => libc::LOG_INFO,
            Level::Notice => libc::LOG_NOTICE,
            Level::Warning | Level::Nothing => libc::LOG_WARNING,
        }
    }

    const fn filter(self) -> LevelFilter {
        match self {
            Level::Debug => LevelFilter::TRACE,
            Level::Verbose => LevelFilter::DEBUG,
            Level::Notice => LevelFilter::INFO,
            Level::Warning => LevelFilter::WARN,
            Level::Nothing => LevelFilter::OFF,
        }
    }

    fn of(level: &tracing::Level) -> Level {
        match *level {
            tracing::Level::TRACE => Level::Debug,
            tracing::Level::DEBUG => Level::Verbose,
            tracing::Level::INFO => Level::Notice,
            tracing::Level::WARN | tracing::Level::ERROR => Level::Warning,
        }
    }
}

/// A text names none of the choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown name")]
pub struct UnknownName;

impl FromStr for Level {
    type Err = UnknownName;

    /// Parses a level's name, in any case.
    fn from_str(name: &str) -> Result<Level, UnknownName> {
        Level::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name)).ok_or(UnknownName)
    }
}

/// Facility of the system logger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facility {
    /// User programs.
    User,
    /// Local use, numbered 0 to 7.
    Local(u8),
}

impl Facility {
    const fn code(self) -> c_int {
        match self {
            Facility::User => libc::LOG_USER,
            // The eight codes are consecutive in the bits above the three bits of the priority.
            Facility::Local(n) => libc::LOG_LOCAL0 + (((n & 7) as c_int) << 3),
        }
    }
}

const _: () = assert!(Facility::Local(7).code() == libc::LOG_LOCAL7);

impl FromStr for Facility {
    type Err = UnknownName;

    /// Parses `user` or `local0` to `local7`, in any case.
    fn from_str(name: &str) -> Result<Facility, UnknownName> {
        let name = name.to_ascii_lowercase();
        match (name.as_str(), name.strip_prefix("local").map(str::as_bytes)) {
            ("user", _) => Ok(Facility::User),
            (_, Some(&[digit @ b'0'..=b'7'])) => Ok(Facility::Local(digit - b'0')),
            _ => Err(UnknownName),
        }
    }
}

/// Destination of messages in the system logger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Name of the program in its messages.
    pub ident: String,
    /// Facility of its messages.
    pub facility: Facility,
}

/// Destination and level of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDestination {
    /// Lowest level logged.
    pub level: Level,
    /// File to append to; `None` for stdout.
    pub file: Option<PathBuf>,
    /// The system logger, in addition to the file.
    pub syslog: Option<Syslog>,
}

impl Default for LogDestination {
    fn default() -> LogDestination {
        LogDestination { level: Level::Notice, file: None, syslog: None }
    }
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Notice as u8);
static ROLE: AtomicU8 = AtomicU8::new(b'C');
/// Path of the log file; null for stdout. A path that was set is never freed.
static FILE: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());
/// Number of a [`Format`] in [`Format::ALL`], and the same for [`TimestampFormat`].
static FORMAT: AtomicU8 = AtomicU8::new(Format::Legacy as u8);
static TIMESTAMP: AtomicU8 = AtomicU8::new(TimestampFormat::Legacy as u8);
static SYSLOG: AtomicBool = AtomicBool::new(false);
/// The process that called [`init`], or zero before that. Any other process is its child.
static MAIN_PROCESS: AtomicU32 = AtomicU32::new(0);
/// Offset of local time from UTC: the number of the quarter of an hour for which it was determined, then the seconds
/// as an `i32`.
static ZONE: AtomicU64 = AtomicU64::new(0);

/// Directs `tracing` events of this process to the log. A second call changes the options.
///
/// The role is `C` until [`set_role`] changes it. Call this after the process has gone to the background: processes
/// forked later always print `C`.
///
/// # Errors
/// The file cannot be opened for appending, or a path or name contains a NUL byte.
pub fn init(options: LogDestination) -> io::Result<()> {
    set_file(options.file.as_deref())?;
    set_syslog(options.syslog.as_ref())?;
    MAIN_PROCESS.store(std::process::id(), Ordering::Relaxed);
    // Determined now, so that a child forked before the first line has it, too.
    utc_offset(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64, false);
    // Fails if a subscriber is set already, by an earlier call or by a test.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Lines));
    set_level(options.level);
    Ok(())
}

/// The current level.
pub fn level() -> Level {
    Level::ALL[usize::from(LEVEL.load(Ordering::Relaxed)).min(Level::Nothing as usize)]
}

/// Sets the level. O(call sites of the log in the program).
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Whether the lines go to a terminal.
pub fn is_on_terminal() -> bool {
    FILE.load(Ordering::Acquire).is_null() && io::stdout().is_terminal()
}

/// Chooses the form of the lines, and of the time in them.
pub fn set_format(format: Format, time: TimestampFormat) {
    FORMAT.store(format as u8, Ordering::Relaxed);
    TIMESTAMP.store(time as u8, Ordering::Relaxed);
}

fn format() -> (Format, TimestampFormat) {
    let last = Format::ALL.len() - 1;
    let number = |of: &AtomicU8| usize::from(of.load(Ordering::Relaxed)).min(last);
    (Format::ALL[number(&FORMAT)], TimestampFormat::ALL[number(&TIMESTAMP)])
}

/// Sets the role shown: `M` master, `S` replica, `X` sentinel, `C` not serving yet.
pub fn set_role(role: char) {
    ROLE.store(u8::try_from(role).unwrap_or(b'?'), Ordering::Relaxed);
}

/// Appends to `file` from now on, or writes to stdout if it is `None`.
///
/// The former path is never freed, because a signal handler or another thread may be reading it.
///
/// # Errors
/// The file cannot be opened for appending, or its path contains a NUL byte. Nothing has changed then.
pub fn set_file(file: Option<&Path>) -> io::Result<()> {
    let path = match file {
        None => ptr::null_mut(),
        Some(file) => {
            std::fs::OpenOptions::new().append(true).create(true).open(file)?;
            CString::new(file.as_os_str().as_bytes())?.into_raw()
        }
    };
    FILE.store(path, Ordering::Release);
    Ok(())
}

fn set_syslog(syslog: Option<&Syslog>) -> io::Result<()> {
    if let Some(Syslog { ident, facility }) = syslog {
        // The C library keeps the pointer.
        let ident = CString::new(ident.as_str())?.into_raw();
        // SAFETY: `ident` is a C string that is never freed.
        unsafe { libc::openlog(ident, libc::LOG_PID | libc::LOG_NDELAY | libc::LOG_NOWAIT, facility.code()) };
    }
    SYSLOG.store(syslog.is_some(), Ordering::Relaxed);
    Ok(())
}

/// Limits the rate of lines from one place in the program. Without a limit, clients could fill the disk and bury the
/// lines that matter to the operator.
#[derive(Debug)]
pub struct Limiter {
    /// Current second of the monotonic clock plus one; zero before the first line.
    second: AtomicU64,
    /// Number of lines requested in that second.
    asked: AtomicU64,
}

/// Verdict of a [`Limiter`] on a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// The line is written. The number says how many lines were left out since the last one written.
    Write(u64),
    /// The line is written, and is the last one in this second.
    Last,
    /// The line is left out.
    LeaveOut,
}

impl Limiter {
    /// Lines written per second.
    pub const PER_SECOND: u64 = 4;

    /// A limiter without any lines so far.
    #[expect(clippy::new_without_default, reason = "a limiter is a static, for which a default is of no use")]
    pub const fn new() -> Limiter {
        Limiter { second: AtomicU64::new(0), asked: AtomicU64::new(0) }
    }

    /// Decides whether a line that is due now is written.
    pub fn admit(&self) -> Admission {
        self.admit_at(clock::monotonic_ns() / 1_000_000_000)
    }

    fn admit_at(&self, second: u64) -> Admission {
        // Two threads may both see a new second, which costs a line more or less.
        if self.second.swap(second + 1, Ordering::Relaxed) != second + 1 {
            let before = self.asked.swap(1, Ordering::Relaxed);
            return Admission::Write(before.saturating_sub(Limiter::PER_SECOND));
        }
        match self.asked.fetch_add(1, Ordering::Relaxed) + 1 {
            Limiter::PER_SECOND => Admission::Last,
            asked if asked < Limiter::PER_SECOND => Admission::Write(0),
            _ => Admission::LeaveOut,
        }
    }
}

/// Logs a line that clients can cause: `limited!(warn, "…", …)`. Each use has a [`Limiter`] of its own.
#[macro_export]
macro_rules! limited {
    ($level:ident, $($text:tt)+) => {{
        use $crate::stats::log::{Admission, Limiter};
        static LIMITER: Limiter = Limiter::new();
        match LIMITER.admit() {
            Admission::LeaveOut => {}
            Admission::Write(0) => tracing::$level!($($text)+),
            Admission::Write(left_out) => {
                tracing::$level!("{} ({left_out} lines like this were left out before)", format_args!($($text)+))
            }
            Admission::Last => {
                tracing::$level!("{} (more lines like this are left out for a second)", format_args!($($text)+))
            }
        }
    }};
}
pub use limited;

/// Logs text of several lines as it is, without prefix or added line end.
pub fn raw(level: Level, text: &str) {
    if level >= self::level() {
        append(text.as_bytes());
        to_syslog(level, text);
    }
}

/// Logs a line from within a signal handler, where time zones and formatting are unavailable: `PID:signal-handler
/// (UNIX-TIME) message`. Async-signal-safe. Writes at most 256 bytes of the message.
pub fn from_signal_handler(message: &str) {
    if level() == Level::Nothing {
        return;
    }
    let mut line = Line { bytes: [0; 384], len: 0 };
    // SAFETY: `time` may be given a null pointer; it is async-signal-safe.
    let now = unsafe { libc::time(ptr::null_mut()) };
    line.number(u64::from(std::process::id()));
    line.text(b":signal-handler (");
    line.number(u64::try_from(now).unwrap_or(0));
    line.text(b") ");
    line.text(&message.as_bytes()[..message.len().min(256)]);
    line.text(b"\n");
    append(&line.bytes[..line.len]);
}

/// A line in a fixed buffer: a signal handler must not allocate.
struct Line {
    bytes: [u8; 384],
    len: usize,
}

impl Line {
    fn text(&mut self, text: &[u8]) {
        let room = &mut self.bytes[self.len..];
        let n = text.len().min(room.len());
        room[..n].copy_from_slice(&text[..n]);
        self.len += n;
    }

    fn number(&mut self, number: u64) {
        self.text(itoa::Buffer::new().format(number).as_bytes());
    }
}

/// The subscriber's only layer: turns events into lines.
struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if wanted(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        wanted(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(level().filter())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        text.message.push_str(&text.fields);
        log(Level::of(event.metadata().level()), &text.message);
    }
}

fn wanted(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && Level::of(metadata.level()) >= level()
}

/// The text of an event.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let written = match field.name() {
            "message" => self.message.write_fmt(value),
            name => write!(self.fields, " {name}={value}"),
        };
        // A `String` accepts all text. A value that fails to print itself is left incomplete.
        let _ = written;
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

fn log(level: Level, message: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let pid = std::process::id();
    let main = MAIN_PROCESS.load(Ordering::Relaxed);
    let in_child = main != 0 && main != pid;
    let role = if in_child { 'C' } else { char::from(ROLE.load(Ordering::Relaxed)) };
    let utc = now.as_secs() as i64;
    let at = Moment { utc, millis: now.subsec_millis(), offset: utc_offset(utc, in_child) };
    let (format, time) = format();
    append(line::Line { pid, role, at, level, message }.text(format, time).as_bytes());
    to_syslog(level, message);
}

/// The local time `at` seconds after 1970 began, for a message of the log: `Mon Nov 30 18:52:29 2026`.
pub fn date(at: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    date_text(at.saturating_add(i64::from(utc_offset(now, false))))
}

/// Seconds to add to UTC for local time at `now`.
///
/// Clocks change on a quarter of an hour, so the C library is asked once per quarter; never if `in_child`.
fn utc_offset(now: i64, in_child: bool) -> i32 {
    let quarter = (now / 900) as u32;
    let zone = ZONE.load(Ordering::Relaxed);
    if in_child || (zone >> 32) as u32 == quarter {
        return zone as u32 as i32;
    }
    // SAFETY: `tm` is plain data; `localtime_r` reads `now` and fills it, or leaves it zero.
    let offset = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const now, &raw mut tm);
        tm.tm_gmtoff as i32
    };
    ZONE.store(u64::from(quarter) << 32 | u64::from(offset as u32), Ordering::Relaxed);
    offset
}

/// Appends bytes to the log. Async-signal-safe. A failure to write the log cannot be reported anywhere.
fn append(bytes: &[u8]) {
    let path = FILE.load(Ordering::Acquire);
    if path.is_null() {
        write_all(libc::STDOUT_FILENO, bytes);
        return;
    }
    // SAFETY: a path that is not null is a C string that is never freed.
    let path = unsafe { CStr::from_ptr(path) };
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
    // SAFETY: `path` is a C string.
    let fd = unsafe { libc::open(path.as_ptr(), flags, 0o666) };
    if fd >= 0 {
        write_all(fd, bytes);
        // SAFETY: opened above, and nobody else has it.
        unsafe { libc::close(fd) };
    }
}

fn write_all(fd: c_int, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the pointer and length are those of a live slice.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(0) => return,
            Ok(n) => bytes = &bytes[n..],
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn to_syslog(level: Level, message: &str) {
    if SYSLOG.load(Ordering::Relaxed) {
        let message = CString::new(message.replace('\0', " ")).expect("the NUL bytes are replaced");
        // SAFETY: the format takes one C string, and gets one.
        unsafe { libc::syslog(level.syslog_priority(), c"%s".as_ptr(), message.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_writes_a_few_lines_in_a_second_and_counts_the_others() {
        let limiter = Limiter::new();
        let written = |second: u64, lines: u64| {
            let admitted = (0..lines).map(|_| limiter.admit_at(second));
            admitted.filter(|&admission| admission != Admission::LeaveOut).collect::<Vec<_>>()
        };
        assert_eq!(written(0, 2), [Admission::Write(0), Admission::Write(0)]);
        let full = [Admission::Write(0), Admission::Write(0), Admission::Write(0), Admission::Last];
        assert_eq!(written(1, 10_000), full);
        assert_eq!(written(1, 10), []);
        let after = [Admission::Write(10_010 - Limiter::PER_SECOND), Admission::Write(0)];
        assert_eq!(written(7, 2), after);
        assert_eq!(written(8, 4), full);
        assert_eq!(written(9, 1), [Admission::Write(0)], "nothing was left out");
    }

    #[test]
    fn names() {
        for level in Level::ALL {
            assert_eq!(level.name().parse(), Ok(level));
        }
        assert_eq!("WARNING".parse(), Ok(Level::Warning));
        assert_eq!("loud".parse::<Level>(), Err(UnknownName));
        assert_eq!("user".parse(), Ok(Facility::User));
        assert_eq!("LOCAL7".parse(), Ok(Facility::Local(7)));
        for name in ["local8", "local", "local00", "kern", ""] {
            assert_eq!(name.parse::<Facility>(), Err(UnknownName), "{name}");
        }
    }

    /// The log belongs to the process, so this test runs in a process of its own.
    fn log_to_a_file() {
        let dir = std::env::temp_dir().join(format!("spinel-log-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a new directory");
        let (file, moved) = (dir.join("log"), dir.join("log.1"));
        let options = LogDestination { file: Some(file.clone()), ..LogDestination::default() };
        let missing = LogDestination { file: Some(dir.join("none/log")), ..LogDestination::default() };
        assert!(init(missing).is_err());
        init(options).expect("the file can be created");

        tracing::info!("starting");
        set_role('M');
        tracing::debug!("too low");
        for level in Level::ALL {
            set_level(level);
            assert_eq!(self::level(), level);
            tracing::trace!("trace");
            tracing::debug!("debug");
            tracing::info!("info");
            tracing::warn!("warn");
            tracing::error!("error");
            raw(Level::Notice, "a picture\n");
            from_signal_handler("signal");
        }
        set_level(Level::Notice);
        std::fs::rename(&file, &moved).expect("it exists");
        tracing::info!(count = 3, name = "x y", ok = true, "after {}", "rotation");
        // SAFETY: the child only logs and leaves.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                tracing::warn!("in the child");
                libc::_exit(0);
            }
            assert_eq!(libc::waitpid(child, ptr::null_mut(), 0), child);
            let expected = format!("{child}:C # in the child");
            let text = std::fs::read_to_string(&file).expect("a new file");
            let lines: Vec<String> = text.lines().map(without_time).collect();
            let pid = std::process::id();
            assert_eq!(lines, [format!("{pid}:M * after rotation count=3 name=x y ok=true"), expected]);
        }
        let text = std::fs::read_to_string(&moved).expect("the old file");
        // The sign of the level; `p` for the text of several lines, `s` for the line of the signal handler.
        let signs: String = text
            .lines()
            .map(|line| {
                without_time(line).split(' ').nth(1).and_then(|word| word.chars().next()).expect("a word")
            })
            .collect();
        assert_eq!(signs, "*.-*##ps-*##ps*##ps##s", "{text}");
        std::fs::remove_dir_all(&dir).expect("ours");
    }

    /// `1:M 22 Nov 2026 05:51:08.032 * x` → `1:M * x`; other lines unchanged.
    fn without_time(line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [head, day, _, year, time, rest @ ..]
                if time.len() == 12 && day.len() == 2 && year.len() == 4 =>
            {
                format!("{head} {}", rest.join(" "))
            }
            _ => line.replace("signal-handler ", ""),
        }
    }

    #[test]
    fn a_file_takes_the_lines() {
        const INNER: &str = "SPINEL_TEST_LOG";
        if std::env::var_os(INNER).is_some() {
            return log_to_a_file();
        }
        let out = std::process::Command::new(std::env::current_exe().expect("we run"))
            .args(["--exact", "stats::log::tests::a_file_takes_the_lines", "--nocapture", "--test-threads=1"])
            .env(INNER, "1")
            .output()
            .expect("the test binary starts");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}
