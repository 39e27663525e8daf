//! The files that the manifest lists: reading and loading them, opening the last for writing, removing old ones.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Instant;

use super::{Aof, AofError, State, directory};
use crate::background::{Background, Worker};
use crate::config::options::PersistenceOptions;
use crate::net::error_text;
use crate::persistence::aof::Manifest;
use crate::persistence::aof::manifest::sync_directory;
use crate::server::Server;
use crate::stdx::files::create_exclusively;

impl Aof {
    /// Reads the manifest.
    ///
    /// # Errors
    /// The manifest is wrong, or cannot be read.
    pub(in crate::server) fn read_manifest(&mut self, options: &PersistenceOptions) -> Result<(), AofError> {
        let dir = directory(options);
        let prefix = options.appendfilename.clone();
        let path = dir.join(Manifest::file_name(&prefix));
        self.manifest = match fs::read(&path) {
            Ok(text) => Manifest::parse(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Manifest::default(),
            Err(error) => {
                return Err(AofError::OpenManifest { path: path.display().to_string(), error });
            }
        };
        Ok(())
    }

    /// Makes a single file of the old kind the first part of a new one.
    ///
    /// # Errors
    /// The file cannot be moved into the directory, or the manifest cannot be written.
    pub(super) fn adopt_old_file(&mut self, options: &PersistenceOptions) -> Result<(), AofError> {
        let dir = directory(options);
        let prefix = options.appendfilename.clone();
        let old = Path::new(&prefix);
        if !old.is_file() {
            return Ok(());
        }
        let manifest = &self.manifest;
        // A server that was stopped here may have listed the file and not moved it yet.
        let half_way = manifest.increments.is_empty()
            && manifest.base.as_ref().is_some_and(|base| base.name == prefix)
            && !dir.join(&prefix).exists();
        if !manifest.is_empty() && !half_way {
            return Ok(());
        }
        let moved = fs::create_dir_all(&dir)
            .and_then(|()| {
                self.manifest = Manifest::of_single_file(&prefix);
                self.manifest.store(&dir, &prefix).map_err(io::Error::from)
            })
            .and_then(|()| fs::rename(old, dir.join(&prefix)))
            .and_then(|()| sync_directory(&dir));
        moved.map_err(|error| AofError::MoveOldFile {
            name: prefix.clone(),
            dir: dir.display().to_string(),
            error,
        })?;
        tracing::info!(
            "Successfully migrated an old-style AOF configuration ({prefix}) into the AOF directory ({}).",
            dir.display()
        );
        Ok(())
    }

    /// Whether there is anything that [`Server::load_aof`] could load.
    pub fn has_files(&self) -> bool {
        !self.manifest.is_empty()
    }

    /// Bytes of all files in the manifest.
    pub(super) fn part_sizes(&self, options: &PersistenceOptions) -> u64 {
        let dir = directory(options);
        let parts = self.manifest.parts();
        parts.map(|part| fs::metadata(dir.join(&part.name)).map_or(0, |metadata| metadata.len())).sum()
    }

    /// Removes superseded files in the background.
    pub(in crate::server) fn remove_history(
        &mut self,
        options: &PersistenceOptions,
        background: &Background,
    ) {
        if options.aof_disable_auto_gc || self.manifest.history.is_empty() {
            return;
        }
        let dir = directory(options);
        let mut manifest = self.manifest.clone();
        for part in manifest.history.drain(..) {
            tracing::info!("Removing the history file {} in the background", part.name);
            let path = dir.join(&part.name);
            background.submit(Worker::CloseFile, move || drop(fs::remove_file(path)));
        }
        match manifest.store(&dir, &options.appendfilename) {
            Ok(()) => self.manifest = manifest,
            // The files are still listed, so their removal will be tried again.
            Err(failure) => tracing::warn!("Error writing the AOF manifest: {}", error_text(&failure.error)),
        }
    }
}

impl Server {
    /// Loads all parts of the append-only file; whether there are any. Meanwhile `between` is called from time to time.
    ///
    /// # Errors
    /// A part is missing or damaged. Data loaded before the damage remain.
    pub fn load_aof(
        &mut self,
        between: &mut dyn FnMut(&mut Server) -> io::Result<()>,
    ) -> Result<bool, AofError> {
        self.aof.adopt_old_file(&self.config.persistence)?;
        if self.aof.manifest.is_empty() {
            return Ok(false);
        }
        if self.persistence.loading.is_some() {
            return Err(AofError::Busy);
        }
        let loaded = self.load_aof_parts(between);
        self.end_loading();
        if loaded.is_err() {
            self.persistence.resumable = None;
        }
        self.persistence.log_position();
        loaded.map(|()| true)
    }

