//! Errors of loading and opening the append-only file, with the texts that the log shows.

use std::io;

use crate::net::error_text;
use crate::persistence::aof::manifest::ManifestError;
use crate::server::durability::persistence::LoadFailure;

/// Why the append-only file cannot be loaded or opened.
#[derive(Debug, thiserror::Error)]
pub enum AofError {
    /// The manifest is wrong.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// The manifest cannot be read.
    #[error("Fatal error: can't open the AOF manifest file {path} for reading: {}", error_text(.error))]
    OpenManifest {
        /// Path of the manifest.
        path: String,
        /// Error of the system.
        error: io::Error,
    },
    /// A single file of the old kind cannot be moved.
    #[error("Error trying to move the old AOF file {name} into dir {dir}: {}", error_text(.error))]
    MoveOldFile {
        /// Name of the file.
        name: String,
        /// Directory of the append-only file.
        dir: String,
        /// Error of the system.
        error: io::Error,
    },
    /// A step of opening the files at the start failed.
    #[error("Can't {step} the append-only dir {dir}: {}", error_text(.error))]
    Directory {
        /// The step.
        step: &'static str,
        /// Directory of the append-only file.
        dir: String,
        /// Error of the system.
        error: io::Error,
    },
    /// The file that changes are appended to cannot be opened.
    #[error("Can't open the append-only file {name}: {}", error_text(.error))]
    OpenIncrement {
        /// Name of the file.
        name: String,
        /// Error of the system.
        error: io::Error,
    },
    /// Another file is being loaded.
    #[error("Can't load the append-only file while another file is being loaded.")]
    Busy,
    /// A part cannot be opened.
    #[error("Fatal error: can't open the append log file {name} for reading: {}", error_text(.error))]
    OpenPart {
        /// Name of the part.
        name: String,
        /// Error of the system.
        error: io::Error,
    },
    /// The snapshot in a part cannot be loaded.
    #[error("Error reading the RDB preamble of the AOF file {name}: {failure}")]
    Preamble {
        /// Name of the part.
        name: String,
        /// Why not.
        failure: LoadFailure,
    },
    /// A part ends in the middle of a request or transaction.
    #[error(
        "Unexpected end of file reading the append only file {name}. You can: 1) Make a backup of your AOF file, then \
         use ./redis-check-aof --fix <filename.manifest>. 2) Alternatively you can set the 'aof-load-truncated' \
         configuration option to yes and restart the server."
    )]
    Truncated {
        /// Name of the part.
        name: String,
    },
    /// The bytes of a part are not requests.
    #[error(
        "Bad file format reading the append only file {name}, at offset {offset}: make a backup of your AOF file, then use \
         ./redis-check-aof --fix <filename.manifest>"
    )]
    Format {
        /// Name of the part.
        name: String,
        /// Offset in bytes.
        offset: u64,
    },
    /// Reading a part failed.
    #[error("Unrecoverable error reading the append only file {name}: {}", error_text(.error))]
    Read {
        /// Name of the part.
        name: String,
        /// Error of the system.
        error: io::Error,
    },
    /// A request cannot be one that this server wrote.
    #[error("{reason} reading the append only file {name}, at offset {offset}")]
    NoCommand {
        /// Name of the part.
        name: String,
        /// Offset of the request in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: NoCommand,
    },
    /// Serving clients during loading failed.
    #[error("Fatal: the event loop failed: {0}")]
    EventLoop(io::Error),
}

/// Why a request is none that this server could have written.
#[derive(Debug, thiserror::Error)]
pub enum NoCommand {
    /// There is no command of this name.
    #[error("Unknown command '{0}'")]
    Unknown(String),
    /// The command does not take these arguments; the text of the error.
    #[error("Error '{0}'")]
    Arguments(String),
}
