//! Rewriting the append-only file.
//!
//! A child process writes a new base, and a new increment begins when the child does, so that the two together hold all
//! data. The manifest lists the base only once it is complete. If the file was just switched on, there is no earlier base
//! to append to: until the first base is complete, changes go to a temporary increment.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Aof, State, directory, policy};
use crate::background::Worker;
use crate::config::options::PersistenceOptions;
use crate::net::error_text;
use crate::persistence::aof::log::Policy;
use crate::persistence::aof::rewrite;
use crate::persistence::rdb::output::SyncedFile;
use crate::resp::request::write_request;
use crate::server::Server;
use crate::server::durability::child::{Child, Outcome, Task};
use crate::server::durability::persistence::pause_after_key;
use crate::stdx::clock::UnixMillis;
use crate::stdx::files::create_exclusively;

/// Failures in a row from which on a rewrite is not tried again at once.
const FAILURES_BORNE: u64 = 3;
/// Longest delay of the next try in minutes.
const LONGEST_DELAY_MIN: u64 = 60;

impl Aof {
    /// Counts a failed rewrite. If it was to write the first base, another one is scheduled.
    pub(super) fn rewrite_failed(&mut self, options: &PersistenceOptions) {
        self.rewrite_ok = false;
        self.failures += 1;
        if self.state == State::Beginning {
            let prefix = &options.appendfilename;
            let name = temporary_increment(prefix);
            tracing::info!("Removing the temp incr aof file {name} after the rewrite failed");
            let _ = fs::remove_file(directory(options).join(name));
            self.log.buf.clear();
            self.log.switch(None, 0);
            self.rewrite_scheduled = true;
        }
    }

    /// Whether the next rewrite must wait because several failed in a row. The delay doubles with each failure.
    pub(super) fn rewrite_is_limited(&mut self) -> bool {
        if self.failures < FAILURES_BORNE {
            return false;
        }
        match self.retry_at {
            Some(at) if Instant::now() < at => true,
            Some(_) => {
                self.retry_at = None;
                false
            }
            None => {
                let delay = (self.retry_delay_min * 2).clamp(1, LONGEST_DELAY_MIN);
                self.retry_delay_min = delay;
                self.retry_at = Some(Instant::now() + Duration::from_secs(delay * 60));
                tracing::warn!(
                    "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {delay} minutes"
                );
                true
            }
        }
    }
}

impl Server {
    /// Writes all data to `path`, as a snapshot or as requests, and flushes them to disk.
    pub(super) fn write_base(
        &self,
        path: &Path,
        snapshot: bool,
        mut each: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        if snapshot {
            let mut options = self.save_options();
            options.aof_base = true;
            options.replication = options.replication.or(self.aof.log.position());
            return self.write_rdb(path, &options, each);
        }
        let config = &self.config.persistence;
        let mut file =
            SyncedFile::new(create_exclusively(path, 0o666)?, config.aof_rewrite_incremental_fsync);
        let noted = match config.aof_timestamp_enabled {
            true => write!(file, "#TS:{}\r\n", UnixMillis::now().as_secs()),
            false => Ok(()),
        };
        let mut functions = Vec::new();
        for text in self.scripts.idle_engine().into_iter().flat_map(|engine| engine.library_texts()) {
            write_request(&mut functions, [&b"FUNCTION"[..], b"LOAD", text].into_iter());
        }
        let mut position = Vec::new();
        if let Some(at) = self.aof.log.position() {
            at.write_annotation(&mut position);
        }
        let written = noted
            .and_then(|()| file.write_all(&functions))
            .and_then(|()| rewrite::rewrite(&self.keyspace, &mut file, &mut each))
            .and_then(|_| file.write_all(&position))
            .and_then(|_| file.file.sync_all());
        if written.is_err() {
            // The error of writing is reported; an error of removing the file is not.
            let _ = fs::remove_file(path);
        }
        written
    }

