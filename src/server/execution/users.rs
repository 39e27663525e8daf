//! Users: authentication, permission checks before commands run, and the effects of changed users on their clients.
//!
//! Each client stores the ID of its user. Whether that user is restricted at all is a flag of the client, updated
//! whenever the user changes, so that admission of an unrestricted user's commands costs nothing.

use crate::acl::catalog::Command;
use crate::acl::log::Event;
use crate::acl::{
    Access, Acl, Catalog, Channel, Context, DEFAULT_NAME, Denied, Reason, Request, SetError, UsedDatabase,
    User, UserId, file, user,
};
use crate::clients::pubsub::{Scope, Subscriptions};
use crate::clients::{Client, ClientFlags, ClientKey};
use crate::config::options::{Place, SecurityOptions, UserLine};
use crate::config::os_error;
use crate::config::value::AclPubsubDefault;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{
    Acl as Category, ChannelSpec, ChannelUse, CommandId, Commands, Databases, Flags, KeyFlags, Spec,
};
use crate::stats::progress::Lines;
use crate::stdx::clock::UnixMillis;
use crate::stdx::text::Lossy;

/// Bytes of the errors in an ACL file that are logged.
const LONGEST_COMPLAINT: usize = 2000;

/// The facts about commands that ACL rules refer to. Commands that only other servers have are included, numbered
/// after our own.
pub fn catalog(commands: &Commands) -> Catalog {
    let container_of_absent = |spec: &Spec| {
        let (container, _) = spec.name.split_once('|')?;
        let place = commands.absent().iter().position(|spec| spec.name == container)?;
        Some((commands.len() + place) as u16)
    };
    let fact = |spec: &'static Spec, absent: bool| Command {
        name: spec.name,
        categories: spec.categories().bits(),
        container: commands.container(spec).map(|id| id.0).or_else(|| container_of_absent(spec)),
        absent,
    };
    let present = commands.iter().map(|(_, spec)| fact(spec, false));
    let absent = commands.absent().iter().map(|spec| fact(spec, true));
    Catalog::new(present.chain(absent), Category::NAMES.iter().map(|&(bit, name)| (bit.bits(), name)))
}

/// Permissions required for using a key with these flags.
fn access(flags: KeyFlags) -> Access {
    const CHANGES: KeyFlags = KeyFlags::UPDATE.with(KeyFlags::INSERT).with(KeyFlags::DELETE);
    let read = if flags.has(KeyFlags::ACCESS) { Access::READ } else { Access::NONE };
    let write = if flags.has(CHANGES) { Access::WRITE } else { Access::NONE };
    read.with(write)
}

/// The keys of a request, and whether the list is complete. It is incomplete if the request does not have the form
/// of its command; such a request must not pass as one without keys.
fn keys_of(spec: &Spec, args: &Args<'_>) -> (Vec<(usize, Access)>, bool) {
    let mut keys = Vec::new();
    let complete = spec.each_key(args, &mut |at, flags| keys.push((at, access(flags))));
    // A script is not run when the number of its keys is wrong.
    let runs_nothing = || spec.declares.is_some();
    (keys, complete || spec.has_empty_list(args) || runs_nothing())
}

/// Channels for which a request needs permission. Unsubscribing needs none.
fn channels_of(spec: &Spec, args: &Args<'_>) -> Vec<(usize, Channel)> {
    let Some(ChannelSpec { first, all, pattern, usage: ChannelUse::Publish | ChannelUse::Subscribe }) =
        spec.channels
    else {
        return Vec::new();
    };
    let first = usize::from(first);
    let end = if all { args.len() } else { first + 1 };
    let kind = if pattern { Channel::Pattern } else { Channel::Literal };
    (first..end).map(|at| (at, kind)).collect()
}

/// Calls `f` with the parts of a request that rules are checked against.
fn with_request<T>(
    id: CommandId,
    spec: &Spec,
    args: &Args<'_>,
    databases: &[UsedDatabase],
    f: impl FnOnce(&Request<'_>) -> T,
) -> T {
    let (keys, keys_are_known) = keys_of(spec, args);
    f(&Request {
        command: id.0,
        needs_no_permission: spec.flags.has(Flags::NO_AUTH),
        args: *args,
        keys: &keys,
        keys_are_known,
        channels: &channels_of(spec, args),
        databases,
    })
}

/// Permissions of a running command's user, for keys that are only known once the command runs.
#[derive(Clone, Copy)]
pub struct Permissions<'a> {
    acl: &'a Acl,
    user: UserId,
    id: CommandId,
    spec: &'static Spec,
    /// The selected database, and the number of databases.
    db: (u32, u32),
}

