//! How far a check of a long file has come, for whoever watches.

use std::io::{self, IsTerminal};

/// Files above this size get a bar.
const LONG: u64 = 64 << 20;
/// Its characters.
const WIDTH: usize = 40;

/// A bar on the standard error, if that is a terminal and the file is long; removed when dropped.
pub struct Bar {
    size: u64,
    shown: bool,
}

impl Bar {
    /// For a file of `size` bytes.
    pub fn new(size: u64) -> Bar {
        Bar { size, shown: size >= LONG && io::stderr().is_terminal() }
    }

    /// `offset` bytes are read.
    pub fn show(&self, offset: u64) {
        if self.shown {
            let filled = (u128::from(offset) * WIDTH as u128 / u128::from(self.size.max(1))) as usize;
            let percent = offset as f64 / self.size.max(1) as f64 * 100.0;
            eprint!("\r[{:#<filled$}{:empty$}] {percent:3.0}%", "", "", empty = WIDTH - filled.min(WIDTH));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r{:width$}\r", "", width = WIDTH + 10);
        }
    }
}
