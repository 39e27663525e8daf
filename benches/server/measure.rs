//! Measurements: processor time of a process, resident memory, and latencies.

use std::fs;
use std::io;
use std::time::Duration;

/// Processor time of all threads of a process, without child processes.
#[derive(Clone, Copy, Default)]
pub struct Cpu {
    /// Nanoseconds, from the scheduler's counters.
    pub ns: u64,
    /// Clock ticks in user code and in the kernel: too coarse for totals, but good for dividing `ns` between the
    /// two.
    ticks: [u64; 2],
}

impl Cpu {
    /// Processor time of the process `pid` so far.
    ///
    /// # Errors
    /// If there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> io::Result<Cpu> {
        let mut cpu = Cpu::default();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = task?.path();
            let text = fs::read_to_string(path.join("schedstat"))?;
            cpu.ns += number(text.split_ascii_whitespace().next())?;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The program name, in parentheses, may contain anything; fields are counted from its end.
        let (_, rest) = stat.rsplit_once(") ").ok_or(io::ErrorKind::InvalidData)?;
        let mut fields = rest.split_ascii_whitespace().skip(11);
        cpu.ticks = [number(fields.next())?, number(fields.next())?];
        Ok(cpu)
    }

    /// Processor time since `earlier`.
    pub fn since(self, earlier: Cpu) -> Cpu {
        let [user, system] = [0, 1].map(|i| self.ticks[i].saturating_sub(earlier.ticks[i]));
        Cpu { ns: self.ns.saturating_sub(earlier.ns), ticks: [user, system] }
    }

    /// Fraction of the time, from 0 to 1, spent in user code.
    pub fn user_share(self) -> f64 {
        let [user, system] = self.ticks;
        user as f64 / (user + system).max(1) as f64
    }
}

/// Processor time of the main thread of a process, and of all its threads, in nanoseconds.
#[derive(Clone, Copy)]
pub struct ThreadTimes {
    pub main_ns: u64,
    pub all_ns: u64,
}

impl ThreadTimes {
    /// The times of the process `pid` so far.
    ///
    /// # Errors
    /// As [`Cpu::of`].
    pub fn of(pid: u32) -> io::Result<ThreadTimes> {
        let main = fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat"))?;
        let main_ns = number(main.split_ascii_whitespace().next())?;
        Ok(ThreadTimes { main_ns, all_ns: Cpu::of(pid)?.ns })
    }

    /// The times since `earlier`.
    pub fn since(self, earlier: ThreadTimes) -> ThreadTimes {
        let [main_ns, all_ns] =
            [(self.main_ns, earlier.main_ns), (self.all_ns, earlier.all_ns)].map(|(now, then)| now - then);
        ThreadTimes { main_ns, all_ns }
    }
}

/// Resident memory of the process `pid` in bytes.
///
/// # Errors
/// If there is no such process, or no `/proc`.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(number(line.and_then(|line| line.split_ascii_whitespace().next()))? * 1024)
}

fn number(text: Option<&str>) -> io::Result<u64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Steps per power of two: latencies are recorded to about 3 %.
const STEPS: u64 = 32;

/// Histogram of latencies, with steps proportional to the latency (after Gil Tene's HdrHistogram).
#[derive(Clone)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies { counts: vec![0; (64 * STEPS) as usize], total: 0, longest: Duration::ZERO }
    }
}

impl Latencies {
    /// Adds a latency.
    pub fn add(&mut self, latency: Duration) {
        let ns = latency.as_nanos() as u64;
        self.counts[step_of(ns)] += 1;
        self.total += 1;
        self.longest = self.longest.max(latency);
    }

    /// The latency that a fraction `quantile` (0 to 1) of all did not exceed; zero if there are none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let rank = (quantile * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (step, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper_end(step)).min(self.longest);
            }
        }
        self.longest
    }

    /// The longest latency.
    pub fn longest(&self) -> Duration {
        self.longest
    }
}

fn step_of(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let shift = ns.ilog2() - STEPS.ilog2();
    (u64::from(shift) * STEPS + (ns >> shift)) as usize
}

fn upper_end(step: usize) -> u64 {
    let step = step as u64;
    if step < STEPS {
        return step;
    }
    let shift = step / STEPS - 1;
    ((step - shift * STEPS + 1) << shift) - 1
}

/// The median of some values; NaN if there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}