impl<'a> Permissions<'a> {
    /// The permissions of `user` in the command `id`, run in the first of `db`, which is followed by the number of
    /// databases.
    pub fn new(acl: &'a Acl, user: UserId, id: CommandId, spec: &'static Spec, db: (u32, u32)) -> Self {
        Permissions { acl, user, id, spec, db }
    }

    /// Whether the user may run this request and also read every key, whatever its name.
    pub fn read_every_key(&self, args: &Args<'_>) -> bool {
        let databases = match self.acl[self.user].limits_databases() {
            true => self.spec.used_databases(args, self.db.0, self.db.1),
            false => Vec::new(),
        };
        with_request(self.id, self.spec, args, &databases, |request| {
            self.acl[self.user].check_with_every_key(request, Access::READ)
        })
    }
}

/// The text of a denial for the user `name`. With `fully`, it names the key, channel or database; if the request does
/// not name the database, its command.
pub fn denial(denied: Denied, name: &[u8], spec: &Spec, args: &Args<'_>, fully: bool) -> Vec<u8> {
    let quoted = |what: &[u8], thing: &[u8], kind: &[u8]| {
        [b"User ", name, b" has no permissions to ", what, b" the '", thing, b"' ", kind].concat()
    };
    match denied {
        Denied::Database(at) if fully => {
            [b"User ", name, b" has no permissions to access database ", args.get(at).unwrap_or_default()]
                .concat()
        }
        Denied::Database(_) => b"No permissions to access database".to_vec(),
        Denied::Command => quoted(b"run", spec.name.as_bytes(), b"command"),
        Denied::Key(at) if fully => quoted(b"access", args.get(at).unwrap_or_default(), b"key"),
        Denied::Channel(at) if fully => quoted(b"access", args.get(at).unwrap_or_default(), b"channel"),
        Denied::Key(_) => b"No permissions to access a key".to_vec(),
        Denied::Channel(_) => b"No permissions to access a channel".to_vec(),
    }
}

/// Whether new users may access all channels.
fn new_users_have_every_channel(options: &SecurityOptions) -> bool {
    options.acl_pubsub_default == AclPubsubDefault::AllChannels
}

/// Where a client's next command comes from, for the log of denials.
pub fn context(client: &Client) -> Context {
    if client.flags.has(ClientFlags::IN_MULTI) { Context::Multi } else { Context::TopLevel }
}

/// Writes the users to the ACL file.
///
/// # Errors
/// The file cannot be written; the old file remains.
pub fn save_users(acl: &Acl, options: &SecurityOptions) -> std::io::Result<()> {
    file::save(acl, options.aclfile.as_ref())
}

/// Lines of a configuration file that define the current users, including the default user. Empty if there is an
/// ACL file.
pub fn user_lines(acl: &Acl, options: &SecurityOptions) -> Vec<UserLine> {
    if !options.aclfile.is_empty() {
        return Vec::new();
    }
    let line = |(name, user): (&[u8], &User)| UserLine {
        name: name.into(),
        rules: user::words(&user.describe()).map(Vec::from).collect(),
        place: Place::default(),
    };
    acl.users().map(line).collect()
}

