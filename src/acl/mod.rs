//! Access control: users, their passwords, and the commands, keys and channels they may use.
//!
//! * [`catalog`] lists the commands by number, with their categories. Rules refer to them.
//! * [`selector`] is one set of permissions; [`user`] is several of them with passwords.
//! * [`file`] reads and writes files of users; [`log`] records denials.
//!
//! What always holds: there is a default user, [`UserId::DEFAULT`]; users are listed in byte order of their names;
//! the rules that [`User::describe`] returns create the same user again; a list of rules with an error in it changes
//! nothing.
//!
//! This room does not know clients or how a command is run. The server, which knows both, builds a [`Request`] and
//! acts on the verdict. A client stores a [`UserId`], so that changes of the user take effect at once. Rules, their
//! texts and their error messages are those of Redis 7.2; rules about databases are those of Valkey 9.1.
#![warn(missing_docs)]

pub mod catalog;
pub mod file;
pub mod log;
pub mod selector;
pub mod user;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use slab::Slab;

pub use catalog::Catalog;
pub use log::{Context, Denials, Log, Reason};
pub use user::User;

use crate::resp::Args;
use crate::stdx::bits::bit_set;

/// Name of the user that every connection starts as.
pub const DEFAULT_NAME: &[u8] = b"default";

/// Identity of a user. Valid until the user is deleted or all users are replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserId(usize);

impl UserId {
    /// The default user, which always exists.
    pub const DEFAULT: UserId = UserId(0);
}

bit_set! {
    /// Access of a command to a key: it reads the key, changes it, or both. No access means that it only checks
    /// existence.
    pub struct Access: u8 {
        /// The command reads the key's value.
        READ = 0;
        /// The command changes the value, creates the key, or removes it.
        WRITE = 1;
    }
}

impl Access {
    /// Both.
    pub const ALL: Access = Access::READ.with(Access::WRITE);

    /// What precedes a key pattern in a rule.
    const fn prefix(self) -> &'static [u8] {
        match self {
            Access::READ => b"%R~",
            Access::WRITE => b"%W~",
            _ => b"~",
        }
    }
}

/// How a command names a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// Literally.
    Literal,
    /// By a pattern.
    Pattern,
}

/// What is to be checked about one request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Number of its command or subcommand in the catalog.
    pub command: u16,
    /// Whether every user may run the command, on keys and channels that the user may access.
    pub needs_no_permission: bool,
    /// Name of the command and of its subcommand, if it has one, and the arguments.
    pub args: Args<'a>,
    /// Indices of the arguments that are keys, and how each key is used.
    pub keys: &'a [(usize, Access)],
    /// Whether `keys` lists all keys of the request.
    pub keys_are_known: bool,
    /// Indices of the arguments that are channels.
    pub channels: &'a [(usize, Channel)],
    /// Databases that the request uses; may be empty if the user's rules do not limit databases.
    pub databases: &'a [UsedDatabase],
}

/// A database that a request uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsedDatabase {
    /// Number of the database.
    pub number: u32,
    /// Index of the argument that names it; 0 if none does, because the client has selected it or all are used.
    pub named_by: usize,
}

/// Why a request is denied; for a key or channel with the index of the argument.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Denied {
    /// The user may not use a database; with the argument that names it, or 0.
    Database(usize),
    /// The user may not run the command with any arguments.
    Command,
    /// The user may not use this key in this way.
    Key(usize),
    /// The user may not use this channel.
    Channel(usize),
}

/// Why a rule is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RuleError {
    /// The text is not a rule.
    #[error("Syntax error")]
    Syntax,
    /// There is no such command or category.
    #[error("Unknown command or category name in ACL")]
    UnknownCommand,
    /// A key pattern follows one that allows all keys.
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. \
         Try 'resetkeys' to start with an empty list of patterns"
    )]
    PatternAfterAll,
    /// A channel pattern follows one that allows all channels.
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
         effect. Try 'resetchannels' to start with an empty list of channels"
    )]
    ChannelAfterAll,
    /// The user does not have the password to be removed.
    #[error("The password you are trying to remove from the user does not exist")]
    NoSuchPassword,
    /// The digest of a password is malformed.
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
    )]
    BadDigest,
    /// The number of a database is negative or too large.
    #[error("The provided database ID is out of range")]
    DatabaseRange,
    /// A rule allows a first argument of a subcommand.
    #[error("Allowing first-arg of a subcommand is not supported")]
    FirstArgOfSubcommand,
}

/// Why a user was not changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetError {
    /// The name contains characters that cannot be saved.
    Name,
    /// This rule opens a parenthesis that is not closed.
    Unmatched(Vec<u8>),
    /// A rule, and what is wrong with it.
    Rule(Vec<u8>, RuleError),
}

/// Result of [`Acl::set_user`].
pub struct Changed {
    /// The user.
    pub id: UserId,
    /// The user before the change; `None` for a new user.
    pub before: Option<User>,
}

