//! Reports: tables in Markdown, and a chart in SVG.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::compare::{Loading, Memory, Sample, Samples};
use crate::load;
use crate::measure::{Latencies, median};
use crate::process::Program;
use crate::workloads::{Case, Items, LOADED, Pause};

/// Fraction of a processor below which the server was waiting for the load generator.
const FULLY_BUSY: f64 = 0.9;

/// All results.
pub struct Results<'a> {
    pub programs: &'a [Program],
    pub rounds: usize,
    pub pinned: bool,
    pub cases: &'a [Case],
    /// Samples of each case.
    pub samples: Vec<Samples>,
    pub memory: Vec<(&'a Items, Vec<Option<Memory>>)>,
    pub pauses: Vec<(&'a Pause, Vec<Vec<Latencies>>)>,
    /// Loading times of each server.
    pub loading: Vec<Vec<Loading>>,
}

/// Title of the table of `loading`.
pub const LOADING: &str = "loading: a snapshot of 5 M strings";

/// Ratio of Spinel to the better peer: the median of the rounds, and their range.
#[derive(Clone, Copy)]
struct Ratio {
    median: f64,
    least: f64,
    most: f64,
}

/// Ratio of pairs of figures measured in the same round.
fn ratio(ours: &[Sample], theirs: &[Sample], figure: impl Fn(&Sample) -> f64) -> Option<Ratio> {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| figure(a) / figure(b)).collect();
    if ratios.is_empty() {
        return None;
    }
    Some(Ratio {
        median: median(ratios.iter().copied()),
        least: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        most: ratios.iter().copied().fold(0.0, f64::max),
    })
}

fn median_of(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    median(samples.iter().map(figure))
}

fn cpu(sample: &Sample) -> f64 {
    sample.cpu_ns
}

/// Index of the peer with the least time per request.
fn better_peer(samples: &Samples) -> Option<usize> {
    (1..samples.len())
        .filter(|&i| !samples[i].is_empty())
        .min_by(|&a, &b| median_of(&samples[a], cpu).total_cmp(&median_of(&samples[b], cpu)))
}

/// Ratio of Spinel's time per request to the better peer's.
fn against_better(samples: &Samples) -> Option<Ratio> {
    better_peer(samples).and_then(|peer| ratio(&samples[0], &samples[peer], cpu))
}

