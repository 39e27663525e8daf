//! I/O threads: what they take off the main thread, and what that means for machines with more processors.
//!
//! The main thread runs all commands, so its processor time per request limits a server that has enough other
//! processors. That time can be measured on a machine with two processors; the throughput on larger machines is
//! simulated from the measured times.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::io;

use spinel::stdx::rng::Rng;

use crate::compare::{CONNECTIONS, fill_with, job};
use crate::load::{self, Batches};
use crate::measure::{ThreadTimes, median};
use crate::process::{Program, Server};
use crate::report;
use crate::workloads::{get, strings};

/// Title of the page, for filters.
pub const TITLE: &str = "I/O threads";

/// Keys that are read.
const KEYS: u64 = 100_000;

/// Pipelines, with the number of requests measured.
const PIPELINES: [(u64, u64); 2] = [(1, 400_000), (16, 4_000_000)];

/// What is measured for one server with one pipeline and number of threads.
#[derive(Clone, Copy)]
pub struct Times {
    /// Nanoseconds per request of the main thread, and of all threads.
    pub main_ns: f64,
    pub all_ns: f64,
    pub per_second: f64,
}

/// Samples of all rounds for one server, one pipeline, and one number of threads.
pub struct Row {
    pub program: usize,
    pub pipeline: u64,
    pub threads: u32,
    pub samples: Vec<Times>,
}

impl Row {
    fn median(&self, value: impl Fn(&Times) -> f64) -> f64 {
        median(self.samples.iter().map(value))
    }
}

/// The load average of the last minute.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Measures all servers with one and with two threads in turn, `rounds` times.
pub fn measure(programs: &[Program], rounds: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = (0..programs.len())
        .flat_map(|program| {
            PIPELINES.iter().flat_map(move |&(pipeline, _)| {
                [1, 2].map(|threads| Row { program, pipeline, threads, samples: Vec::new() })
            })
        })
        .collect();
    for round in 0..rounds {
        for (program, row) in rows.chunks_mut(PIPELINES.len() * 2).enumerate() {
            for threads in [1, 2] {
                let measured = run(&programs[program], threads, round as u64);
                match measured {
                    Ok(times) => {
                        let rows = row.iter_mut().filter(|row| row.threads == threads);
                        rows.zip(times).for_each(|(row, times)| row.samples.push(times));
                    }
                    Err(error) => eprintln!("{TITLE}: {}: {error}", programs[program].name),
                }
            }
        }
    }
    rows
}

/// One server with one number of threads: a measurement per pipeline.
fn run(program: &Program, threads: u32, seed: u64) -> io::Result<Vec<Times>> {
    let count = threads.to_string();
    let everywhere = format!("0-{}", load::processors() - 1);
    let server = Server::start(&program.path, &["--io-threads", &count], Some(&everywhere))?;
    let (requests, write) = strings(KEYS, 8);
    fill_with(&server, requests, &write, 4)?;
    let read = get(KEYS);
    let mut all = Vec::new();
    for (pipeline, requests) in PIPELINES {
        let mut rng = Rng::new(seed);
        let batches = Batches::new(requests / 10, pipeline, 1, |out, i| read(out, &mut rng, i));
        // Once to warm up.
        load::run(&job(&server, &batches, requests / 10))?;
        let before = ThreadTimes::of(server.pid())?;
        let outcome = load::run(&job(&server, &batches, requests))?;
        let times = ThreadTimes::of(server.pid())?.since(before);
        if let Some(error) = outcome.error {
            return Err(io::Error::other(error));
        }
        let requests = outcome.requests as f64;
        all.push(Times {
            main_ns: times.main_ns as f64 / requests,
            all_ns: times.all_ns as f64 / requests,
            per_second: requests / outcome.elapsed.as_secs_f64(),
        });
    }
    Ok(all)
}

/// Processors of the machines whose throughput is simulated.
const PROCESSORS: [usize; 5] = [1, 2, 4, 8, 16];

/// Throughput in requests per second of a machine with enough clients' processors besides: one processor for the main
/// thread, each other one for an I/O thread.
///
/// `clients` send a request, or a pipeline of `batch`, as soon as they have the reply to the last one. Their I/O thread
/// receives it, the main thread executes it, the I/O thread sends the reply. Each step waits in line and takes a random
/// time around its mean: that of the I/O thread is divided evenly between receiving and sending. Times are
/// in nanoseconds per request.
fn simulate(main_ns: f64, io_ns: f64, processors: usize, clients: usize, batch: u64) -> f64 {
    const STEPS: usize = 400_000;
    let threads = processors - 1;
    let mut rng = Rng::new(3);
    // Half of each time is certain, and half is exponential.
    let mut takes = move |mean: f64| {
        let uniform = (rng.below(1 << 30) + 1) as f64 / (1u64 << 30) as f64;
        (mean * batch as f64 * (0.5 - 0.5 * uniform.ln())) as u64
    };
    // Station 0 is the main thread. An entry is a client with the step that it is at: receive, execute, send.
    let mut queues: Vec<VecDeque<(usize, u8)>> = vec![VecDeque::new(); processors];
    let mut busy = vec![false; processors];
    let mut ends: BinaryHeap<Reverse<(u64, usize, usize, u8)>> = BinaryHeap::new();
    let station = |client: usize, step: u8| if step == 1 || threads == 0 { 0 } else { 1 + client % threads };
    for client in 0..clients {
        queues[station(client, 0)].push_back((client, 0));
    }
    let (mut now, mut done) = (0, 0u64);
    for _ in 0..STEPS {
        for at in 0..processors {
            if !busy[at]
                && let Some((client, step)) = queues[at].pop_front()
            {
                busy[at] = true;
                let mean = if step == 1 { main_ns } else { io_ns / 2.0 };
                ends.push(Reverse((now + takes(mean), at, client, step)));
            }
        }
        let Some(Reverse((time, at, client, step))) = ends.pop() else { break };
        now = time;
        busy[at] = false;
        done += u64::from(step == 2);
        let next = (step + 1) % 3;
        queues[station(client, next)].push_back((client, next));
    }
    (done * batch) as f64 * 1e9 / now.max(1) as f64
}

