//! Checks whether append-only files are whole: `spinel check-aof [--fix] FILE`. The check reads the files and
//! executes nothing.
//!
//! The check is stricter than loading: a malformed line end, for example, which a server would accept, shows that the
//! file is damaged. A file is good up to the end of the last complete request outside an open transaction. The rest
//! can be cut off (`--fix`), as can everything after a given time (`--truncate-to-timestamp`). Only the last file of
//! a manifest may be cut, because the files behind a shortened one would no longer fit.
//!
//! Lines that scripts search for have the wording of `redis-check-aof`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::manifest::{Manifest, Part};
use crate::persistence::rdb::check as rdb;
use crate::stats::progress::{Lines, Progress, Unit};
use crate::stdx::num;

/// Bytes read at a time.
const PIECE: usize = 256 << 10;
/// Longest line in bytes: annotations and numbers are shorter.
const LONGEST_LINE: usize = 1024;
/// Number of different command names counted. The limit bounds memory, since a damaged file may hold any number of
/// names.
const NAMES: usize = 512;
/// Bytes of a command name shown in the summary.
const LONGEST_NAME: usize = 32;

/// What to do about a file, apart from reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repair {
    /// Report only.
    Nothing,
    /// Cut off everything behind the good part.
    Fix,
    /// Cut off everything later than this second of Unix time.
    Until(i64),
}

/// Checks the file at `path`, or every file listed in it if it is a manifest, and reports to `out`. Returns whether a
/// server would now load the files. `confirm` is asked before anything is cut off.
///
/// # Errors
/// Writing to `out` failed.
pub fn check(
    path: &Path,
    mend: Repair,
    out: &mut dyn Write,
    confirm: &mut dyn FnMut() -> bool,
) -> io::Result<bool> {
    let mut checker = Checker { mend, out, confirm, lines: 0 };
    match is_manifest(path) {
        Err(error) => checker.refuse(&format!("Cannot open file {}: {}", path.display(), error)),
        Ok(true) => checker.manifest(path),
        Ok(false) => {
            writeln!(checker.out, "Start checking Old-Style AOF")?;
            checker.file(path, &path.display().to_string(), "AOF", true)
        }
    }
}

/// Whether the first line that is not an annotation lists a file.
fn is_manifest(path: &Path) -> io::Result<bool> {
    let mut file = BufReader::new(File::open(path)?.take(1 << 20));
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut file).take(1024).read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        if line.first() != Some(&b'#') {
            return Ok(line.len() > 4 && line[..4].eq_ignore_ascii_case(b"file"));
        }
    }
}

/// Whether the file begins with a snapshot.
fn is_snapshot(path: &Path) -> io::Result<bool> {
    let mut magic = Vec::new();
    File::open(path)?.take(5).read_to_end(&mut magic)?;
    Ok(matches!(magic.as_slice(), b"REDIS" | b"VALKE"))
}

struct Checker<'a> {
    mend: Repair,
    out: &'a mut dyn Write,
    confirm: &'a mut dyn FnMut() -> bool,
    /// Line ends of the preceding files. Lines are counted over all files of a manifest, as `redis-check-aof` does.
    lines: u64,
}