    /// Starts a child process that writes a new base, and begins a new increment.
    ///
    /// # Errors
    /// There is a child process already, none can be started, or no file can be created. The log says why.
    pub fn rewrite_aof(&mut self) -> io::Result<()> {
        if self.children.any() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let begun = self.begin_increment();
        self.aof.rewrite_scheduled = false;
        if let Err(error) = begun {
            tracing::warn!("Can't begin a new AOF file: {}", error_text(&error));
            self.aof.rewrite_failed(&self.config.persistence);
            return Err(error);
        }
        let snapshot = self.config.persistence.aof_use_rdb_preamble;
        self.aof.writes_snapshot = snapshot;
        let delay_us = i64::from(self.config.debug.rdb_key_save_delay_us);
        let forked = self.fork(Task::Aof, |server, reporter| {
            let path = PathBuf::from(temporary_base(std::process::id()));
            let written = server.write_base(&path, snapshot, |keys| {
                reporter.written(keys)?;
                pause_after_key(keys, delay_us);
                Ok(())
            });
            match &written {
                Ok(()) => tracing::info!("SYNC append only file rewrite performed"),
                Err(error) => {
                    tracing::warn!("Write error writing append only file on disk: {}", error_text(error))
                }
            }
            written
        });
        match forked {
            Ok(pid) => {
                tracing::info!("Background append only file rewriting started by pid {pid}");
                Ok(())
            }
            Err(error) => {
                tracing::warn!("Can't rewrite append only file in background: fork: {}", error_text(&error));
                self.advise_on_failed_fork();
                self.aof.rewrite_failed(&self.config.persistence);
                Err(error)
            }
        }
    }

    /// Begins a new increment: a temporary one if there is no base yet.
    fn begin_increment(&mut self) -> io::Result<()> {
        if self.aof.state == State::Off {
            return Ok(());
        }
        let dir = directory(&self.config.persistence);
        let prefix = self.config.persistence.appendfilename.clone();
        fs::create_dir_all(&dir)?;
        if self.aof.state == State::Beginning {
            let path = dir.join(temporary_increment(&prefix));
            let file = create_exclusively(&path, 0o666)?;
            self.aof.log.buf.clear();
            self.aof.log.switch(Some(file), 0);
            return Ok(());
        }
        self.flush_aof(true);
        if policy(&self.config.persistence) == Policy::Always {
            self.aof.log.finish(&self.background)?;
        } else {
            if !self.aof.log.buf.is_empty() {
                return Err(io::Error::other("the last file takes no more"));
            }
            self.aof.log.sync_later(&self.background);
        }
        let mut manifest = self.aof.manifest.clone();
        let name = manifest.begin_increment(&prefix);
        let path = dir.join(&name);
        let file = create_exclusively(&path, 0o666)?;
        if let Err(failure) = manifest.store(&dir, &prefix) {
            if failure.is_visible {
                self.aof.manifest.skip_numbers_of(&manifest);
            } else {
                // No manifest lists the new file, and nothing was written to it.
                let _ = fs::remove_file(&path);
            }
            return Err(failure.error);
        }
        tracing::info!("Creating AOF incr file {name} on background rewrite");
        self.aof.manifest = manifest;
        self.aof.other_bytes += self.aof.log.file_size;
        if let Some(old) = self.aof.log.switch(Some(file), 0) {
            // Closing a file takes time, and this may be the last reference to it.
            self.background.submit(Worker::CloseFile, move || drop(old));
        }
        Ok(())
    }