/// All users, and the log of denials.
pub struct Acl {
    catalog: Catalog,
    users: Slab<Named>,
    names: BTreeMap<Arc<[u8]>, UserId>,
    /// The latest denials.
    pub log: Log,
    /// Numbers of denials since the start of the server.
    pub denials: Denials,
}

/// A user, found by name or by identity.
struct Named {
    name: Arc<[u8]>,
    user: User,
}

impl Acl {
    /// Only the default user, without restrictions.
    pub fn new(catalog: Catalog) -> Self {
        let mut users = Slab::new();
        let name: Arc<[u8]> = DEFAULT_NAME.into();
        let default = Named { name: Arc::clone(&name), user: User::unrestricted(&catalog) };
        let default = UserId(users.insert(default));
        assert_eq!(default, UserId::DEFAULT, "a slab is filled from 0");
        let names = BTreeMap::from([(name, default)]);
        Acl { catalog, users, names, log: Log::default(), denials: Denials::default() }
    }

    /// The commands that rules refer to.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The user with this name. O(log users).
    pub fn find(&self, name: &[u8]) -> Option<UserId> {
        self.names.get(name).copied()
    }

    /// The name of a user.
    pub fn name(&self, id: UserId) -> &[u8] {
        &self.users[id.0].name
    }

    /// All users in order of their names.
    pub fn users(&self) -> impl ExactSizeIterator<Item = (&[u8], &User)> {
        self.names.iter().map(|(name, &id)| (&**name, &self[id]))
    }

    /// Whether new connections are authenticated as the default user.
    #[inline]
    pub fn is_open(&self) -> bool {
        let default = &self[UserId::DEFAULT];
        default.is_enabled() && default.needs_no_password()
    }

    /// Returns the user of this name if the password is right and the user is enabled.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<UserId> {
        self.find(name).filter(|&id| self[id].logs_in_with(password))
    }

    /// Applies rules to a user, creating it if necessary: all rules or none. `every_channel` says whether new users
    /// and selectors start with access to every channel. O(rules × commands).
    ///
    /// # Errors
    /// The first rule that is wrong.
    pub fn set_user<'r>(
        &mut self,
        name: &[u8],
        rules: impl IntoIterator<Item = &'r [u8]>,
        every_channel: bool,
    ) -> Result<Changed, SetError> {
        if selector::has_spaces(name) {
            return Err(SetError::Name);
        }
        let rules = user::join_selectors(rules).map_err(|open| SetError::Unmatched(open.into()))?;
        let known = self.find(name);
        let mut user = match known {
            Some(id) => self[id].clone(),
            None => User::new(&self.catalog, every_channel),
        };
        for rule in rules {
            if let Err(error) = user.apply(&rule, &self.catalog, every_channel) {
                return Err(SetError::Rule(rule, error));
            }
        }
        Ok(match known {
            Some(id) => Changed { id, before: Some(std::mem::replace(&mut self.users[id.0].user, user)) },
            None => Changed { id: self.insert(name, user), before: None },
        })
    }

    fn insert(&mut self, name: &[u8], user: User) -> UserId {
        let name: Arc<[u8]> = name.into();
        let id = UserId(self.users.insert(Named { name: Arc::clone(&name), user }));
        self.names.insert(name, id);
        id
    }

    /// Deletes a user. Clients with this user must be given another one before the next user is created, which may
    /// get the same identity. The default user is not deleted.
    pub fn delete(&mut self, name: &[u8]) -> Option<UserId> {
        if name == DEFAULT_NAME {
            return None;
        }
        let id = self.names.remove(name)?;
        self.users.remove(id.0);
        Some(id)
    }

    /// Gives the default user a single password; if it is empty, none is required.
    pub fn set_default_password(&mut self, password: &[u8]) {
        let rule = if password.is_empty() { b"nopass".to_vec() } else { [b">", password].concat() };
        let default = &mut self.users[UserId::DEFAULT.0].user;
        for rule in [b"resetpass".as_slice(), &rule] {
            default.apply(rule, &self.catalog, true).expect("a password is always right");
        }
    }

    /// Replaces all users. If there is no default user among the new ones, the default user is as on a new server.
    /// All other [`UserId`]s become invalid.
    pub fn replace(&mut self, users: BTreeMap<Box<[u8]>, User>) {
        self.names.clear();
        self.users.clear();
        let default = users.get(DEFAULT_NAME).cloned();
        let default = default.unwrap_or_else(|| User::unrestricted(&self.catalog));
        let default = self.insert(DEFAULT_NAME, default);
        assert_eq!(default, UserId::DEFAULT, "a slab is filled from 0");
        for (name, user) in users {
            if *name != *DEFAULT_NAME {
                self.insert(&name, user);
            }
        }
    }
}

impl std::ops::Index<UserId> for Acl {
    type Output = User;
    #[inline]
    fn index(&self, id: UserId) -> &User {
        &self.users[id.0].user
    }
}
