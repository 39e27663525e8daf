//! Servers started for tests, and a plain client.
#![allow(dead_code)] // Each test binary uses its own part of this.

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A server process with a directory of its own, killed when dropped.
pub struct ServerProcess {
    child: Child,
    pub port: u16,
    pub dir: PathBuf,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// A port that was free a moment ago, as that of a cluster bus that belongs to it, and that no connection is given as its
/// own: a server can leave it and come back. No port is returned twice.
pub fn lasting_port() -> u16 {
    const BELOW_EPHEMERAL: std::ops::Range<u16> = 12_000..20_000;
    const TO_BUS: u16 = 10_000;
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rng = spinel::stdx::rng::Rng::from_os();
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut ports =
        std::iter::repeat_with(|| BELOW_EPHEMERAL.start + rng.index(BELOW_EPHEMERAL.len()) as u16);
    let port = ports.find(|&port| !given.contains(&port) && is_free(port) && is_free(port + TO_BUS));
    let port = port.expect("a port is free");
    given.push(port);
    port
}

/// The server binary of this crate.
pub fn spinel() -> PathBuf {
    // `SPINEL_BIN` names another build, for long runs.
    std::env::var_os("SPINEL_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_spinel")), PathBuf::from)
}

/// Options by which servers of this crate use I/O threads, as many as `SPINEL_IO_THREADS` says.
fn io_threads(binary: &Path) -> Vec<String> {
    match std::env::var("SPINEL_IO_THREADS") {
        Ok(threads) if binary == spinel() => vec!["--io-threads".to_owned(), threads],
        _ => Vec::new(),
    }
}

/// Reports that a test is skipped because something is missing, such as a tool. If `CI` is set, fails the test
/// instead.
#[track_caller]
pub fn skip(because: &str) {
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!in_ci, "CI is set, where nothing may be skipped: {because}");
    // Not `eprintln`, whose output the harness hides when a test passes.
    let _ = writeln!(io::stderr(), "SKIPPED: {because}");
}

/// A reference server, whose behaviour is taken as correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oracle {
    Redis7_0,
    Redis8_2,
    Valkey9_1,
}

impl Oracle {
    /// Names of the program, and the beginning of its `--version` output.
    fn names(self) -> (&'static [&'static str], &'static str) {
        match self {
            Oracle::Redis7_0 => (&["redis-server-7.0.15", "redis-server"], "Redis server v=7.0."),
            Oracle::Redis8_2 => (&["redis-server-8.2.3", "redis-server"], "Redis server v=8.2."),
            Oracle::Valkey9_1 => (&["valkey-server-9.1.2", "valkey-server"], "Valkey server v=9.1."),
        }
    }

    /// Options with which Spinel says that it is this server, and does as it does where it can.
    pub fn compat(self) -> [&'static str; 2] {
        let version = match self {
            Oracle::Redis7_0 => "7.2.4",
            Oracle::Redis8_2 => "8.2.3",
            Oracle::Valkey9_1 => "valkey-9.1.2",
        };
        ["--compat-version", version]
    }

    /// Path of the program, from the directory that `SPINEL_ORACLES` names or from the PATH. If it is missing, the
    /// test is skipped.
    #[track_caller]
    pub fn program(self) -> Option<PathBuf> {
        let (names, version) = self.names();
        let directories = [std::env::var_os("SPINEL_ORACLES"), std::env::var_os("PATH")];
        let directories: Vec<PathBuf> =
            directories.iter().flatten().flat_map(std::env::split_paths).collect();
        let found = directories.iter().flat_map(|dir| names.iter().map(|name| dir.join(name))).find(|file| {
            let output = Command::new(file).arg("--version").output();
            output.is_ok_and(|output| output.stdout.starts_with(version.as_bytes()))
        });
        if found.is_none() {
            skip(&format!("no {} that says '{version}'", names.join(" or ")));
        }
        found
    }
}

/// Redis 7.0, if it is installed.
#[track_caller]
pub fn redis() -> Option<PathBuf> {
    Oracle::Redis7_0.program()
}

/// Valkey 9.1, if it is installed.
#[track_caller]
pub fn valkey() -> Option<PathBuf> {
    Oracle::Valkey9_1.program()
}

impl ServerProcess {
    /// Starts `binary` with these options and waits until it serves.
    pub fn start(binary: &Path, options: &[&str]) -> ServerProcess {
        ServerProcess::start_with(binary, None, options, &[])
    }