impl Checker<'_> {
    fn refuse(&mut self, line: &str) -> io::Result<bool> {
        writeln!(self.out, "{line}")?;
        Ok(false)
    }

    fn manifest(&mut self, path: &Path) -> io::Result<bool> {
        writeln!(self.out, "Start checking Multi Part AOF")?;
        let manifest = match std::fs::read(path) {
            Ok(text) => Manifest::parse(&text).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(error) => return self.refuse(&format!("AOF manifest {}: {error}", path.display())),
        };
        let dir = path.parent().unwrap_or(Path::new("."));
        let last = manifest.parts().next_back().cloned();
        let is_last = |part: &Part| last.as_ref() == Some(part);
        if let Some(base) = &manifest.base {
            let path = dir.join(&base.name);
            let form = match is_snapshot(&path) {
                Ok(true) => "RDB",
                Ok(false) => "RESP",
                Err(error) => {
                    return self.refuse(&format!("Cannot open file {}: {}", path.display(), error));
                }
            };
            writeln!(self.out, "Start to check BASE AOF ({form} format).")?;
            if !self.file(&path, &base.name, "BASE AOF", is_last(base))? {
                return Ok(false);
            }
        }
        if !manifest.increments.is_empty() {
            writeln!(self.out, "Start to check INCR files.")?;
        }
        for part in &manifest.increments {
            if !self.file(&dir.join(&part.name), &part.name, "INCR AOF", is_last(part))? {
                return Ok(false);
            }
        }
        writeln!(self.out, "All AOF files and manifest are valid")?;
        Ok(true)
    }

    /// Checks one file, described to the user as `kind`. Returns whether the file is good, or has been made good.
    fn file(&mut self, path: &Path, name: &str, kind: &str, is_last: bool) -> io::Result<bool> {
        let opened = OpenOptions::new().read(true).write(self.mend != Repair::Nothing).open(path);
        let sized = opened.and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, mut file) = match sized {
            Ok(sized) => sized,
            Err(error) => {
                return self.refuse(&format!("Cannot open file {}: {}", path.display(), error));
            }
        };
        if size == 0 {
            writeln!(self.out, "{kind} {name} is empty")?;
            return Ok(true);
        }
        let mut begin = 0;
        if is_snapshot(path)? {
            match rdb::check_preamble(path, self.out)? {
                Some(end) => begin = end,
                None => return self.refuse("RDB preamble of AOF file is not sane, aborting."),
            }
            writeln!(self.out, "RDB preamble is OK, proceeding with AOF tail...")?;
        }
        file.seek(SeekFrom::Start(begin))?;
        let mut findings = Findings::new(begin, self.lines);
        if let Repair::Until(second) = self.mend {
            findings.until = second;
        }
        let source = BufReader::with_capacity(PIECE, file.try_clone()?);
        let mut progress = Progress::new("Checking", size, Unit::Bytes, Lines::Stderr);
        let fault = findings.read_all(&mut Reader { source, offset: begin }, &mut progress).err();
        drop(progress);
        if let Some(fault) = &fault {
            writeln!(self.out, "{}", fault.describe(name))?;
        }
        self.lines = findings.lines;
        let good = findings.good;
        if let (Repair::Until(second), None) = (self.mend, &fault) {
            return self.cut_at_time(&file, name, kind, (second, good, size), is_last);
        }
        writeln!(
            self.out,
            "AOF analyzed: filename={name}, size={size}, ok_up_to={good}, ok_up_to_line={}, diff={}",
            findings.lines + 1,
            size - good
        )?;
        writeln!(self.out, "{}", findings.summary())?;
        if good == size {
            writeln!(self.out, "{kind} {name} is valid")?;
            return Ok(true);
        }
        if self.mend != Repair::Fix {
            return self.refuse(&format!("AOF {name} is not valid. Use the --fix option to try fixing it."));
        }
        if !is_last {
            return self.refuse(&format!("Failed to truncate AOF {name} because it is not the last file"));
        }
        writeln!(
            self.out,
            "This will shrink the AOF {name} from {size} bytes, with {} bytes, to {good} bytes",
            size - good
        )?;
        write!(self.out, "Continue? [y/N]: ")?;
        self.out.flush()?;
        if !(self.confirm)() {
            return self.refuse("Aborting...");
        }
        self.cut(&file, name, good, &format!("Successfully truncated AOF {name}"))
    }

    fn cut_at_time(
        &mut self,
        file: &File,
        name: &str,
        kind: &str,
        (second, good, size): (i64, u64, u64),
        is_last: bool,
    ) -> io::Result<bool> {
        if good == size {
            writeln!(self.out, "Truncate nothing in AOF {name} to timestamp {second}")?;
            writeln!(self.out, "{kind} {name} is valid")?;
            return Ok(true);
        }
        if !is_last {
            return self.refuse(&format!(
                "Failed to truncate AOF {name} to timestamp {second} to offset {good} because it is not the last file.\n\
                 If that is what you want, delete all files behind it, and their lines in the manifest, and try again."
            ));
        }
        if good == 0 {
            return self.refuse(&format!("AOF {name} has nothing before timestamp {second}, aborting..."));
        }
        self.cut(file, name, good, &format!("Successfully truncated AOF {name} to timestamp {second}"))
    }

    fn cut(&mut self, file: &File, name: &str, size: u64, done: &str) -> io::Result<bool> {
        match file.set_len(size).and_then(|()| file.sync_all()) {
            Ok(()) => {
                writeln!(self.out, "{done}")?;
                Ok(true)
            }
            Err(error) => self.refuse(&format!("Failed to truncate AOF {name}: {}", error)),
        }
    }
}

