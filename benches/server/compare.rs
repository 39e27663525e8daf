//! Runs the tables of workloads on all servers in turn.
//!
//! In each round and for each data set, every server is restarted and loaded; then each workload runs on one server
//! after the other, so that drift of the machine affects all servers alike. Results are compared only within a
//! round.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use spinel::stdx::rng::Rng;

use crate::load::{self, Batches, Job};
use crate::measure::{Cpu, Latencies, resident_bytes};
use crate::process::{Program, Server};
use crate::workloads::{Case, Data, During, Fill, Items, LOADED, Pause, Write, strings, write};

/// Connections of the load generator.
pub const CONNECTIONS: usize = 50;

/// Requests sent at once while loading data.
const LOAD_PIPELINE: u64 = 64;

/// Requests prepared at a time while loading data.
const LOAD_CHUNK: u64 = 200_000;

/// One run of one workload on one server.
#[derive(Clone)]
pub struct Sample {
    /// Nanoseconds of processor time per request, in total and in user code.
    pub cpu_ns: f64,
    pub user_ns: f64,
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    /// Fraction of the time, from 0 to 1, in which a processor worked for the server.
    pub server_busy: f64,
}

/// Samples of all rounds for each server, in the order of the programs. A server without samples does not support
/// the workload.
pub type Samples = Vec<Vec<Sample>>;

/// Where the servers run.
#[derive(Clone, Copy)]
pub struct Place {
    /// Processor to which servers are bound, if there are several.
    pub processor: Option<usize>,
}

impl Place {
    fn start(self, program: &Program, data: &Data) -> io::Result<Server> {
        let processor = self.processor.map(|processor| processor.to_string());
        let server = Server::start(&program.path, &data.options, processor.as_deref())?;
        for fill in &data.fills {
            fill_with(&server, fill.requests, &fill.write, if data.in_order { 1 } else { 4 })?;
        }
        Ok(server)
    }
}

/// Sends requests as fast as the server accepts them, and expects no errors.
pub fn fill_with(server: &Server, requests: u64, write: &Write, connections: usize) -> io::Result<()> {
    let mut rng = Rng::new(1);
    let mut sent = 0;
    while sent < requests {
        let chunk = LOAD_CHUNK.min(requests - sent);
        let pipeline = if chunk < LOAD_PIPELINE { 1 } else { LOAD_PIPELINE };
        // Requests that do not fill a batch are sent one by one.
        let chunk = chunk / pipeline * pipeline;
        let batches = Batches::new(chunk, pipeline, 1, |out, i| write(out, &mut rng, sent + i));
        let chunk = batches.requests();
        let outcome = load::run(&Job { connections, ..job(server, &batches, chunk) })?;
        if let Some(error) = outcome.error {
            return Err(io::Error::other(error));
        }
        sent += chunk;
    }
    Ok(())
}

/// A load of [`CONNECTIONS`] connections.
pub fn job<'a>(server: &Server, batches: &'a Batches, requests: u64) -> Job<'a> {
    Job {
        server: server.address,
        pid: server.pid(),
        batches,
        connections: CONNECTIONS,
        requests,
        stop: None,
        probe: None,
        listeners: 0,
        readers: 0,
    }
}

/// Runs one round of all cases and appends the samples to `results`.
pub fn round(programs: &[Program], place: Place, cases: &[Case], number: usize, results: &mut [Samples]) {
    let mut at = 0;
    while at < cases.len() {
        let data = &cases[at].data;
        let same = cases[at..].iter().take_while(|case| Rc::ptr_eq(&case.data, data)).count();
        let mut servers: Vec<Option<Server>> = programs
            .iter()
            .map(|program| {
                let started = place.start(program, data);
                started.inspect_err(|error| eprintln!("{}: {}: {error}", cases[at].name, program.name)).ok()
            })
            .collect();
        for (case, samples) in cases[at..at + same].iter().zip(&mut results[at..at + same]) {
            let mut rng = Rng::new(1000 + number as u64);
            let batches = Batches::new(case.requests, case.pipeline, case.replies, |out, i| {
                (case.write)(out, &mut rng, i);
            });
            // The server that begins in one round comes last in the next.
            for turn in 0..programs.len() {
                let which = (turn + number) % programs.len();
                let Some(server) = &mut servers[which] else { continue };
                match sample(server, case, &batches) {
                    Ok(sample) => samples[which].push(sample),
                    Err(error) => eprintln!("{}: {}: {error}", case.name, programs[which].name),
                }
            }
        }
        at += same;
    }
}