/// The ratio of two rows' times of the main thread: the median of the rounds.
fn ratio(ours: &Row, theirs: &Row) -> f64 {
    median(ours.samples.iter().zip(&theirs.samples).map(|(ours, theirs)| ours.main_ns / theirs.main_ns))
}

/// The results page. `loads` are the load averages before and after the measurements.
pub fn text(programs: &[Program], rows: &[Row], rounds: usize, loads: [&str; 2]) -> String {
    let versions: Vec<&str> = programs.iter().map(|program| program.version.as_str()).collect();
    let mut out = format!(
        "# {TITLE}\n\nWritten by `cargo bench --bench server -- \"{TITLE}\"` on {}. {}. {}. Medians of {rounds} rounds, the servers \
         in turn; servers on all processors, the load generator on one of them. The load average was {} before the \
         measurements and {} afterwards.\n\n\
         The main thread runs all commands, so its processor time per request limits a server that has enough other \
         processors. That time can be measured on a machine with few of them. Requests per second cannot: there, \
         the threads and the load generator take processors from each other.\n\n\
         ## Processor time\n\n\
         GET of {KEYS} keys with {CONNECTIONS} connections, each sending *P* requests at once. Microseconds per request, of \
         the main thread and of all threads, with `io-threads` 1 and 2.\n\n\
         | server | P | main, 1 | main, 2 | ratio | all, 1 | all, 2 | ratio | requests/s, 1 | requests/s, 2 |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        report::output("date", &["-u", "+%Y-%m-%d"]),
        versions.join(", "),
        report::machine(),
        loads[0],
        loads[1],
    );
    let pairs: Vec<(&Row, &Row)> = rows
        .chunks_exact(2)
        .map(|pair| (&pair[0], &pair[1]))
        .filter(|(one, two)| !one.samples.is_empty() && !two.samples.is_empty())
        .collect();
    for &(one, two) in &pairs {
        let us = |row: &Row, value: fn(&Times) -> f64| row.median(value) / 1000.0;
        let (main, all) =
            ([one, two].map(|row| us(row, |t| t.main_ns)), [one, two].map(|row| us(row, |t| t.all_ns)));
        let rate = [one, two].map(|row| row.median(|t| t.per_second));
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} |",
            programs[one.program].version,
            one.pipeline,
            main[0],
            main[1],
            ratio(two, one),
            all[0],
            all[1],
            all[1] / all[0],
            rate[0],
            rate[1]
        );
    }
    out.push('\n');
    for (pipeline, _) in PIPELINES {
        let with_two = |program: usize| {
            pairs.iter().map(|(_, two)| *two).find(|two| (two.program, two.pipeline) == (program, pipeline))
        };
        let Some(ours) = with_two(0) else { continue };
        for (program, theirs) in (1..programs.len()).filter_map(|peer| Some((peer, with_two(peer)?))) {
            let _ = writeln!(
                out,
                "- With two threads at P = {pipeline}, the main thread of Spinel needs {:.2} of the time of {}'s.",
                ratio(ours, theirs),
                programs[program].version
            );
        }
    }
    let _ = write!(
        out,
        "\n## Larger machines\n\nA calculation: requests per second if the measured times hold, with one processor for the \
         main thread, each other one for an I/O thread, and clients on another machine, 16 connections per processor and at \
         least {CONNECTIONS}. The queues in front of the threads are simulated: each request waits for its I/O thread, for the \
         main thread, and for its I/O thread again; half of each time is constant, half random. With one processor there is \
         one thread. *Limit* is where the main thread has no time left.\n\n| server | P |"
    );
    PROCESSORS.iter().for_each(|n| _ = write!(out, " {n} |"));
    out.push_str(" limit | saturated from |\n|---|---:|");
    PROCESSORS.iter().for_each(|_| out.push_str("---:|"));
    out.push_str("---:|---:|\n");
    for &(one, two) in &pairs {
        let _ = write!(out, "| {} | {} |", programs[one.program].version, one.pipeline);
        let limit = 1e9 / two.median(|t| t.main_ns);
        let mut saturated = None;
        for n in PROCESSORS {
            let clients = CONNECTIONS.max(16 * n);
            let row = if n == 1 { one } else { two };
            let (main, all) = (row.median(|t| t.main_ns), row.median(|t| t.all_ns));
            let rate = simulate(main, all - main, n, clients, one.pipeline);
            if n > 1 && rate > 0.95 * limit {
                saturated = saturated.or(Some(n));
            }
            let _ = write!(out, " {rate:.0} |");
        }
        let saturated = saturated.map_or("–".to_owned(), |n| format!("{n} processors"));
        let _ = writeln!(out, " {limit:.0} | {saturated} |");
    }
    out
}