/// Why a file is not good to its end, and the offset where that was found.
enum Bad {
    /// A format error: offset, and what was expected there.
    Format(u64, &'static str),
    Truncated(u64),
    Nested(u64, &'static str),
    OpenTransaction(u64),
    Io(io::Error),
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Bad {
        Bad::Io(error)
    }
}

impl Bad {
    fn describe(&self, name: &str) -> String {
        match self {
            Bad::Format(at, expected) => {
                format!("0x{at:16x}: AOF {name} format error, at offset {at}: expected {expected}")
            }
            Bad::Truncated(at) => {
                format!("0x{at:16x}: Reached EOF before the end of the request, which begins at offset {at}")
            }
            Bad::Nested(at, command) => {
                format!("0x{at:16x}: Unexpected {command} in AOF {name}, at offset {at}")
            }
            Bad::OpenTransaction(at) => {
                format!("0x{at:16x}: Reached EOF before reading EXEC for MULTI, which begins at offset {at}")
            }
            Bad::Io(error) => format!("Error reading AOF {name}: {}", error),
        }
    }
}

/// Reads a file part by part. Long strings are skipped, not kept.
struct Reader<R> {
    source: R,
    /// Bytes read.
    offset: u64,
}

impl<R: BufRead> Reader<R> {
    /// The next byte, without consuming it; `None` at the end.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        self.source.fill_buf().map(|bytes| bytes.first().copied())
    }

    /// The next line with its line end. The line end is missing if the file ends or the line is too long.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let n = (&mut self.source).take(LONGEST_LINE as u64).read_until(b'\n', &mut line)?;
        self.offset += n as u64;
        Ok(line)
    }

    /// Reads the number after `prefix`. The request that contains it begins at offset `begin`.
    fn number(&mut self, prefix: u8, begin: u64) -> Result<u64, Bad> {
        let at = self.offset;
        match self.peek()? {
            None => return Err(Bad::Truncated(begin)),
            Some(byte) if byte == prefix => {}
            Some(_) => return Err(Bad::Format(at, if prefix == b'*' { "'*'" } else { "'$'" })),
        }
        let line = self.line()?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => num::parse_i64(&line[1..])
                .and_then(|n| u64::try_from(n).ok())
                .ok_or(Bad::Format(at, "a number that is not negative")),
            None if line.last() == Some(&b'\n') || line.len() >= LONGEST_LINE => {
                Err(Bad::Format(at, "a line that ends with \\r\\n"))
            }
            None => Err(Bad::Truncated(begin)),
        }
    }

    /// Reads the next string, of `length` bytes, and returns its beginning.
    fn string(&mut self, length: u64, begin: u64) -> Result<Vec<u8>, Bad> {
        let mut left = length;
        let at = self.offset;
        let mut text = Vec::new();
        while left > 0 {
            let bytes = self.source.fill_buf()?;
            if bytes.is_empty() {
                return Err(Bad::Truncated(begin));
            }
            let n = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            text.extend_from_slice(&bytes[..n.min(LONGEST_NAME - text.len())]);
            self.source.consume(n);
            self.offset += n as u64;
            left -= n as u64;
        }
        for expected in *b"\r\n" {
            match self.peek()? {
                None => return Err(Bad::Truncated(begin)),
                Some(byte) if byte == expected => self.source.consume(1),
                Some(_) => return Err(Bad::Format(at, "a string that ends with \\r\\n")),
            }
            self.offset += 1;
        }
        Ok(text)
    }
}

/// The Unix time in seconds from an annotation of the form `#TS:seconds`.
fn noted(line: &[u8]) -> Option<i64> {
    num::parse_i64(line.strip_prefix(b"#TS:")?.trim_ascii_end())
}

/// Results so far.
struct Findings {
    /// Offset of the end of the good part.
    good: u64,
    /// Line ends in the requests read.
    lines: u64,
    requests: u64,
    transactions: u64,
    /// Offset of the open transaction.
    open: Option<u64>,
    by_name: HashMap<Vec<u8>, u64>,
    /// The check stops at the first annotation with a later second than this.
    until: i64,
}