/// Title of a case in all tables.
pub fn title(case: &Case) -> String {
    format!("{}, P = {}", case.name, case.pipeline)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A duration in a suitable unit.
fn readable(time: Duration) -> String {
    match micros(time) {
        us if us < 1000.0 => format!("{us:.0} µs"),
        us => format!("{:.1} ms", us / 1000.0),
    }
}

impl Results<'_> {
    /// One line about a case, printed during the run.
    pub fn line(&self, which: usize) -> String {
        let mut line = format!("{:40}", title(&self.cases[which]));
        for (program, samples) in self.programs.iter().zip(&self.samples[which]) {
            let _ = write!(line, "  {} {:7.0} ns", program.name, median_of(samples, cpu));
        }
        if let Some(ratio) = against_better(&self.samples[which]) {
            let _ = write!(line, "  {:.2} ({:.2}–{:.2})", ratio.median, ratio.least, ratio.most);
        }
        line
    }

    /// All tables.
    pub fn markdown(&self) -> String {
        let mut out = String::from("# Spinel and its peers\n\n");
        self.circumstances(&mut out);
        if !self.cases.is_empty() {
            self.summary(&mut out);
            self.cpu_table(&mut out);
            self.speed_table(&mut out);
        }
        if !self.memory.is_empty() {
            self.memory_table(&mut out);
        }
        if !self.pauses.is_empty() {
            self.pause_table(&mut out);
        }
        if !self.loading.is_empty() {
            self.loading_table(&mut out);
        }
        out
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty() && self.memory.is_empty() && self.pauses.is_empty() && self.loading.is_empty()
    }

    fn circumstances(&self, out: &mut String) {
        let versions: Vec<&str> = self.programs.iter().map(|program| program.version.as_str()).collect();
        let _ = writeln!(
            out,
            "Written by `cargo bench --bench server` on {date}. {versions}. {machine}. {rounds} rounds; {place}.\n\n\
             Ratios are medians of the ratios within each round, with the least and the most in parentheses; below 1, \
             Spinel needs less. *P* is the number of requests a client sends at once; {connections} clients. Time is \
             what all threads of the server spent on a processor, by the scheduler's counters; child processes are \
             not in it.\n",
            date = output("date", &["-u", "+%Y-%m-%d"]),
            versions = versions.join(", "),
            machine = machine(),
            rounds = self.rounds,
            place = if self.pinned {
                "the server on one processor, the load generator on another"
            } else {
                "server and load generator share processors"
            },
            connections = crate::compare::CONNECTIONS,
        );
    }

    /// Number of rows in which Spinel needs less, and the other rows.
    fn summary(&self, out: &mut String) {
        let ratios: Vec<(String, Ratio)> = self
            .cases
            .iter()
            .zip(&self.samples)
            .filter_map(|(case, samples)| Some((title(case), against_better(samples)?)))
            .collect();
        let lost: Vec<String> = ratios
            .iter()
            .filter(|(_, ratio)| ratio.median >= 1.0)
            .map(|(title, ratio)| format!("{title} ({:.2})", ratio.median))
            .collect();
        let middle = median(ratios.iter().map(|(_, ratio)| ratio.median));
        let _ = writeln!(
            out,
            "Over {} workloads, the median of the processor time per request is {middle:.2} of the better peer's. \
             {}\n",
            ratios.len(),
            if lost.is_empty() {
                "Spinel needs less in all of them.".to_owned()
            } else {
                format!("Not won: {}.", lost.join("; "))
            }
        );
        let missing: Vec<String> = self
            .cases
            .iter()
            .zip(&self.samples)
            .filter(|(_, samples)| samples[0].is_empty())
            .map(|(case, _)| title(case))
            .collect();
        if !missing.is_empty() {
            let _ = writeln!(out, "Not there yet in Spinel: {}.\n", missing.join("; "));
        }
    }

    fn header(&self, out: &mut String, first: &str, per_program: &str, rest: &[&str]) {
        let _ = write!(out, "| {first} |");
        for program in self.programs {
            let _ = write!(out, " {}{per_program} |", program.name);
        }
        for column in rest {
            let _ = write!(out, " {column} |");
        }
        out.push_str("\n|---|");
        for _ in 0..self.programs.len() + rest.len() {
            out.push_str("---:|");
        }
        out.push('\n');
    }

    fn cpu_table(&self, out: &mut String) {
        out.push_str(
            "## Processor time per request\n\nNanoseconds (user + system), medians of the rounds.\n\n",
        );
        self.header(out, "workload", "", &["ratio to the better peer"]);
        for (case, samples) in self.cases.iter().zip(&self.samples) {
            let _ = write!(out, "| {} |", title(case));
            for samples in samples {
                let (total, user) = (median_of(samples, cpu), median_of(samples, |sample| sample.user_ns));
                if samples.is_empty() {
                    out.push_str(" – |");
                } else {
                    let _ = write!(out, " {total:.0} ({user:.0} + {:.0}) |", total - user);
                }
            }
            match against_better(samples) {
                Some(Ratio { median, least, most }) => {
                    let _ = writeln!(out, " **{median:.2}** ({least:.2}–{most:.2}) |");
                }
                None => out.push_str(" – |\n"),
            }
        }
        out.push('\n');
    }

    fn speed_table(&self, out: &mut String) {
        let _ = write!(
            out,
            "## Requests per second, and latency\n\nThousands of requests per second, and the median and the 99th \
             percentile of the time from sending P requests to the last reply. \\* The server was busy for less than \
             {:.0} % of the time: the load generator was the limit, and rates compare little.\n\n",
            FULLY_BUSY * 100.0
        );
        self.header(out, "workload", "", &["rate, ratio to the better peer"]);
        for (case, samples) in self.cases.iter().zip(&self.samples) {
            let _ = write!(out, "| {} |", title(case));
            for samples in samples {
                if samples.is_empty() {
                    out.push_str(" – |");
                    continue;
                }
                let waited = median_of(samples, |sample| sample.server_busy) < FULLY_BUSY;
                let _ = write!(
                    out,
                    " {:.0}{} ({:.0} / {:.0} µs) |",
                    median_of(samples, |sample| sample.per_second) / 1000.0,
                    if waited { "\\*" } else { "" },
                    median_of(samples, |sample| micros(sample.p50)),
                    median_of(samples, |sample| micros(sample.p99)),
                );
            }
            let rates = better_peer(samples)
                .and_then(|peer| ratio(&samples[0], &samples[peer], |sample| sample.per_second));
            match rates {
                Some(Ratio { median, least, most }) => {
                    let _ = writeln!(out, " {median:.2} ({least:.2}–{most:.2}) |");
                }
                None => out.push_str(" – |\n"),
            }
        }
        out.push('\n');
    }

    fn memory_table(&self, out: &mut String) {
        out.push_str(
            "## Memory\n\nBytes per item, by the server's own count / resident. *After churn*: half of the items were \
             overwritten at random, half deleted, and the bytes are divided by the items that are left.\n\n",
        );
        self.header(out, "items", "", &["ratio to the better peer, own count"]);
        for (items, rows) in &self.memory {
            let stages = [("", false), (", after churn", true)];
            for (suffix, churned) in stages.into_iter().take(1 + usize::from(items.churn.is_some())) {
                let _ = write!(out, "| {}{suffix} |", items.name);
                let footprints: Vec<_> = rows
                    .iter()
                    .map(|row| row.and_then(|row| if churned { row.churned } else { Some(row.loaded) }))
                    .collect();
                for footprint in &footprints {
                    match footprint {
                        Some(bytes) => {
                            let _ = write!(out, " {:.1} / {:.1} |", bytes.used, bytes.resident);
                        }
                        None => out.push_str(" – |"),
                    }
                }
                let best = footprints.iter().skip(1).flatten().map(|bytes| bytes.used).min_by(f64::total_cmp);
                match (footprints.first().copied().flatten(), best) {
                    (Some(ours), Some(best)) => {
                        let _ = writeln!(out, " **{:.2}** |", ours.used / best);
                    }
                    _ => out.push_str(" – |\n"),
                }
            }
        }
        out.push('\n');
    }

    fn pause_table(&self, out: &mut String) {
        out.push_str(
            "## Pauses\n\nHow long one client waits for a GET while the server does something large: median / 99.9th \
             percentile / longest, each the median of the rounds.\n\n",
        );
        self.header(out, "meanwhile", "", &[]);
        for (pause, rows) in &self.pauses {
            let _ = write!(out, "| {} |", pause.name);
            for row in rows {
                if row.is_empty() {
                    out.push_str(" – |");
                    continue;
                }
                let middle = |figure: fn(&Latencies) -> Duration| {
                    let seconds = row.iter().map(|latencies| figure(latencies).as_secs_f64());
                    readable(Duration::from_secs_f64(median(seconds)))
                };
                let _ = write!(
                    out,
                    " {} / {} / {} |",
                    middle(|latencies| latencies.quantile(0.5)),
                    middle(|latencies| latencies.quantile(0.999)),
                    middle(Latencies::longest)
                );
            }
            out.push('\n');
        }
        out.push('\n');
    }

    fn loading_table(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "## Loading\n\nA snapshot of {} million keys of 16 bytes with values of 8, written by the server itself; \
             nanoseconds per key, medians.\n",
            LOADED / 1_000_000
        );
        self.header(out, "", "", &[]);
        for (name, by_clock) in [("on a processor", false), ("by the clock", true)] {
            let _ = write!(out, "| {name} |");
            let figure = |loading: &Loading| if by_clock { loading.clock_ns } else { loading.cpu_ns };
            for loadings in &self.loading {
                let _ = match loadings.as_slice() {
                    [] => write!(out, " – |"),
                    _ => write!(out, " {:.0} |", median(loadings.iter().map(figure))),
                };
            }
            out.push('\n');
        }
        out.push('\n');
    }

    /// A bar per workload: Spinel's processor time per request, relative to the better peer's.
    pub fn svg(&self) -> String {
        const ROW: usize = 20;
        const TOP: usize = 64;
        const LEFT: f64 = 300.0;
        /// Pixels for a ratio of 1.
        const SCALE: f64 = 360.0;
        const WIDTH: f64 = LEFT + SCALE * 1.25 + 60.0;
        let bars: Vec<(String, Ratio)> = self
            .cases
            .iter()
            .zip(&self.samples)
            .filter_map(|(case, samples)| Some((title(case), against_better(samples)?)))
            .collect();
        let height = TOP + ROW * bars.len() + 16;
        let peers: Vec<&str> = self.programs.iter().skip(1).map(|program| program.version.as_str()).collect();
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"12\" y=\"22\" font-size=\"16\" font-weight=\"bold\">Processor time per request</text>\n\
             <text x=\"12\" y=\"42\" fill=\"#555555\">Spinel as a share of the better of {}; shorter is better. \
             Thin lines: least and most of {} rounds.</text>\n",
            peers.join(" and "),
            self.rounds
        );
        for (i, (title, ratio)) in bars.iter().enumerate() {
            let y = TOP + ROW * i;
            let x = |ratio: f64| LEFT + SCALE * ratio.min(1.25);
            let colour = if ratio.median < 1.0 { "#b0304f" } else { "#999999" };
            let _ = writeln!(
                out,
                "<text x=\"{label}\" y=\"{text}\" text-anchor=\"end\">{title}</text>\
                 <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"14\" fill=\"{colour}\"/>\
                 <line x1=\"{least:.1}\" x2=\"{most:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#222222\"/>\
                 <text x=\"{value:.1}\" y=\"{text}\">{median:.2}</text>",
                label = LEFT - 8.0,
                text = y + 11,
                width = x(ratio.median) - LEFT,
                least = x(ratio.least),
                most = x(ratio.most),
                middle = y + 7,
                value = x(ratio.most.max(ratio.median)) + 6.0,
                median = ratio.median,
            );
        }
        let one = LEFT + SCALE;
        let _ = writeln!(
            out,
            "<line x1=\"{one}\" x2=\"{one}\" y1=\"{}\" y2=\"{}\" stroke=\"#222222\" stroke-dasharray=\"3 3\"/>\n</svg>",
            TOP - 8,
            height - 8
        );
        out
    }
}

/// What the measurements were made on.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let virtual_machine = if cpuinfo.contains(" hypervisor") { ", a virtual machine" } else { "" };
    format!(
        "{} × {}{virtual_machine}, Linux {}",
        load::processors(),
        field("model name").unwrap_or_else(|| "unknown processor".to_owned()),
        fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim()
    )
}

/// Output of a program, or an empty text.
pub fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