fn sample(server: &Server, case: &Case, batches: &Batches) -> io::Result<Sample> {
    let (listeners, readers) = (case.listeners, case.readers);
    let outcome = load::run(&Job { listeners, readers, ..job(server, batches, case.requests) })?;
    if let Some(error) = outcome.error {
        return Err(io::Error::other(error));
    }
    let requests = outcome.requests as f64;
    let cpu_ns = outcome.server.ns as f64 / requests;
    let elapsed_ns = outcome.elapsed.as_nanos() as f64;
    Ok(Sample {
        cpu_ns,
        user_ns: cpu_ns * outcome.server.user_share(),
        per_second: requests / outcome.elapsed.as_secs_f64(),
        p50: outcome.latencies.quantile(0.5),
        p99: outcome.latencies.quantile(0.99),
        server_busy: outcome.server.ns as f64 / elapsed_ns,
    })
}

/// Memory per item, in bytes.
#[derive(Clone, Copy)]
pub struct Footprint {
    /// By the server's own count, and resident.
    pub used: f64,
    pub resident: f64,
}

/// Results of one row of the memory table for one server: after loading, and after half of the items were
/// overwritten and half deleted.
#[derive(Clone, Copy)]
pub struct Memory {
    pub loaded: Footprint,
    pub churned: Option<Footprint>,
}

/// Measures the memory of some items on one server.
///
/// # Errors
/// If the server does not accept the items.
pub fn memory(program: &Program, place: Place, items: &Items) -> io::Result<Memory> {
    let mut server = place.start(program, &items.base)?;
    let (used, resident) = (server.used_memory(), resident_bytes(server.pid())?);
    let footprint = |server: &mut Server, count: u64| -> io::Result<Footprint> {
        // Memory freed in the background, or returned to the system with a delay, needs a moment.
        std::thread::sleep(Duration::from_millis(1000));
        let per_item = |now: u64, before: u64| now.saturating_sub(before) as f64 / count as f64;
        Ok(Footprint {
            used: per_item(server.used_memory(), used),
            resident: per_item(resident_bytes(server.pid())?, resident),
        })
    };
    fill_with(&server, items.count, &items.load, 4)?;
    let loaded = footprint(&mut server, items.count)?;
    let mut churned = None;
    if let Some([overwrite, delete]) = &items.churn {
        // The same random half on every server; each item is deleted at most once.
        let mut order: Vec<u64> = (0..items.count).collect();
        Rng::new(7).shuffle(&mut order);
        let half = items.count / 2;
        let changed = order.clone();
        let change = Rc::clone(overwrite);
        fill_with(&server, half, &write(move |out, rng, i| change(out, rng, changed[i as usize])), 4)?;
        Rng::new(8).shuffle(&mut order);
        let remove = Rc::clone(delete);
        fill_with(&server, half, &write(move |out, rng, i| remove(out, rng, order[i as usize])), 4)?;
        churned = Some(footprint(&mut server, items.count - half)?);
    }
    Ok(Memory { loaded, churned })
}

/// Time to load one key from a snapshot in nanoseconds, in processor time and wall clock time.
#[derive(Clone, Copy)]
pub struct Loading {
    pub cpu_ns: f64,
    pub clock_ns: f64,
}