    /// As [`ServerProcess::start`], with a configuration file and environment variables.
    pub fn start_with(
        binary: &Path,
        file: Option<&Path>,
        options: &[&str],
        environment: &[(&str, &Path)],
    ) -> ServerProcess {
        ServerProcess::start_at(free_port(), binary, file, options, environment)
    }

    /// As [`ServerProcess::start_with`], at a port.
    pub fn start_at(
        port: u16,
        binary: &Path,
        file: Option<&Path>,
        options: &[&str],
        environment: &[(&str, &Path)],
    ) -> ServerProcess {
        let dir = std::env::temp_dir().join(format!("spinel-test-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory can be made");
        let log = std::fs::File::create(dir.join("stdout")).expect("a file can be made");
        let mut command = Command::new(binary);
        command
            .args(file)
            .args(["--port", &port.to_string(), "--dir"])
            .arg(&dir)
            .args(["--save", "", "--bind", "127.0.0.1"])
            .args(io_threads(binary))
            .args(options)
            .envs(environment.iter().copied())
            .stdout(log.try_clone().expect("a descriptor is left"))
            .stderr(log)
            .stdin(Stdio::null());
        let mut spawn =
            || command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", binary.display()));
        let mut server = ServerProcess { child: spawn(), port, dir };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = Client::connect(port).and_then(|mut client| client.command(&[b"PING"]));
            if answer.is_ok_and(|reply| reply.starts_with(b"+PONG") || reply.starts_with(b"-NOAUTH")) {
                return server;
            }
            if let Some(status) = server.child.try_wait().expect("a child can be asked") {
                // On a busy machine, the child of a server that was killed may still have to close the port.
                if Instant::now() < deadline && server.log().trim_end().ends_with("(TCP), aborting.") {
                    std::thread::sleep(Duration::from_millis(100));
                    server.child = spawn();
                    continue;
                }
                panic!("{} ended with {status}: {}", binary.display(), server.log());
            }
            assert!(Instant::now() < deadline, "{} does not answer: {}", binary.display(), server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All output of the server so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.join("stdout")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Opens a connection to the server.
    pub fn client(&self) -> Client {
        Client::connect(self.port).expect("the server takes connections")
    }

    /// Process ID of the server.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        let _ = std::fs::remove_dir_all(&self.dir);
        // A server built with a sanitizer reports its fault.
        if let Some(at) = log.find("Sanitizer:") {
            let report = &log[log[..at].rfind('\n').unwrap_or(0)..];
            eprintln!("{report}");
            assert!(std::thread::panicking(), "a sanitizer has found a fault");
        }
    }
}

/// A connection that sends requests and reads replies as raw RESP.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client { stream: BufReader::with_capacity(1 << 16, stream) })
    }

    /// Sends raw bytes.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request and reads the reply.
    pub fn command(&mut self, args: &[&[u8]]) -> io::Result<Vec<u8>> {
        let mut request = Vec::new();
        spinel::resp::request::write_request(&mut request, args.iter().copied());
        self.send(&request)?;
        self.reply()
    }

    /// Reads one complete reply.
    pub fn reply(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        self.read_value(&mut out)?;
        Ok(out)
    }

    fn read_value(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            out.push(byte[0]);
            if out.ends_with(b"\r\n") {
                break;
            }
        }
        let line = out[start..out.len() - 2].to_vec();
        let number = || std::str::from_utf8(&line[1..]).ok().and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
        match line[0] {
            b'$' | b'=' if number() >= 0 => {
                let at = out.len();
                out.resize(at + number() as usize + 2, 0);
                self.stream.read_exact(&mut out[at..])?;
            }
            b'*' | b'~' | b'>' => {
                for _ in 0..number().max(0) {
                    self.read_value(out)?;
                }
            }
            b'%' => {
                for _ in 0..2 * number().max(0) {
                    self.read_value(out)?;
                }
            }
            b'|' => {
                for _ in 0..2 * number().max(0) {
                    self.read_value(out)?;
                }
                self.read_value(out)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads all output until the server closes the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let _ = self.stream.read_to_end(&mut out);
        out
    }
}

/// Sends words separated by single spaces; returns the raw reply without its last line end.
pub fn run(client: &mut Client, line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let reply = client.command(&words).expect("the server answers");
    String::from_utf8_lossy(&reply).trim_end().to_string()
}
