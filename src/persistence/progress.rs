//! A progress bar for checks of long files.

use std::io::{self, IsTerminal};

/// Files of at least this many bytes get a bar.
const LONG: u64 = 64 << 20;
/// Characters of the bar.
const WIDTH: usize = 40;

/// A progress bar on standard error, shown if that is a terminal and the file is long. Dropping it removes the bar.
pub struct ProgressBar {
    size: u64,
    shown: bool,
}

impl ProgressBar {
    /// A bar for a file of `size` bytes.
    pub fn new(size: u64) -> ProgressBar {
        ProgressBar { size, shown: size >= LONG && io::stderr().is_terminal() }
    }

    /// Draws the bar for `offset` bytes read.
    pub fn show(&self, offset: u64) {
        if self.shown {
            let filled = (u128::from(offset) * WIDTH as u128 / u128::from(self.size.max(1))) as usize;
            let percent = offset as f64 / self.size.max(1) as f64 * 100.0;
            eprint!("\r[{:#<filled$}{:empty$}] {percent:3.0}%", "", "", empty = WIDTH - filled.min(WIDTH));
        }
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r{:width$}\r", "", width = WIDTH + 10);
        }
    }
}
