//! Checks whether a snapshot is whole: `spinel check-rdb FILE` reads it as a server would, but keeps nothing.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::format::{Dialect, type_name};
use super::load::{LoadError, LoadOptions, Loader, Receive, Step};
use crate::keyspace::Entry;
use crate::keyspace::access::Access;
use crate::stats::progress::{Lines, Progress, Unit};
use crate::stdx::clock::UnixMillis;
use crate::stdx::num::human_bytes;

/// Bytes between two reports of progress.
const STEP: u64 = 4 << 20;
/// Statistics of the values of one type.
#[derive(Clone, Copy, Default)]
struct Count {
    keys: u64,
    elements: u64,
    bytes: u64,
    largest: u64,
}

/// Results so far.
struct Findings {
    now: UnixMillis,
    by_type: [Count; 256],
    volatile: u64,
    due: u64,
    databases: usize,
    /// The current database, and the hashes of its keys: no key may occur twice.
    seen: (usize, HashSet<u64>),
}

impl Receive for Findings {
    fn databases(&self) -> usize {
        usize::MAX
    }

    fn receive(&mut self, db: usize, batch: &mut Vec<(u64, Entry)>, _: bool) -> Result<(), Entry> {
        if self.databases == 0 || self.seen.0 != db {
            self.databases += 1;
            self.seen = (db, HashSet::new());
        }
        for (hash, entry) in batch.drain(..) {
            if !self.seen.1.insert(hash) {
                return Err(entry);
            }
        }
        Ok(())
    }

    fn access(&self) -> Access {
        Access::default()
    }

    fn read(&mut self, value_type: u8, bytes: u64, entry: Option<&Entry>) {
        let count = &mut self.by_type[usize::from(value_type)];
        count.keys += 1;
        count.bytes += bytes;
        count.largest = count.largest.max(bytes);
        let Some(entry) = entry else { return };
        count.elements += entry.describe().map_or(1, |collection| collection.len() as u64);
        if let Some(at) = entry.expires() {
            self.volatile += 1;
            self.due += u64::from(at <= self.now);
        }
    }
}

/// Checks the file at `path` and reports its contents to `out`. Returns whether a server would load it with the default
/// options, which do not skip unsupported values.
///
/// # Errors
/// The file cannot be read, or `out` cannot be written to.
pub fn check(path: &Path, out: &mut dyn Write) -> io::Result<bool> {
    examine(path, out, true).map(|end| end.is_some())
}

/// Like [`check`], for a snapshot at the start of a longer file. Returns the offset of the snapshot's end, or `None`
/// if the snapshot is damaged.
///
/// # Errors
/// As for [`check`].
pub fn check_preamble(path: &Path, out: &mut dyn Write) -> io::Result<Option<u64>> {
    examine(path, out, false)
}