impl Findings {
    fn new(begin: u64, lines: u64) -> Findings {
        Findings {
            good: begin,
            lines,
            requests: 0,
            transactions: 0,
            open: None,
            by_name: HashMap::new(),
            until: i64::MAX,
        }
    }

    fn read_all(&mut self, reader: &mut Reader<impl BufRead>, progress: &mut Progress) -> Result<(), Bad> {
        let mut shown = 0;
        loop {
            let begin = reader.offset;
            if self.open.is_none() {
                self.good = begin;
            }
            if begin >= shown {
                progress.at(begin);
                shown = begin + PIECE as u64;
            }
            match reader.peek()? {
                None => return self.open.map_or(Ok(()), |at| Err(Bad::OpenTransaction(at))),
                Some(b'#') => {
                    let line = reader.line()?;
                    if line.last() != Some(&b'\n') {
                        let long = line.len() >= LONGEST_LINE;
                        return Err(if long {
                            Bad::Format(begin, "a shorter remark")
                        } else {
                            Bad::Truncated(begin)
                        });
                    }
                    if noted(&line) > Some(self.until) {
                        return Ok(());
                    }
                }
                Some(_) => self.request(reader, begin)?,
            }
        }
    }

    fn request(&mut self, reader: &mut Reader<impl BufRead>, begin: u64) -> Result<(), Bad> {
        let args = reader.number(b'*', begin)?;
        if args == 0 {
            return Err(Bad::Format(begin, "a command"));
        }
        self.lines += 1;
        let mut name = Vec::new();
        for i in 0..args {
            let length = reader.number(b'$', begin)?;
            self.lines += 1;
            let string = reader.string(length, begin)?;
            self.lines += 1;
            if i == 0 {
                name = string;
            }
        }
        self.count(&name, begin)
    }