impl Server {
    /// Authenticates a client as the user `name` (`None`: as the default user, who must have a password). `command`
    /// is the name of the command as the client wrote it, for the log of denials.
    ///
    /// # Errors
    /// The name or password is wrong, or the default user has no password. The client keeps its user.
    pub fn authenticate(
        &mut self,
        key: ClientKey,
        name: Option<&[u8]>,
        password: &[u8],
        command: &[u8],
    ) -> Result<(), Error> {
        if name.is_none() && self.acl[UserId::DEFAULT].needs_no_password() {
            return Err(Error::text(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        let name = name.unwrap_or(DEFAULT_NAME);
        if let Some(user) = self.acl.authenticate(name, password) {
            self.clients[key].flags.set(ClientFlags::AUTHENTICATED, true);
            self.act_as(key, user);
            return Ok(());
        }
        self.note_denial(
            key,
            Event {
                reason: Reason::Auth,
                context: context(&self.clients[key]),
                object: command,
                username: name,
            },
        );
        Err(Error::text("WRONGPASS invalid username-password pair or user is disabled."))
    }

    /// Makes a client act as the default user, as every new connection does.
    pub fn act_as_default(&mut self, key: ClientKey) {
        let open = self.acl.is_open();
        self.clients[key].flags.set(ClientFlags::AUTHENTICATED, open);
        self.act_as(key, UserId::DEFAULT);
    }

    /// Makes a client act as the user that its certificate names, if that user may act. Otherwise it stays who it is.
    pub(in crate::server) fn act_as_certified(&mut self, key: ClientKey, name: &[u8]) {
        match self.acl.find(name).filter(|user| self.acl[*user].is_enabled()) {
            Some(user) => {
                tracing::debug!("TLS: Auto-authenticated client as {}", String::from_utf8_lossy(name));
                self.clients[key].flags.set(ClientFlags::AUTHENTICATED, true);
                self.act_as(key, user);
            }
            None => self.stats.denied_certificates += 1,
        }
    }

    fn act_as(&mut self, key: ClientKey, user: UserId) {
        let limited = !self.acl[user].is_unrestricted();
        let client = &mut self.clients[key];
        client.user = user;
        client.flags.set(ClientFlags::LIMITED_USER, limited);
    }

    /// The name of the user that a client acts as.
    pub fn user_name(&self, key: ClientKey) -> &[u8] {
        self.clients[key].user().unwrap_or_else(|user| self.acl.name(user))
    }

    /// Whether a client must authenticate before other commands.
    #[inline]
    pub fn must_authenticate(&self, key: ClientKey) -> bool {
        !self.clients[key].flags.has(ClientFlags::AUTHENTICATED) && !self.acl.is_open()
    }

    /// Checks whether a user may run a request in database `db`.
    ///
    /// # Errors
    /// The database, command, key or channel that the user may not use.
    pub fn check_user(
        &self,
        user: UserId,
        db: u32,
        id: CommandId,
        spec: &Spec,
        args: &Args<'_>,
    ) -> Result<(), Denied> {
        let user = &self.acl[user];
        let databases = match user.limits_databases() {
            true => spec.used_databases(args, db, self.keyspace.databases().len() as u32),
            false => Vec::new(),
        };
        with_request(id, spec, args, &databases, |request| user.check(request))
    }

    /// Checks whether a client may run a request. A denial is recorded in the log of denials.
    ///
    /// # Errors
    /// The database, command, key or channel that the client's user may not use.
    pub fn permit(
        &mut self,
        key: ClientKey,
        id: CommandId,
        spec: &Spec,
        args: &Args<'_>,
        context: Context,
    ) -> Result<(), Denied> {
        if !self.clients[key].flags.has(ClientFlags::LIMITED_USER) {
            return Ok(());
        }
        let client = &mut self.clients[key];
        let user = client.user;
        // What is queued runs in the database that a request queued before selects. (Nothing is queued while a transaction
        // runs.)
        let db = client.open_transaction().and_then(|transaction| transaction.selects).unwrap_or(client.db);
        let denied = match self.check_user(user, db, id, spec, args) {
            Ok(()) => {
                if let Databases::Selects(_) = spec.databases {
                    self.note_selection(key, spec, args);
                }
                return Ok(());
            }
            Err(denied) => denied,
        };
        let object = match denied {
            Denied::Database(0) | Denied::Command => spec.name.as_bytes(),
            Denied::Database(at) | Denied::Key(at) | Denied::Channel(at) => args.get(at).unwrap_or_default(),
        };
        let username = self.acl.name(user).to_vec();
        self.note_denial(key, Event { reason: denied.into(), context, object, username: &username });
        Err(denied)
    }

    /// Notes the database that a transaction will be in after a request that is about to be queued.
    fn note_selection(&mut self, key: ClientKey, spec: &Spec, args: &Args<'_>) {
        let count = self.keyspace.databases().len() as u32;
        let client = &mut self.clients[key];
        if let Some(used) = spec.used_databases(args, client.db, count).first()
            && let Some(transaction) = client.open_transaction()
        {
            transaction.selects = Some(used.number);
        }
    }

    /// The reply to a request that [`Server::permit`] refused.
    pub fn no_permission(&self, key: ClientKey, denied: Denied, spec: &Spec, args: &Args<'_>) -> Error {
        let name = self.acl.name(self.clients[key].user);
        Error::quoting(&[b"NOPERM ", &denial(denied, name, spec, args, false)])
    }

    /// Records a denial in the log of denials.
    fn note_denial(&mut self, key: ClientKey, event: Event<'_>) {
        self.acl.denials.count(event.reason);
        let mut client = Vec::new();
        self.write_client_line(self.on_behalf_of(key), 0, &mut client);
        let max_len = usize::try_from(self.config.security.acllog_max_len).unwrap_or(usize::MAX);
        self.acl.log.add(event, client, UnixMillis::now(), max_len);
    }

    /// Applies rules to a user, creating the user if there is none of that name. The rules bind the user's connected
    /// clients at once.
    ///
    /// # Errors
    /// The first rule that is wrong; no rule is applied.
    pub fn set_user<'r>(
        &mut self,
        name: &[u8],
        rules: impl IntoIterator<Item = &'r [u8]>,
    ) -> Result<(), SetError> {
        let every_channel = new_users_have_every_channel(&self.config.security);
        let changed = self.acl.set_user(name, rules, every_channel)?;
        if changed.before.is_some() {
            self.user_changed(changed.id);
            self.close_revoked_subscribers(changed.id);
        }
        Ok(())
    }

    /// Closes a user's connections that are subscribed to channels that the user may no longer use.
    fn close_revoked_subscribers(&mut self, user: UserId) {
        let rights = &self.acl[user];
        let revoked = |subscriptions: &Subscriptions| {
            Scope::ALL.into_iter().any(|scope| {
                let kind = if scope == Scope::Pattern { Channel::Pattern } else { Channel::Literal };
                subscriptions.names(scope).any(|name| !rights.allows_channel(name, kind))
            })
        };
        let listen = |client: &Client| client.subscriptions.as_deref().is_some_and(revoked);
        let theirs = self.clients.iter().filter(|(_, client)| client.user == user && listen(client));
        let asks = self.answering();
        for key in theirs.map(|(key, _)| key).collect::<Vec<_>>() {
            // A client that revokes its own permissions still gets its reply.
            if asks == Some(key) { self.close_after_reply(key) } else { self.expel(key) }
        }
    }

    /// Sets the default user's password to the configured one (`requirepass`), or removes it.
    pub fn apply_password(&mut self) {
        self.acl.set_default_password(&self.config.security.requirepass);
        self.user_changed(UserId::DEFAULT);
    }

    fn user_changed(&mut self, user: UserId) {
        let limited = !self.acl[user].is_unrestricted();
        for (_, client) in self.clients.iter_mut().filter(|(_, client)| client.user == user) {
            client.flags.set(ClientFlags::LIMITED_USER, limited && !client.flags.has(ClientFlags::PRIMARY));
        }
    }

    /// Deletes a user and closes their connections; that of the client `asks` is closed after its reply. Returns
    /// whether a user was deleted. The default user cannot be deleted.
    pub fn delete_user(&mut self, name: &[u8], asks: ClientKey) -> bool {
        let Some(user) = self.acl.delete(name) else { return false };
        self.close_clients_of(|other| other == user, asks);
        true
    }

    fn close_clients_of(&mut self, is_gone: impl Fn(UserId) -> bool, asks: ClientKey) {
        let theirs: Vec<ClientKey> =
            self.clients.iter().filter(|(_, client)| is_gone(client.user)).map(|(key, _)| key).collect();
        for key in theirs {
            self.act_as(key, UserId::DEFAULT);
            self.clients[key].flags.set(ClientFlags::AUTHENTICATED, false);
            if key == asks { self.close_after_reply(key) } else { self.expel(key) }
        }
    }

    /// Loads the ACL file again. Connections of all users but the default one are closed; that of the client `asks`
    /// is closed after its reply.
    ///
    /// # Errors
    /// The file cannot be read, or a line is wrong. Nothing has changed.
    pub fn load_users(&mut self, asks: ClientKey) -> Result<(), Vec<u8>> {
        self.read_users(Lines::Log).inspect_err(|errors| {
            let (errors, dots) = match errors.split_at_checked(LONGEST_COMPLAINT) {
                Some((start, _)) => (start, " …"),
                None => (&errors[..], ""),
            };
            tracing::warn!(
                "ACL LOAD failed: {}{dots}. The users are as they were: mend the file, look at it with spinel \
                 --check-config, and send ACL LOAD again",
                Lossy(errors)
            );
        })?;
        self.close_clients_of(|user| user != UserId::DEFAULT, asks);
        self.user_changed(UserId::DEFAULT);
        Ok(())
    }

    fn read_users(&mut self, progress: Lines) -> Result<(), Vec<u8>> {
        let path = &self.config.security.aclfile;
        let text = std::fs::read(path).map_err(|error| {
            format!("Error loading ACLs, opening file '{path}': {}", os_error(&error)).into_bytes()
        })?;
        let every_channel = new_users_have_every_channel(&self.config.security);
        let users = file::parse(&self.acl, &text, path, every_channel, progress)?;
        self.acl.replace(users);
        Ok(())
    }

    /// Creates the users that the configuration defines in its lines or in an ACL file; `progress` says where lines about
    /// the progress go.
    ///
    /// # Errors
    /// The configuration has both lines and a file, or a definition is wrong.
    pub fn apply_users(&mut self, progress: Lines) -> Result<(), UsersError> {
        let SecurityOptions { aclfile, users, .. } = &self.config.security;
        if !aclfile.is_empty() && !users.is_empty() {
            return Err(UsersError::Both);
        }
        for line in users.clone() {
            let defined = self.set_user(&line.name, rules_of(&line));
            defined.map_err(|error| UsersError::Line(line.place.clone(), complaint(&line.name, &error)))?;
        }
        if !self.config.security.aclfile.is_empty() {
            self.read_users(progress)
                .map_err(|errors| UsersError::File(String::from_utf8_lossy(&errors).into_owned()))?;
        }
        Ok(())
    }
}

/// Why the configured users cannot be created.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// The configuration has both lines with users and an ACL file.
    #[error(
        "There are users in the configuration and a file of users (aclfile) besides. Only one of them can be right: \
         please keep all users in the file, or none."
    )]
    Both,
    /// A line of the configuration is wrong: its place, and the reason.
    #[error("{1}")]
    Line(Place, String),
    /// The ACL file cannot be read, or is wrong.
    #[error("Aborting Redis startup because of ACL errors: {0}")]
    File(String),
}

