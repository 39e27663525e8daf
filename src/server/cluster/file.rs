//! The file in which a node keeps what it knows.
//!
//! It is replaced as a whole: written to another file, synced, renamed, and its directory synced. A lock on it keeps a
//! second server from using it. The lock is on the file, not on its name, so that the new file is locked before it gets
//! the name, and the old one is given up afterwards.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::cluster::Moment;
use crate::cluster::conf;
use crate::cluster::nodes::Nodes;
use crate::net::error_text;
use crate::stdx::rng::Rng;

/// The file, locked.
#[derive(Debug)]
pub struct ConfFile {
    path: PathBuf,
    /// Holds the lock; `None` in a child process.
    locked: Option<File>,
}

impl ConfFile {
    /// Locks the file, which is made if there is none.
    ///
    /// # Errors
    /// A line for the log: another server has it, or it cannot be used.
    pub fn open(path: &str) -> Result<ConfFile, String> {
        let open = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = open.map_err(|error| {
            format!("Can't open {path} in order to acquire a lock: {}", error_text(&error))
        })?;
        match file.try_lock() {
            Ok(()) => Ok(ConfFile { path: path.into(), locked: Some(file) }),
            Err(fs::TryLockError::WouldBlock) => Err(format!(
                "Sorry, the cluster configuration file {path} is already used by a different Redis Cluster node. \
                 Please make sure that different nodes use different cluster configuration files."
            )),
            Err(fs::TryLockError::Error(error)) => {
                Err(format!("Impossible to lock {path}: {}", error_text(&error)))
            }
        }
    }

    /// What is in the file; `None` if it is empty.
    ///
    /// # Errors
    /// A line for the log: it is damaged, or cannot be read.
    pub fn load(&self, now: Moment, tls: bool, rng: &mut Rng) -> Result<Option<Nodes>, String> {
        let text = fs::read(&self.path).map_err(|error| {
            format!("Loading the cluster node config from {}: {}", self.path.display(), error_text(&error))
        })?;
        if text.is_empty() {
            return Ok(None);
        }
        let (nodes, warnings) = conf::read(&text, now, tls, rng).map_err(|corrupt| corrupt.to_string())?;
        for warning in warnings {
            tracing::info!("{warning}");
        }
        Ok(Some(nodes))
    }

    /// Replaces what is in the file; with `sync`, so that it survives a loss of power.
    ///
    /// # Errors
    /// Those of the system. The file is as it was then.
    pub fn write(&mut self, text: &[u8], sync: bool) -> io::Result<()> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".tmp-{}", std::process::id()));
        let temporary = PathBuf::from(name);
        let replaced = self.replace(&temporary, text, sync);
        if let Err(error) = &replaced {
            tracing::warn!("Could not write the cluster config file {}: {error}", self.path.display());
            // It may not have been made.
            let _ = fs::remove_file(&temporary);
        }
        replaced
    }

    fn replace(&mut self, temporary: &Path, text: &[u8], sync: bool) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(temporary)?;
        file.write_all(text)?;
        if sync {
            file.sync_all()?;
        }
        // Nobody else knows the name yet, so nobody has it.
        if file.try_lock().is_err() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        fs::rename(temporary, &self.path)?;
        self.locked = Some(file);
        if sync {
            let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }

    /// In a child process: the lock is the parent's, which may end and come back before the child has ended.
    pub(in crate::server) fn leave_to_parent(&mut self) {
        self.locked = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_stays_locked() {
        let dir = std::env::temp_dir().join(format!("spinel-nodes-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory can be made");
        let path = dir.join("nodes.conf");
        let path = path.to_str().expect("a path of ours");
        let mut rng = Rng::new(1);
        let mut file = ConfFile::open(path).expect("nobody has it");
        assert!(file.load(Moment(1), false, &mut rng).expect("readable").is_none());
        for text in ["first\n", "second\n"] {
            let taken = ConfFile::open(path).expect_err("it is locked");
            assert!(taken.contains("is already used by a different Redis Cluster node."), "{taken}");
            file.write(text.as_bytes(), text == "second\n").expect("the directory is ours");
            assert_eq!(fs::read_to_string(path).expect("it is there"), text);
        }
        let damaged = file.load(Moment(1), false, &mut rng).expect_err("no lines of nodes");
        assert_eq!(damaged, "Unrecoverable error: corrupted cluster config file \"second\".");
        assert_eq!(fs::read_dir(&dir).expect("it is ours").count(), 1, "nothing is left lying about");
        drop(file);
        ConfFile::open(path).expect("it was given up");
        fs::remove_dir_all(&dir).expect("it is ours");
    }
}
