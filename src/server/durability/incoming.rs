//! Loading a snapshot that comes from elsewhere: from a connection, or from a file received over one.
//!
//! There are two forms. [`Server::load_snapshot`] loads into the keyspace, which its caller has emptied; meanwhile most
//! commands are refused. [`Server::load_snapshot_aside`] loads beside it: the data there are served until the new ones
//! are complete and take their place in one step, and stay as they are if that fails.
//!
//! The source may be one that does not block. When it has nothing more for now, the caller of these functions serves
//! others, as it does now and then while there is much to load: see [`Pause`](super::persistence::Pause).

use std::io::Read;

use super::persistence::{Aside, Between, LoadFailure, load_options, log_load_error};
use crate::persistence::rdb::input::Fault;
use crate::persistence::rdb::load::{About, LoadError, Tally};
use crate::persistence::rdb::{LoadOptions, Loader, SavedReplication};
use crate::scripting::engine::Policy;
use crate::server::Server;
use crate::stdx::text::Lossy;

/// A snapshot that was loaded.
#[derive(Debug)]
pub struct LoadedSnapshot {
    /// What it says about itself.
    pub about: About,
    /// Its position in a replication stream, if it states one in full.
    pub position: Option<SavedReplication>,
    /// Its size in bytes.
    pub bytes: u64,
    /// Bytes that were read from the source behind the snapshot; none if its size was known.
    pub unread: Vec<u8>,
    /// Numbers of keys.
    pub tally: Tally,
}

impl Server {
    /// Options for loading a snapshot of a primary: keys that are due stay, for the primary removes them.
    pub fn replica_load_options(&self) -> LoadOptions {
        load_options(&self.config, false, false)
    }

    /// Loads a snapshot into the keyspace. The caller has emptied it, and deleted the libraries of functions. `size` is
    /// the number of bytes, if known. Whether the loading succeeds is logged.
    ///
    /// While it lasts, `between` is called now and then; most commands are refused, nothing expires, and nothing is
    /// passed on.
    ///
    /// # Errors
    /// The snapshot is cut off or damaged, it has something unsupported, reading failed, or `between` did. What was
    /// loaded is removed again. [`LoadFailure::Busy`]: something is being loaded, or a script runs; nothing was done.
    pub fn load_snapshot(
        &mut self,
        source: Box<dyn Read + '_>,
        size: Option<u64>,
        options: LoadOptions,
        between: &mut Between<'_>,
    ) -> Result<LoadedSnapshot, LoadFailure> {
        if self.scripts.running().is_some() || !self.begin_loading(size.unwrap_or(0)) {
            return Err(LoadFailure::Busy);
        }
        let mut loader = Loader::resumable(source, size, options);
        let result = self.load_steps(&mut loader, 0, None, between);
        self.persistence.last_load = loader.tally();
        self.end_loading();
        if result.is_err() {
            self.keyspace.flush(None, true);
            self.scripts.forget_libraries();
            self.propagate_by_itself();
        }
        finish(&loader, result)
    }

    /// Loads a snapshot beside the keyspace and lets it take the place of all data and libraries of functions, in one
    /// step. The data that it replaces are freed in the background; clients see the change as if all keys had been
    /// removed and others added. Otherwise like [`Server::load_snapshot`].
    ///
    /// While it lasts, `between` is called now and then; if `served`, all commands are, except those that say that they
    /// cannot be.
    ///
    /// # Errors
    /// As for [`Server::load_snapshot`], but the data and libraries served stay, and what was loaded is freed in the
    /// background.
    pub fn load_snapshot_aside(
        &mut self,
        source: Box<dyn Read + '_>,
        size: Option<u64>,
        options: LoadOptions,
        served: bool,
        between: &mut Between<'_>,
    ) -> Result<LoadedSnapshot, LoadFailure> {
        let persistence = &self.persistence;
        if self.scripts.running().is_some()
            || persistence.loading.is_some()
            || persistence.async_loading.is_some()
        {
            return Err(LoadFailure::Busy);
        }
        if served {
            self.begin_async_loading(size.unwrap_or(0));
        } else if !self.begin_loading(size.unwrap_or(0)) {
            return Err(LoadFailure::Busy);
        }
        let mut aside = Aside { new: self.keyspace.begin_replacement(), libraries: Vec::new() };
        let mut loader = Loader::resumable(source, size, options);
        let result = self.load_steps(&mut loader, 0, Some(&mut aside), between);
        let result = result.and_then(|()| self.replace_libraries(&aside.libraries, &loader));
        self.persistence.last_load = loader.tally();
        if served {
            self.end_async_loading();
        } else {
            self.end_loading();
        }
        match &result {
            Ok(()) => {
                self.keyspace.replace(aside.new);
                self.hide_foreign_slots();
                self.propagate_by_itself();
            }
            Err(_) => self.keyspace.discard(aside.new),
        }
        finish(&loader, result)
    }

    /// Replaces all libraries of functions by those with these texts, or none.
    fn replace_libraries(&mut self, texts: &[Vec<u8>], loader: &Loader<'_>) -> Result<(), LoadError> {
        if texts.is_empty() {
            self.scripts.forget_libraries();
            return Ok(());
        }
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        self.scripts.engine().restore_libraries(&texts, Policy::Flush).map_err(|error| LoadError {
            fault: Fault::Unsupported(format!("Failed creating the library: {}", Lossy(error.as_bytes()))),
            offset: loader.offset(),
            key: None,
            value_type: None,
        })
    }
}

/// Logs a failure, and returns what is to be known of a success.
fn finish(loader: &Loader<'_>, result: Result<(), LoadError>) -> Result<LoadedSnapshot, LoadFailure> {
    if let Err(error) = result {
        log_load_error(&error);
        return Err(LoadFailure::Load(error));
    }
    Ok(LoadedSnapshot {
        about: loader.about().clone(),
        position: loader.position(),
        bytes: loader.offset(),
        unread: loader.unread().to_vec(),
        tally: loader.tally(),
    })
}