    /// Counts a request and keeps track of transactions.
    fn count(&mut self, name: &[u8], begin: u64) -> Result<(), Bad> {
        self.requests += 1;
        if name.eq_ignore_ascii_case(b"MULTI") {
            if self.open.replace(begin).is_some() {
                return Err(Bad::Nested(begin, "MULTI"));
            }
        } else if name.eq_ignore_ascii_case(b"EXEC") {
            if self.open.take().is_none() {
                return Err(Bad::Nested(begin, "EXEC"));
            }
            self.transactions += 1;
        } else {
            let name = name.to_ascii_uppercase();
            if self.by_name.len() < NAMES || self.by_name.contains_key(&name) {
                *self.by_name.entry(name).or_default() += 1;
            }
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let mut names: Vec<_> = self.by_name.iter().collect();
        names.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
        let mut text = format!("Requests: {}, transactions: {}", self.requests, self.transactions);
        for (i, (name, n)) in names.iter().take(12).enumerate() {
            let _ = write!(text, "{} {} {n}", if i == 0 { ";" } else { "," }, name.escape_ascii());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::request::write_request;
    use std::path::PathBuf;

    fn requests(lines: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in lines {
            match line.strip_prefix('!') {
                Some(raw) => bytes.extend_from_slice(raw.as_bytes()),
                None => {
                    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
                    write_request(&mut bytes, words.into_iter());
                }
            }
        }
        bytes
    }

    struct Files(PathBuf);

    impl Files {
        fn new(name: &str) -> Files {
            let dir = std::env::temp_dir().join(format!("spinel-check-aof-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("a temporary directory");
            Files(dir)
        }

        fn write(&self, name: &str, bytes: &[u8]) {
            std::fs::write(self.0.join(name), bytes).expect("a temporary file");
        }

        fn size(&self, name: &str) -> u64 {
            std::fs::metadata(self.0.join(name)).expect("it is there").len()
        }

        fn check(&self, name: &str, mend: Repair) -> (bool, String) {
            let mut out = Vec::new();
            let good =
                check(&self.0.join(name), mend, &mut out, &mut || true).expect("memory takes everything");
            (good, String::from_utf8(out).expect("text"))
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn one_file() {
        let files = Files::new("one");
        for (lines, good, line, told) in [
            (&["SET a 1", "SET b 2"][..], 54, 15, "is valid"),
            (&["SET a 1", "!!!!", "SET b 2"], 27, 8, "format error, at offset 27"),
            (&["SET a 1", "!*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r"], 27, 14, "Reached EOF before the end"),
            (&["SET a 1", "MULTI", "SET b 2"], 27, 18, "Reached EOF before reading EXEC for MULTI"),
            (&["SET a 1", "EXEC", "SET b 2"], 27, 11, "Unexpected EXEC"),
            (&["SET a 1", "MULTI", "MULTI", "SET b 2"], 27, 14, "Unexpected MULTI"),
            (&["!#TS:1\r\n", "SET a 1", "!#TS:2\r\n"], 41, 8, "is valid"),
            (
                &["SET a 1", "!*1\r\n$1\r\nb\r0", "SET b 2"],
                27,
                10,
                "at offset 35: expected a string that ends",
            ),
            (&["SET a 1", "!*1\r\n$1\r0b\r\n", "SET b 2"], 27, 9, "at offset 31: expected a number"),
            (&["SET a 1", "!*2\r\n$1\r\nb\r\n", "SET b 2"], 27, 11, "at offset 38: expected '$'"),
        ] {
            let bytes = requests(lines);
            files.write("a.aof", &bytes);
            let (valid, text) = files.check("a.aof", Repair::Nothing);
            assert!(text.starts_with("Start checking Old-Style AOF\n"), "{text}");
            assert!(text.contains(told), "{text}");
            let diff = bytes.len() - good;
            let places = format!(", ok_up_to={good}, ok_up_to_line={line}, diff={diff}\n");
            assert!(text.contains(&places), "{text} lacks {places}");
            assert_eq!(valid, diff == 0, "{text}");
            let (valid, text) = files.check("a.aof", Repair::Fix);
            assert!(valid, "{text}");
            assert_eq!(files.size("a.aof"), good as u64);
        }
    }

    #[test]
    fn cut_off_at_a_time() {
        let files = Files::new("time");
        let bytes = requests(&["!#TS:100\r\n", "SET a 1", "!#TS:200\r\n", "SET b 2"]);
        for (second, size, told) in [
            (50, 72, "has nothing before timestamp 50, aborting"),
            (100, 36, "Successfully truncated AOF"),
            (199, 36, "to timestamp 199\n"),
            (200, 72, "Truncate nothing in AOF"),
        ] {
            files.write("a.aof", &bytes);
            let (_, text) = files.check("a.aof", Repair::Until(second));
            assert!(text.contains(told), "{text}");
            assert_eq!(files.size("a.aof"), size, "{text}");
        }
    }

    #[test]
    fn only_the_last_of_many_is_cut() {
        let files = Files::new("many");
        let cut = requests(&["SET a 1", "MULTI"]);
        files.write("x.1.base.aof", &requests(&["SET a 1"]));
        files.write("x.1.incr.aof", &cut);
        files.write("x.2.incr.aof", &requests(&["SET a 1"]));
        let manifest = "#remark\nfile x.1.base.aof seq 1 type b\nfile x.1.incr.aof seq 1 type i\n";
        files.write("x.manifest", format!("{manifest}file x.2.incr.aof seq 2 type i\n").as_bytes());
        let (valid, text) = files.check("x.manifest", Repair::Fix);
        assert!(!valid);
        assert!(text.contains("Start to check BASE AOF (RESP format).\n"), "{text}");
        assert!(text.contains("BASE AOF x.1.base.aof is valid\nStart to check INCR files.\n"), "{text}");
        assert!(
            text.ends_with("Failed to truncate AOF x.1.incr.aof because it is not the last file\n"),
            "{text}"
        );
        assert_eq!(files.size("x.1.incr.aof"), cut.len() as u64);
        files.write("x.manifest", manifest.as_bytes());
        let (valid, text) = files.check("x.manifest", Repair::Fix);
        assert!(valid);
        assert!(
            text.ends_with("truncated AOF x.1.incr.aof\nAll AOF files and manifest are valid\n"),
            "{text}"
        );
        assert!(files.check("x.manifest", Repair::Nothing).0);
        files.write("x.manifest", format!("{manifest}file gone seq 9 type i\n").as_bytes());
        let (valid, text) = files.check("x.manifest", Repair::Nothing);
        assert!(!valid && text.contains("No such file"), "{text}");
    }
}