    /// Handles the end of the child process that wrote a base.
    pub(in crate::server) fn rewrite_ended(&mut self, child: &Child, outcome: Outcome) {
        self.aof.copied = child.report.copied;
        self.aof.rewrite_took = Some(child.started.elapsed());
        let temporary = PathBuf::from(temporary_base(child.pid.unsigned_abs()));
        match outcome {
            Outcome::Success => {
                tracing::info!("Background AOF rewrite terminated with success");
                match self.adopt_base(&temporary) {
                    Ok(()) => {
                        self.aof.rewrite_ok = true;
                        self.aof.rewrites += 1;
                        self.aof.failures = 0;
                        self.aof.retry_delay_min = 0;
                        self.aof.retry_at = None;
                        tracing::info!("Background AOF rewrite finished successfully");
                    }
                    Err(error) => {
                        tracing::warn!("Error taking over the rewritten AOF: {}", error_text(&error));
                        let _ = fs::remove_file(&temporary);
                        self.aof.rewrite_failed(&self.config.persistence);
                    }
                }
            }
            Outcome::Failure => {
                tracing::warn!("Background AOF rewrite terminated with error");
                let _ = fs::remove_file(&temporary);
                self.aof.rewrite_failed(&self.config.persistence);
            }
            Outcome::Signal(signal) => {
                tracing::warn!("Background AOF rewrite terminated by signal {signal}");
                let _ = fs::remove_file(&temporary);
                // SIGUSR1 is ours, and says that the base is no longer wanted.
                if signal != libc::SIGUSR1 {
                    self.aof.rewrite_failed(&self.config.persistence);
                }
            }
        }
    }

    /// Moves a complete base into the directory and lists it in the manifest.
    fn adopt_base(&mut self, temporary: &Path) -> io::Result<()> {
        let dir = directory(&self.config.persistence);
        let prefix = self.config.persistence.appendfilename.clone();
        let beginning = self.aof.state == State::Beginning;
        fs::create_dir_all(&dir)?;
        let mut manifest = self.aof.manifest.clone();
        let base = dir.join(manifest.begin_base(&prefix, self.aof.writes_snapshot));
        fs::rename(temporary, &base)?;
        let mut moved = None;
        if beginning {
            let increment = dir.join(manifest.begin_increment(&prefix));
            let from = dir.join(temporary_increment(&prefix));
            if let Err(error) = fs::rename(&from, &increment) {
                let _ = fs::remove_file(&base);
                return Err(error);
            }
            moved = Some((from, increment));
        }
        // The increment being written goes on; all others are contained in the base.
        manifest.supersede_increments(usize::from(self.aof.state != State::Off));
        if let Err(failure) = manifest.store(&dir, &prefix) {
            if failure.is_visible {
                self.aof.manifest.skip_numbers_of(&manifest);
                return Err(failure.error);
            }
            let _ = fs::remove_file(&base);
            if let Some((from, increment)) = moved {
                let _ = fs::rename(increment, from);
            }
            return Err(failure.error);
        }
        self.aof.manifest = manifest;
        self.aof.other_bytes = fs::metadata(&base).map_or(0, |metadata| metadata.len());
        self.aof.base_size = self.aof.current_size();
        if beginning {
            self.aof.set_state(&mut self.keyspace.ledger, State::On);
            self.aof.log.count_as_durable();
        }
        self.aof.remove_history(&self.config.persistence, &self.background);
        Ok(())
    }

    /// Starts a rewrite that is scheduled, or due because the file has grown, and repeats a failed write. Called by the
    /// timer.
    pub(in crate::server) fn supervise_aof(&mut self) {
        if self.aof.error.is_some() {
            self.flush_aof(false);
        }
        if self.children.any() || self.persistence.loading.is_some() {
            return;
        }
        if self.aof.rewrite_scheduled {
            if !self.aof.rewrite_is_limited() {
                // The reason is in the log.
                let _ = self.rewrite_aof();
            }
            return;
        }
        let config = &self.config.persistence;
        let size = self.aof.current_size();
        if self.aof.state != State::On
            || config.aof_rewrite_percentage == 0
            || size <= config.aof_rewrite_min_size
        {
            return;
        }
        let base = self.aof.base_size.max(1);
        let growth = (u128::from(size) * 100 / u128::from(base)) as i128 - 100;
        if growth >= i128::from(config.aof_rewrite_percentage) && !self.aof.rewrite_is_limited() {
            tracing::info!("Starting automatic rewriting of AOF on {growth}% growth");
            let _ = self.rewrite_aof();
        }
    }
}

fn temporary_base(pid: u32) -> String {
    format!("temp-rewriteaof-bg-{pid}.aof")
}

fn temporary_increment(prefix: &str) -> String {
    format!("temp-{prefix}.incr")
}
