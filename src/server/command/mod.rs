//! What a command is: one table entry beside its handler, from which everything else follows.
//!
//! A [`Spec`] is a plain constant. Lookup, arity errors, admission, key extraction, ACL
//! categories, `COMMAND INFO` and `COMMAND DOCS` all read it; nothing about a command is written
//! down a second time. A handler's signature says what it can reach: `Data` sees keys and the
//! reply, `Admin` the whole server.

mod context;
mod databases;
mod docs;
mod flags;
mod keys;
mod names;
mod spec;

pub use context::{CmdResult, Ctx, Handler};
pub use databases::{Databases, FindDatabases};
pub use docs::{Arg, ArgKind, Docs, Group};
pub use flags::{Acl, Flags};
pub use keys::{Begin, ChannelSpec, ChannelUse, Find, FindKeys, KeyFlags, KeySpec};
pub use names::{CommandId, Commands, RenameError};
pub use spec::{FindDeclared, FindSecrets, Seeks, Spec};
