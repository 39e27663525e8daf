//! The manifest: the list of files that form the append-only file.
//!
//! ```text
//! file appendonly.aof.2.base.rdb seq 2 type b
//! file appendonly.aof.1.incr.aof seq 1 type h
//! file appendonly.aof.2.incr.aof seq 2 type i
//! ```
//!
//! What always holds: there is at most one base; increments are in ascending order of their numbers; no number is
//! used twice.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::stdx::files::create_exclusively;
use crate::stdx::quote;

/// Longest line in bytes.
const LONGEST_LINE: usize = 1024;

/// The role of a file within the append-only file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The data set at some moment.
    Base,
    /// Superseded, to be removed.
    History,
    /// Changes since the base was begun.
    Increment,
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Its name within the directory.
    pub name: String,
    /// Its number among the files of the same role.
    pub seq: u64,
    /// What the file is for.
    pub role: Role,
}

/// The files, in the order in which they are loaded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manifest {
    /// The base, if there is one.
    pub base: Option<Part>,
    /// The increments, oldest first.
    pub increments: Vec<Part>,
    /// Superseded files, newest first.
    pub history: Vec<Part>,
    base_seq: u64,
    increment_seq: u64,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A line is faulty.
    #[error("Error reading the manifest file, at line {line}\n>>> '{text}'\n{reason}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// Text of the line.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file is empty.
    #[error("Found an empty AOF manifest")]
    Empty,
    /// Reading the file failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

const FORMAT: &str = "Invalid AOF manifest file format";

impl Manifest {
    /// Name of the manifest of append-only files called `prefix`.
    pub fn file_name(prefix: &str) -> String {
        format!("{prefix}.manifest")
    }

    /// Parses the text of a manifest.
    ///
    /// # Errors
    /// The text is not a manifest, or its files contradict each other. The error quotes the first faulty line.
    pub fn parse(text: &[u8]) -> Result<Manifest, ManifestError> {
        let mut manifest = Manifest::default();
        if text.is_empty() {
            return Err(ManifestError::Empty);
        }
        for (i, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let fault = |reason| ManifestError::Line {
                line: i + 1,
                text: String::from_utf8_lossy(&line[..line.len().min(LONGEST_LINE)]).trim_end().to_owned(),
                reason,
            };
            if line.first() == Some(&b'#') {
                continue;
            }
            let Some(line) = line.strip_suffix(b"\n").filter(|line| line.len() < LONGEST_LINE) else {
                return Err(fault("The AOF manifest file contains too long line"));
            };
            let part = parse_line(line).map_err(fault)?;
            manifest.add(part).map_err(fault)?;
        }
        Ok(manifest)
    }

    fn add(&mut self, part: Part) -> Result<(), &'static str> {
        match part.role {
            Role::Base if self.base.is_some() => return Err("Found duplicate base file information"),
            Role::Base => {
                self.base_seq = part.seq;
                self.base = Some(part);
            }
            Role::History => self.history.push(part),
            Role::Increment if part.seq <= self.increment_seq => {
                return Err("Found a non-monotonic sequence number");
            }
            Role::Increment => {
                self.increment_seq = part.seq;
                self.increments.push(part);
            }
        }
        Ok(())
    }

    /// The manifest for a single append-only file, as servers wrote it before there were manifests.
    pub fn of_single_file(name: &str) -> Manifest {
        let base = Part { name: name.into(), seq: 1, role: Role::Base };
        Manifest { base: Some(base), base_seq: 1, ..Manifest::default() }
    }

    /// Whether the manifest lists no file with data.
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.increments.is_empty()
    }

    /// The files with data, in the order in which they are loaded.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &Part> {
        self.base.iter().chain(&self.increments)
    }

    /// Replaces the base by a new one, a snapshot or a file of requests, and returns the new base's name.
    pub fn begin_base(&mut self, prefix: &str, snapshot: bool) -> String {
        if let Some(old) = self.base.take() {
            self.history.insert(0, Part { role: Role::History, ..old });
        }
        self.base_seq += 1;
        let suffix = if snapshot { "rdb" } else { "aof" };
        let name = format!("{prefix}.{}.base.{suffix}", self.base_seq);
        self.base = Some(Part { name: name.clone(), seq: self.base_seq, role: Role::Base });
        name
    }

    /// Adds an increment behind all others and returns its name.
    pub fn begin_increment(&mut self, prefix: &str) -> String {
        self.increment_seq += 1;
        let name = format!("{prefix}.{}.incr.aof", self.increment_seq);
        self.increments.push(Part { name: name.clone(), seq: self.increment_seq, role: Role::Increment });
        name
    }

    /// Marks all increments but the last `kept` as superseded by a new base. If none is left, numbering starts at 1
    /// again.
    pub fn supersede_increments(&mut self, kept: usize) {
        let covered = self.increments.len().saturating_sub(kept);
        for part in self.increments.drain(..covered) {
            self.history.insert(0, Part { role: Role::History, ..part });
        }
        if self.increments.is_empty() {
            self.increment_seq = 0;
        }
    }

    /// The text of the manifest file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for part in self.base.iter().chain(&self.history).chain(&self.increments) {
            let role = match part.role {
                Role::Base => 'b',
                Role::History => 'h',
                Role::Increment => 'i',
            };
            let name = match quote::needs_quotes(part.name.as_bytes()) {
                true => quote::repr(part.name.as_bytes()),
                false => part.name.clone(),
            };
            text.push_str(&format!("file {name} seq {} type {role}\n", part.seq));
        }
        text
    }

    /// Writes the manifest into the directory `dir`, durably, in place of the current one.
    ///
    /// # Errors
    /// A file operation failed. [`StoreError::is_visible`] says which manifest is in place then.
    pub fn store(&self, dir: &Path, prefix: &str) -> Result<(), StoreError> {
        let name = Manifest::file_name(prefix);
        let temporary = dir.join(format!("temp_{name}"));
        let replace = || {
            let mut file = create_exclusively(&temporary, 0o666)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            // Everything that can fail harmlessly is tried before the rename, which cannot be undone.
            let directory = open_directory(dir)?;
            fs::rename(&temporary, dir.join(name))?;
            Ok(directory)
        };
        let directory = replace().map_err(|error| {
            // Remains of an earlier attempt mean nothing.
            let _ = fs::remove_file(&temporary);
            StoreError { error, is_visible: false }
        })?;
        directory.sync_all().map_err(|error| StoreError { error, is_visible: true })
    }

    /// Avoids the numbers that `other` has used.
    pub fn skip_numbers_of(&mut self, other: &Manifest) {
        self.base_seq = self.base_seq.max(other.base_seq);
        self.increment_seq = self.increment_seq.max(other.increment_seq);
    }
}

