//! Who may do what: users, their passwords, and the commands, keys and channels they may use.
//!
//! * [`catalog`] knows the commands by number, with their categories; rules are about these.
//! * [`selector`] is one set of permissions, [`user`] is several of them with passwords.
//! * [`file`] reads and writes files of users; [`log`] remembers what was denied.
//!
//! What always holds: there is a default user, [`UserId::DEFAULT`]; names are found in order of their bytes; what
//! [`User::describe`] says makes the same user when it is read; nothing is changed by a list of rules one of which
//! is wrong.
//!
//! Clients are not known here, nor how a command is run: whoever knows both puts together a [`Request`] and acts on
//! the verdict. A client that keeps a [`UserId`] sees changes of the user at once. Rules, their texts and
//! the errors about them are those of Redis 7.2.

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

/// The name of the user that every connection starts as.
pub const DEFAULT_NAME: &[u8] = b"default";

/// Who a client acts as. Valid until the user is deleted or the users are loaded anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserId(usize);

impl UserId {
    /// The default user, who is always there.
    pub const DEFAULT: UserId = UserId(0);
}

bit_set! {
    /// What a command does with a key: reads it, changes it, both, or asks only whether it is there.
    pub struct Access: u8 {
        /// What the key holds becomes known.
        READ = 0;
        /// What the key holds is changed, or there is a key afterwards that was not, or none that was.
        WRITE = 1;
    }
}

impl Access {
    /// Both.
    pub const ALL: Access = Access::READ.with(Access::WRITE);

    /// What stands before a pattern of keys.
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
    /// As itself.
    Literal,
    /// By a pattern.
    Pattern,
}

/// What is to be checked about one request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The number of its command or subcommand in the catalog.
    pub command: u16,
    /// Everybody may run the command, on keys and channels that they may use.
    pub needs_no_permission: bool,
    /// The command's name, its subcommand's if it has one, and the arguments.
    pub args: Args<'a>,
    /// Which arguments are keys, and how they are used.
    pub keys: &'a [(usize, Access)],
    /// Whether all of its keys are among them.
    pub keys_are_known: bool,
    /// Which arguments are channels.
    pub channels: &'a [(usize, Channel)],
}

/// Why a request may not run: with the place of the argument, if it is one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Denied {
    /// The user may not run the command, with whatever arguments.
    Command,
    /// The user may not use this key so.
    Key(usize),
    /// The user may not use this channel.
    Channel(usize),
}

/// Why a rule is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RuleError {
    #[error("Syntax error")]
    Syntax,
    #[error("Unknown command or category name in ACL")]
    UnknownCommand,
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. \
         Try 'resetkeys' to start with an empty list of patterns"
    )]
    PatternAfterAll,
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
         effect. Try 'resetchannels' to start with an empty list of channels"
    )]
    ChannelAfterAll,
    #[error("The password you are trying to remove from the user does not exist")]
    NoSuchPassword,
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
    )]
    BadDigest,
    #[error("Allowing first-arg of a subcommand is not supported")]
    FirstArgOfSubcommand,
}

/// Why a user was not changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetError {
    /// The name would not survive being saved.
    Name,
    /// This rule opens a parenthesis that none closes.
    Unmatched(Vec<u8>),
    /// A rule and what is wrong with it.
    Rule(Vec<u8>, RuleError),
}

/// What [`Acl::set_user`] did.
pub struct Changed {
    /// The user.
    pub id: UserId,
    /// What the user was like before; `None` for a new one.
    pub before: Option<User>,
}

/// All users, and what was denied them.
pub struct Acl {
    catalog: Catalog,
    users: Slab<Named>,
    names: BTreeMap<Arc<[u8]>, UserId>,
    /// What was denied of late.
    pub log: Log,
    /// How often what was denied, since the start.
    pub denials: Denials,
}

/// A user as the name and the identity find them.
struct Named {
    name: Arc<[u8]>,
    user: User,
}

impl Acl {
    /// The default user alone, who may do everything.
    pub fn new(catalog: Catalog) -> Self {
        let mut users = Slab::new();
        let name: Arc<[u8]> = DEFAULT_NAME.into();
        let default = Named { name: Arc::clone(&name), user: User::unrestricted(&catalog) };
        let default = UserId(users.insert(default));
        assert_eq!(default, UserId::DEFAULT, "a slab is filled from 0");
        let names = BTreeMap::from([(name, default)]);
        Acl { catalog, users, names, log: Log::default(), denials: Denials::default() }
    }

    /// The commands that rules are about.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The user called so. O(log users).
    pub fn find(&self, name: &[u8]) -> Option<UserId> {
        self.names.get(name).copied()
    }

    /// The name of a user.
    pub fn name(&self, id: UserId) -> &[u8] {
        &self.users[id.0].name
    }

    /// All users by name.
    pub fn users(&self) -> impl ExactSizeIterator<Item = (&[u8], &User)> {
        self.names.iter().map(|(name, &id)| (&**name, &self[id]))
    }

    /// Whether new connections are let in as the default user.
    #[inline]
    pub fn is_open(&self) -> bool {
        let default = &self[UserId::DEFAULT];
        default.is_enabled() && default.needs_no_password()
    }

    /// The user of this name, if the password is right and the user may log in.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<UserId> {
        self.find(name).filter(|&id| self[id].logs_in_with(password))
    }

    /// Applies rules to a user, who is made if need be: all rules, or none. `every_channel` says what new users
    /// and selectors begin with. O(rules × commands).
    ///
    /// # Errors
    /// The first thing that is wrong.
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

    /// Forgets a user; whoever acts as them must be somebody else before the next user is made. The default user
    /// stays.
    pub fn delete(&mut self, name: &[u8]) -> Option<UserId> {
        if name == DEFAULT_NAME {
            return None;
        }
        let id = self.names.remove(name)?;
        self.users.remove(id.0);
        Some(id)
    }

    /// Gives the default user one password, or none to ask for.
    pub fn set_default_password(&mut self, password: &[u8]) {
        let rule = if password.is_empty() { b"nopass".to_vec() } else { [b">", password].concat() };
        let default = &mut self.users[UserId::DEFAULT.0].user;
        for rule in [b"resetpass".as_slice(), &rule] {
            default.apply(rule, &self.catalog, true).expect("a password is always right");
        }
    }

    /// Puts these users in the place of all there are; without a default user among them, the default user is as
    /// on a new server. Every [`UserId`] but the default user's means nothing afterwards.
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
