//! Servers under comparison: finding them, starting them, sending them single requests.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use spinel::resp::request::write_request;

/// A server program.
#[derive(Clone)]
pub struct Program {
    pub name: String,
    pub path: PathBuf,
    /// Name and version as reported by the program, such as `Redis 7.0.15`.
    pub version: String,
}

/// Environment variable that names peers besides those on the PATH: `name=path` pairs separated by commas.
pub const PEERS: &str = "SPINEL_BENCH_PEERS";

/// Spinel and all peers on this machine. Programs that do not start are left out.
pub fn programs() -> Vec<Program> {
    let mut found = vec![("spinel".to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_spinel")))];
    let named = env::var(PEERS).unwrap_or_default();
    for (name, path) in named.split(',').filter_map(|pair| pair.split_once('=')) {
        found.push((name.trim().to_owned(), PathBuf::from(path.trim())));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    for program in ["redis-server", "valkey-server"] {
        let name = program.trim_end_matches("-server");
        let there = env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
        if let Some(path) = there
            && !found.iter().any(|(taken, _)| taken == name)
        {
            found.push((name.to_owned(), path));
        }
    }
    found
        .into_iter()
        .filter_map(|(name, path)| match Server::start(&path, &[], None) {
            Ok(mut server) => Some(Program { name, path, version: server.version() }),
            Err(error) => {
                eprintln!("{} is left out: {error}", path.display());
                None
            }
        })
        .collect()
}

/// A running server and a connection to it. Dropping it kills the server and removes its files.
pub struct Server {
    child: Child,
    directory: PathBuf,
    pub address: SocketAddr,
    reader: BufReader<TcpStream>,
}

/// Largest time that a server may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    /// Starts a server that stores nothing on disk unless `options` say otherwise, on a list of processors if given.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(program: &Path, options: &[&str], processors: Option<&str>) -> io::Result<Server> {
        // A port that the system has assigned and that is released is unlikely to be assigned again at once.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let directory =
            env::temp_dir().join(format!("spinel-bench-{}-{}", std::process::id(), address.port()));
        fs::create_dir_all(&directory)?;
        let mut command = match processors {
            Some(processors) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(processors).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.arg("--dir").arg(&directory).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let since = Instant::now();
        loop {
            if let Ok(stream) = TcpStream::connect(address) {
                stream.set_nodelay(true)?;
                let mut server = Server { child, directory, address, reader: BufReader::new(stream) };
                if server.ask(&["PING"]).is_ok_and(|reply| reply == "+PONG") {
                    return Ok(server);
                }
                return Err(io::Error::other("it does not answer"));
            }
            if child.try_wait()?.is_some() || since.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                let _ = fs::remove_dir_all(&directory);
                return Err(io::Error::other("it does not start"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Process ID of the server.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one request and waits for the reply, which is one line or one string.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn ask(&mut self, request: &[&str]) -> io::Result<String> {
        let mut bytes = Vec::new();
        write_request(&mut bytes, request.iter().map(|arg| arg.as_bytes()));
        self.reader.get_mut().write_all(&bytes)?;
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let line = line.trim_end();
        let Some(length) = line.strip_prefix('$') else { return Ok(line.to_owned()) };
        let mut string = vec![0; length.parse::<usize>().map_or(0, |length| length + 2)];
        self.reader.read_exact(&mut string)?;
        string.truncate(string.len().saturating_sub(2));
        Ok(String::from_utf8_lossy(&string).into_owned())
    }

    /// Value of an INFO field, as text.
    pub fn info(&mut self, field: &str) -> Option<String> {
        let text = self.ask(&["INFO", "everything"]).ok()?;
        text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::to_owned)
    }

    /// Bytes that the server reports for its data.
    pub fn used_memory(&mut self) -> u64 {
        self.info("used_memory").and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
    }

    fn version(&mut self) -> String {
        let name = self.info("server_name");
        let fields = [("Spinel", "spinel_version"), ("Valkey", "valkey_version"), ("Redis", "redis_version")];
        fields
            .iter()
            .find_map(|(name, field)| Some(format!("{name} {}", self.info(field)?)))
            .or(name)
            .unwrap_or_else(|| "unknown".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