/// Storing a manifest failed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct StoreError {
    /// The first error.
    pub error: io::Error,
    /// Whether a reader of the directory now finds the new manifest. Which one is found after a power failure is
    /// unknown, so files named by either manifest must stay.
    pub is_visible: bool,
}

impl From<StoreError> for io::Error {
    fn from(failure: StoreError) -> io::Error {
        failure.error
    }
}

/// Makes the names in a directory durable.
///
/// # Errors
/// The directory cannot be opened or synced.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    open_directory(dir)?.sync_all()
}

fn open_directory(dir: &Path) -> io::Result<File> {
    File::open(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
}

fn parse_line(line: &[u8]) -> Result<Part, &'static str> {
    let words = quote::split_args(line).map_err(|_| FORMAT)?;
    if words.len() < 6 || words.len() % 2 != 0 {
        return Err(FORMAT);
    }
    let (mut name, mut seq, mut role) = (None, None, None);
    for pair in words.chunks_exact(2) {
        let [key, value] = pair else { return Err(FORMAT) };
        if key.eq_ignore_ascii_case(b"file") {
            let text = String::from_utf8(value.clone()).map_err(|_| FORMAT)?;
            if text.is_empty() || text.contains('/') {
                return Err("File can't be a path, just a filename");
            }
            name = Some(text);
        } else if key.eq_ignore_ascii_case(b"seq") {
            seq = crate::stdx::num::parse_i64(value).and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0);
        } else if key.eq_ignore_ascii_case(b"type") {
            role = match value.as_slice() {
                b"b" => Some(Role::Base),
                b"h" => Some(Role::History),
                b"i" => Some(Role::Increment),
                _ => return Err("Unknown AOF file type"),
            };
        }
        // Unknown words are ignored: later versions may add some.
    }
    match (name, seq, role) {
        (Some(name), Some(seq), Some(role)) => Ok(Part { name, seq, role }),
        _ => Err(FORMAT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> String {
        Manifest::parse(text.as_bytes()).expect_err("it is wrong").to_string()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut manifest = Manifest::default();
        assert_eq!(manifest.begin_base(" a\nb", true), " a\nb.1.base.rdb");
        manifest.begin_increment(" a\nb");
        manifest.begin_increment(" a\nb");
        manifest.begin_base(" a\nb", false);
        manifest.supersede_increments(1);
        assert_eq!(
            manifest.text(),
            "file \" a\\nb.2.base.aof\" seq 2 type b\n\
             file \" a\\nb.1.incr.aof\" seq 1 type h\n\
             file \" a\\nb.1.base.rdb\" seq 1 type h\n\
             file \" a\\nb.2.incr.aof\" seq 2 type i\n"
        );
        let again = Manifest::parse(manifest.text().as_bytes()).expect("it is ours");
        assert_eq!(again, manifest);
        assert_eq!(again.parts().count(), 2);
    }

    #[test]
    fn faults_are_named() {
        let base = "file a.1.base.rdb seq 1 type b\n";
        assert!(reason("").contains("empty AOF manifest"));
        assert!(reason(&format!("{base}{base}")).ends_with("Found duplicate base file information"));
        assert!(
            reason("file a seq 2 type i\nfile b seq 1 type i\n").ends_with("non-monotonic sequence number")
        );
        assert!(reason("file a seq 1 type x\n").ends_with("Unknown AOF file type"));
        assert!(reason("file a/b seq 1 type i\n").ends_with("just a filename"));
        for wrong in
            ["\n", "filx a seq 1 type b\n", "file a seq 0 type b\n", "file a seq 1 type\n", "file \"a\n"]
        {
            assert!(reason(&format!("{base}{wrong}")).contains(FORMAT), "{wrong}");
        }
        assert!(reason(&format!("file {} seq 1 type b\n", "a".repeat(2000))).ends_with("too long line"));
        assert!(reason("file a seq 1 type b").ends_with("too long line"), "the end of the line is missing");
        Manifest::parse(b"#comment\nfile a seq 7 type i new thing\n").expect("newer words are passed over");
    }

    #[test]
    fn stored_as_a_whole() {
        let dir = std::env::temp_dir().join(format!("spinel-manifest-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary directory");
        let mut manifest = Manifest::of_single_file("x");
        manifest.begin_increment("x");
        manifest.store(&dir, "x").expect("room for it");
        let text = fs::read(dir.join("x.manifest")).expect("it is there");
        assert_eq!(Manifest::parse(&text).expect("it is ours"), manifest);
        assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 1);
        fs::remove_dir_all(&dir).expect("it is ours");
    }
}