fn examine(path: &Path, out: &mut dyn Write, alone: bool) -> io::Result<Option<u64>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    writeln!(out, "Checking RDB file {} ({})", path.display(), human_bytes(size))?;
    let options = LoadOptions { skip_unsupported: true, ..LoadOptions::default() };
    let mut loader = Loader::new(Box::new(file), Some(size), options);
    let mut findings = Findings {
        now: UnixMillis::now(),
        by_type: [Count::default(); 256],
        volatile: 0,
        due: 0,
        databases: 0,
        seen: (0, HashSet::new()),
    };
    let mut progress = Progress::new("Checking", size, Unit::Bytes, Lines::Stderr);
    let result = loop {
        match loader.step(&mut findings, STEP, u64::MAX) {
            Ok(Step::More | Step::Starved) => progress.at(loader.offset()),
            Ok(Step::Done) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    drop(progress);
    describe(&loader, &findings, out)?;
    let left = if alone { size - loader.offset() } else { 0 };
    let whole = verdict(&loader, result, left, out)?;
    Ok(whole.then(|| loader.offset()))
}

fn describe(loader: &Loader<'_>, findings: &Findings, out: &mut dyn Write) -> io::Result<()> {
    let dialect = Dialect::of(loader.version());
    let about = loader.about();
    if loader.version() != 0 {
        let whose = if dialect == Dialect::Valkey { "Valkey" } else { "Redis" };
        writeln!(out, "Format: {whose}, version {}", loader.version())?;
    }
    if let Some(writer) = &about.writer {
        writeln!(out, "Written by version {}", writer.escape_ascii())?;
    }
    if let Some(created) = about.created {
        writeln!(out, "Created {} seconds ago", (findings.now.as_secs() - created).max(0))?;
    }
    if about.aof_base {
        writeln!(out, "It is the base of an append-only file.")?;
    }
    let tally = loader.tally();
    writeln!(out, "Keys read: {}, in databases: {}", tally.loaded + tally.empty, findings.databases)?;
    writeln!(out, "Keys that expire: {}, already expired: {}", findings.volatile, findings.due)?;
    if tally.skipped > 0 {
        writeln!(out, "Values that are not supported: {}", tally.skipped)?;
    }
    if tally.empty > 0 {
        writeln!(out, "Empty keys, which would be skipped: {}", tally.empty)?;
    }
    for (number, count) in findings.by_type.iter().enumerate().filter(|(_, count)| count.keys > 0) {
        writeln!(
            out,
            "  {:<30} {:>12} keys {:>14} elements {:>10} in all {:>10} the largest",
            type_name(number as u8, dialect).unwrap_or("unknown"),
            count.keys,
            count.elements,
            human_bytes(count.bytes),
            human_bytes(count.largest),
        )?;
    }
    Ok(())
}

fn verdict(
    loader: &Loader<'_>,
    result: Result<(), LoadError>,
    left: u64,
    out: &mut dyn Write,
) -> io::Result<bool> {
    match result {
        Ok(()) => {
            if left > 0 {
                writeln!(out, "[offset {}] {left} bytes follow the end of the data.", loader.offset())?;
            }
            if let Some(first) = loader.first_skipped() {
                writeln!(out, "[offset {}] RDB IS WHOLE BUT NOT SUPPORTED: {first}", loader.offset())?;
                writeln!(
                    out,
                    "A server loads it only with 'rdb-skip-unsupported yes', without such values."
                )?;
                return Ok(false);
            }
            writeln!(out, "[offset {}] RDB looks OK", loader.offset())?;
            Ok(true)
        }
        Err(error) => {
            writeln!(out, "[offset {}] RDB ERROR DETECTED: {error}", error.offset)?;
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(bytes: &[u8], name: &str) -> (bool, String) {
        let path = std::env::temp_dir().join(format!("spinel-check-{}-{name}.rdb", std::process::id()));
        std::fs::write(&path, bytes).expect("a temporary file");
        let mut out = Vec::new();
        let whole = check(&path, &mut out).expect("a file that can be read");
        std::fs::remove_file(&path).expect("our own file");
        (whole, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn whole_and_damaged_files() {
        // Bytes written by Valkey 9.1 for a string and for a hash with a field that expires.
        let string = b"VALKEY080\xfe\x00\xfb\x01\x00\x00\x01s\x05hello\xff\0\0\0\0\0\0\0\0";
        let (whole, text) = checked(string, "whole");
        assert!(whole, "{text}");
        assert!(text.contains("Format: Valkey, version 80\n"), "{text}");
        assert!(text.contains("Keys read: 1, in databases: 1\n"), "{text}");
        assert!(text.contains("[offset 32] RDB looks OK"), "{text}");
        let (whole, text) = checked(&string[..20], "cut");
        assert!(!whole);
        assert!(text.contains("RDB ERROR DETECTED: the data end too early"), "{text}");
        let array = b"REDIS0016\xfe\x00\x1c\x03arr\x01\x00\x00\x00\x01x\x00\x01s\x01v\xff\0\0\0\0\0\0\0\0";
        let (whole, text) = checked(array, "array");
        assert!(!whole);
        assert!(text.contains("Keys read: 1, in databases: 1\n"), "{text}");
        assert!(text.contains("Values that are not supported: 1\n"), "{text}");
        assert!(
            text.contains(
                "[offset 36] RDB IS WHOLE BUT NOT SUPPORTED: the key 'arr' in database 0: an array, a type that is not \
                 supported, at offset 22\n"
            ),
            "{text}"
        );
        let stream = b"REDIS0011\xfe\x00\x15\x02xs\x01";
        let (whole, text) = checked(stream, "stream");
        assert!(!whole);
        assert!(
            text.contains(
                "the data end too early, at offset 16, in a value of type 21 (stream-v3), of the key 'xs'"
            ),
            "{text}"
        );
    }
}
