//! How far long work has come, for those who wait for it: a bar on a terminal, and a line every few seconds.
//!
//! The bar is on standard error, and not there if the lines of the log go to a terminal, too: they would mix. Work that
//! ends soon has neither bar nor lines.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::log;
use crate::stdx::num::human_bytes;

/// Time between two lines, and before the first one.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Time before there is a bar.
const BAR_AFTER: Duration = Duration::from_millis(500);

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Keys.
    Keys,
}

/// Where lines go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lines {
    /// To the log.
    Log,
    /// To standard error, unless the bar is there.
    Stderr,
}

/// The progress of one piece of work. Dropping it removes the bar.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    /// How much there is to do; 0 if that is unknown.
    total: u64,
    unit: Unit,
    lines: Lines,
    began: Instant,
    next_line: Instant,
    wants_bar: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Work that begins now. `what` is how a line begins; `total` is how much there is to do, 0 if that is unknown.
    pub fn new(what: &'static str, total: u64, unit: Unit, lines: Lines) -> Progress {
        let began = Instant::now();
        let mixes = lines == Lines::Log && log::is_on_terminal();
        let wants_bar = !mixes && io::stderr().is_terminal();
        Progress { what, total, unit, lines, began, next_line: began + LINE_EVERY, wants_bar, bar: None }
    }

    /// So much is done. Looks at the clock: to be called every few hundred kilobytes, not for each key.
    pub fn at(&mut self, done: u64) {
        let now = Instant::now();
        if self.wants_bar && now.duration_since(self.began) >= BAR_AFTER {
            let (what, total) = (self.what, self.total);
            self.bar.get_or_insert_with(|| bar(what, total)).set_position(done);
        }
        let Some(line) = self.line(done, now) else { return };
        match self.lines {
            Lines::Log => tracing::info!("{line}"),
            Lines::Stderr if self.wants_bar => {}
            Lines::Stderr => eprintln!("{line}"),
        }
    }

    /// The line that is due at a time, if any.
    fn line(&mut self, done: u64, now: Instant) -> Option<String> {
        if now < self.next_line {
            return None;
        }
        self.next_line = now + LINE_EVERY;
        let seconds = now.duration_since(self.began).as_secs_f64();
        let per_second = done as f64 / seconds.max(0.001);
        let amount = |n: u64| match self.unit {
            Unit::Bytes => human_bytes(n),
            Unit::Keys => format!("{n} keys"),
        };
        let (what, rate) = (self.what, amount(per_second as u64));
        if self.total == 0 {
            return Some(format!("{what}: {} so far, {rate} per second", amount(done)));
        }
        let part = (done as f64 / self.total as f64).min(1.0);
        let mut line = format!("{what}: {:.1} % of {}, {rate} per second", part * 100.0, amount(self.total));
        if part > 0.0 {
            line += &format!(", about {:.0} seconds left", seconds * (1.0 - part) / part);
        }
        Some(line)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, total: u64) -> ProgressBar {
    let (len, form) = match total {
        0 => (None, "{prefix} {spinner}"),
        n => (Some(n), "{prefix} [{wide_bar}] {percent:>3} %, {eta} left "),
    };
    let style = ProgressStyle::with_template(form).expect("the templates above").progress_chars("##-");
    let target = ProgressDrawTarget::stderr();
    ProgressBar::with_draw_target(len, target).with_style(style).with_prefix(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_every_few_seconds() {
        let mut progress = Progress::new("Loading", 4 << 30, Unit::Bytes, Lines::Log);
        let began = progress.began;
        let mut at = |ms: u64, done| progress.line(done, began + Duration::from_millis(ms));
        assert_eq!(at(4_999, 1 << 30), None);
        let line = "Loading: 25.0 % of 4.00G, 204.80M per second, about 15 seconds left";
        assert_eq!(at(5_000, 1 << 30).as_deref(), Some(line));
        assert_eq!(at(9_999, 2 << 30), None);
        let line = "Loading: 50.0 % of 4.00G, 204.80M per second, about 10 seconds left";
        assert_eq!(at(10_000, 2 << 30).as_deref(), Some(line));
        // More than was announced, and nothing at all.
        assert!(
            at(20_000, 5 << 30)
                .is_some_and(|line| line.contains("100.0 %") && line.contains("0 seconds left"))
        );
        let mut idle = Progress::new("Loading", 100, Unit::Keys, Lines::Log);
        let line = idle.line(0, idle.began + LINE_EVERY);
        assert_eq!(line.as_deref(), Some("Loading: 0.0 % of 100 keys, 0 keys per second"));
    }

    #[test]
    fn a_total_that_is_unknown() {
        let mut progress = Progress::new("Receiving", 0, Unit::Bytes, Lines::Log);
        let line = progress.line(10 << 20, progress.began + Duration::from_secs(10));
        assert_eq!(line.as_deref(), Some("Receiving: 10.00M so far, 1.00M per second"));
    }

    #[test]
    fn bars_have_valid_forms() {
        for total in [0, 100] {
            let bar = bar("Checking", total);
            bar.set_position(50);
            bar.finish_and_clear();
        }
    }
}