/// Creates the user that a line of the configuration defines, without effects on clients.
///
/// # Errors
/// The message for whoever wrote the line.
pub(in crate::server) fn define(
    acl: &mut Acl,
    line: &UserLine,
    options: &SecurityOptions,
) -> Result<(), String> {
    let defined = acl.set_user(&line.name, rules_of(line), new_users_have_every_channel(options));
    defined.map(drop).map_err(|error| complaint(&line.name, &error))
}

/// A line defines its user completely.
fn rules_of(line: &UserLine) -> impl Iterator<Item = &[u8]> {
    let reset: &[u8] = b"reset";
    std::iter::once(reset).chain(line.rules.iter().map(Vec::as_slice))
}

/// The error message for a user in the configuration.
fn complaint(name: &[u8], error: &SetError) -> String {
    let name = String::from_utf8_lossy(name);
    let about = |rule: &[u8], reason: &str| {
        // A rule with a password is not shown.
        let rule = if rule.starts_with(b">") || rule.starts_with(b"<") { b"(redacted)" } else { rule };
        let rule = String::from_utf8_lossy(rule);
        format!("Error loading ACL rule '{rule}' for the user named '{name}': {reason}")
    };
    match error {
        SetError::Name => {
            format!("Error in user declaration '{name}': Usernames can't contain spaces or null characters")
        }
        SetError::Unmatched(rule) => about(rule, "Unmatched parenthesis in selector definition."),
        SetError::Rule(rule, error) => about(rule, &error.to_string()),
    }
}