/// Makes one server load its own snapshot of strings several times; the data in memory are removed before each
/// load.
///
/// # Errors
/// If the server fails to do so.
pub fn loading(program: &Program, place: Place, rounds: usize) -> io::Result<Vec<Loading>> {
    let (requests, write) = strings(LOADED, 8);
    let data = Data {
        options: vec!["--enable-debug-command", "yes"],
        fills: vec![Fill { requests, write }],
        ..Data::default()
    };
    let mut server = place.start(program, &data)?;
    refused(&server.ask(&["SAVE"])?)?;
    (0..rounds)
        .map(|_| {
            refused(&server.ask(&["FLUSHALL"])?)?;
            let (before, since) = (Cpu::of(server.pid())?, Instant::now());
            refused(&server.ask(&["DEBUG", "RELOAD", "NOSAVE"])?)?;
            let (clock, cpu) = (since.elapsed(), Cpu::of(server.pid())?.since(before));
            let keys = server.ask(&["DBSIZE"])?;
            if keys != format!(":{LOADED}") {
                return Err(io::Error::other(format!("it has {keys} keys after loading")));
            }
            let per_key = |ns: f64| ns / LOADED as f64;
            Ok(Loading { cpu_ns: per_key(cpu.ns as f64), clock_ns: per_key(clock.as_nanos() as f64) })
        })
        .collect()
}

/// Measures the latency of a connection that sends single requests while the server is busy with a large task.
///
/// # Errors
/// If the server fails to do so.
pub fn pause(program: &Program, place: Place, pause: &Pause) -> io::Result<Latencies> {
    let mut server = place.start(program, &pause.data)?;
    let mut probe = Vec::new();
    spinel::resp::request::write_request(&mut probe, [&b"GET"[..], b"probe"].into_iter());
    let mut rng = Rng::new(5);
    let mut batches =
        |requests: u64, write: &Write| Batches::new(requests, 16, 1, |out, i| write(out, &mut rng, i));
    match &pause.during {
        During::Requests(requests, write) => {
            let batches = batches(*requests, write);
            let job = Job { connections: 4, probe: Some(&probe), ..job(&server, &batches, *requests) };
            Ok(load::run(&job)?.latencies)
        }
        During::Until { request, field, write } => {
            let batches = batches(400_000, write);
            probe_while(&mut server, &probe, (&batches, 4), |server| {
                let reply = server.ask(request);
                while server.info(field).is_some_and(|value| value != "0") {
                    std::thread::sleep(Duration::from_millis(20));
                }
                reply
            })
        }
        During::Wait { request, ms } => {
            probe_while(&mut server, &probe, (&Batches::default(), 0), |server| {
                std::thread::sleep(Duration::from_millis(100));
                let reply = if request.is_empty() { Ok(String::new()) } else { server.ask(request) };
                std::thread::sleep(Duration::from_millis(*ms));
                reply
            })
        }
    }
}

/// Latencies of `probe` until `control` ends, while this many connections send `batches`.
fn probe_while(
    server: &mut Server,
    probe: &[u8],
    (batches, connections): (&Batches, usize),
    control: impl FnOnce(&mut Server) -> io::Result<String> + Send,
) -> io::Result<Latencies> {
    let stop = AtomicBool::new(false);
    let job = Job { connections, stop: Some(&stop), probe: Some(probe), ..job(server, batches, u64::MAX) };
    std::thread::scope(|scope| {
        let control = scope.spawn(|| {
            let reply = control(server);
            stop.store(true, Ordering::Relaxed);
            reply
        });
        let outcome = load::run(&job);
        refused(&control.join().expect("the control thread does not panic")?)?;
        Ok(outcome?.latencies)
    })
}

fn refused(reply: &str) -> io::Result<()> {
    if reply.starts_with('-') { Err(io::Error::other(reply.to_owned())) } else { Ok(()) }
}