    /// Loads the parts in order, and logs the time that each took.
    fn load_aof_parts(
        &mut self,
        between: &mut dyn FnMut(&mut Server) -> io::Result<()>,
    ) -> Result<(), AofError> {
        let dir = directory(&self.config.persistence);
        let parts: Vec<_> = self.aof.manifest.parts().cloned().collect();
        let mut sizes = Vec::with_capacity(parts.len());
        for part in &parts {
            let size = fs::metadata(dir.join(&part.name))
                .map_err(|error| AofError::OpenPart { name: part.name.clone(), error })?;
            sizes.push(size.len());
        }
        let total: u64 = sizes.iter().sum();
        assert!(self.begin_loading(total), "asked before");
        let mut before = 0;
        let last = parts.len() - 1;
        for (i, (part, size)) in parts.iter().zip(&sizes).enumerate() {
            let started = Instant::now();
            let path = dir.join(&part.name);
            self.load_aof_part(&path, &part.name, i == last, (before, total), between)?;
            before += size;
            let role = if self.aof.manifest.base.as_ref() == Some(part) { "base" } else { "incr" };
            tracing::info!(
                "DB loaded from {role} file {}: {:.3} seconds",
                part.name,
                started.elapsed().as_secs_f64()
            );
        }
        self.keyspace.ledger.dirty = 0;
        self.aof.other_bytes = total;
        self.aof.base_size = total;
        Ok(())
    }

    /// Opens the append-only file for writing at the start, creating the files that are missing.
    ///
    /// # Errors
    /// A file cannot be created or written.
    pub(in crate::server) fn open_aof(&mut self) -> Result<(), AofError> {
        let dir = directory(&self.config.persistence);
        let prefix = self.config.persistence.appendfilename.clone();
        let fail = |step| {
            let dir = dir.display().to_string();
            move |error| AofError::Directory { step, dir, error }
        };
        fs::create_dir_all(&dir).map_err(fail("open or create"))?;
        self.aof.remove_history(&self.config.persistence, &self.background);
        let mut manifest = self.aof.manifest.clone();
        if manifest.base.is_none() && manifest.increments.is_empty() {
            let snapshot = self.config.persistence.aof_use_rdb_preamble;
            let name = manifest.begin_base(&prefix, snapshot);
            tracing::info!("Creating AOF base file {name} on server start");
            let path = dir.join(&name);
            self.write_base(&path, snapshot, |_| Ok(())).map_err(fail("write a base file to"))?;
        }
        let (name, open) = match manifest.increments.last() {
            Some(part) => {
                let name = part.name.clone();
                let open = OpenOptions::new().append(true).create(true).open(dir.join(&name));
                (name, open)
            }
            None => {
                let name = manifest.begin_increment(&prefix);
                tracing::info!("Creating AOF incr file {name} on server start");
                let open = create_exclusively(&dir.join(&name), 0o666);
                (name, open)
            }
        };
        let file = open.map_err(|error| AofError::OpenIncrement { name, error })?;
        manifest.store(&dir, &prefix).map_err(|failure| fail("write the manifest to")(failure.error))?;
        self.aof.manifest = manifest;
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let bytes: u64 = self.aof.part_sizes(&self.config.persistence);
        self.aof.log.switch(Some(file), size);
        self.aof.log.count_as_durable();
        self.aof.other_bytes = bytes - size;
        self.aof.base_size = bytes;
        self.aof.set_state(&mut self.keyspace.ledger, State::On);
        Ok(())
    }
}
