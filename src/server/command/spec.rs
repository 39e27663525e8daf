//! The table entry of a command.

use super::context::{CmdResult, Ctx, Handler};
use super::databases::Databases;
use super::docs::Docs;
use super::flags::{Acl, Flags};
use super::keys::{Begin, ChannelSpec, Find, FindKeys, KeyFlags, KeySpec};
use crate::clients::ClientKey;
use crate::resp::Args;
use crate::scripting::{self, Engine};
use crate::server::Server;
use crate::stdx::num;
use crate::types::prefetch::PrefetchTarget;

/// Calls its second argument with the position of each argument that nobody but the server may see.
pub type FindSecrets = fn(&Args<'_>, &mut dyn FnMut(usize));

/// What a script or function declares that a request runs; `None` if there is none. The engine is `None` before its first
/// use.
pub type FindDeclared = fn(Option<&Engine>, &Args<'_>) -> Option<scripting::Flags>;

/// One command or subcommand.
#[derive(Clone, Copy)]
pub struct Spec {
    /// In lower case; a subcommand's is `container|name`.
    pub name: &'static str,
    /// How many arguments there must be, the name included; at least so many when negative.
    pub arity: i16,
    /// Properties that decide when the command may run, and how.
    pub flags: Flags,
    /// ACL categories besides those that follow from `flags`.
    pub acl: Acl,
    /// Where the keys are among the arguments.
    pub keys: &'static [KeySpec],
    /// Where the channels are among the arguments.
    pub channels: Option<ChannelSpec>,
    /// Which databases a request uses.
    pub databases: Databases,
    /// Function that runs the command.
    pub handler: Handler,
    /// Subcommands of a container.
    pub subcommands: &'static [Spec],
    /// Tips for clients and proxies, as COMMAND INFO shows them.
    pub tips: &'static [&'static str],
    /// Documentation, as COMMAND DOCS shows it.
    pub docs: Docs,
    /// Finds the keys of a request where the specifications cannot.
    pub find_keys: Option<FindKeys>,
    /// Finds passwords and the like, which logs and monitors leave out.
    pub secrets: Option<FindSecrets>,
    /// Finds what the script declares that a request runs: its flags hold instead of the command's.
    pub declares: Option<FindDeclared>,
    /// What the command looks for in the value of its key, for prefetching.
    pub seeks: Seeks,
}

/// What a command looks for in the value at its first key, and at which argument the request says so: the way
/// there is gone ahead of the command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seeks {
    /// It looks into no collection, or there is no saying where.
    Nothing,
    /// A string, if it is a long one, which lies apart from its key.
    LongString,
    /// The beginning.
    Start,
    /// A member or field.
    Member(usize),
    /// A member and its place in the order.
    Place(usize),
    /// A score, and behind it the member that will have it.
    Score(usize),
    /// The first and the last rank of a range, from the highest rank if `reverse`.
    Ranks {
        /// Argument that is the first rank; the last one follows it.
        at: usize,
        /// Whether ranks count from the highest score.
        reverse: bool,
    },
}

impl Spec {
    const fn new(name: &'static str, arity: i16, handler: Handler) -> Spec {
        Spec {
            name,
            arity,
            flags: Flags::NONE,
            acl: Acl::NONE,
            keys: &[],
            channels: None,
            databases: Databases::Selected,
            handler,
            subcommands: &[],
            tips: &[],
            docs: Docs::NONE,
            find_keys: None,
            secrets: None,
            declares: None,
            seeks: Seeks::Nothing,
        }
    }

    /// A command that touches keys and its reply only.
    pub const fn data(name: &'static str, arity: i16, handler: fn(&mut Ctx<'_>) -> CmdResult) -> Spec {
        Spec::new(name, arity, Handler::Data(handler))
    }

    /// A command that may reach the whole server.
    pub const fn admin(
        name: &'static str,
        arity: i16,
        handler: fn(&mut Server, ClientKey, Args<'_>) -> CmdResult,
    ) -> Spec {
        Spec::new(name, arity, Handler::Admin(handler))
    }

    /// A command that has subcommands and does nothing by itself.
    pub const fn container(name: &'static str, arity: i16, subcommands: &'static [Spec]) -> Spec {
        Spec { subcommands, ..Spec::new(name, arity, Handler::Container) }
    }

    /// A command that other servers of the family have. Only rules and renamings may name it; a container's
    /// subcommands are entries of their own.
    pub const fn absent(name: &'static str) -> Spec {
        Spec::new(name, 0, Handler::Absent)
    }

    /// Sets the flags.
    pub const fn flags(self, flags: Flags) -> Spec {
        Spec { flags, ..self }
    }

    /// The categories that do not follow from the flags.
    pub const fn acl(self, acl: Acl) -> Spec {
        Spec { acl, ..self }
    }

    /// Sets the key specifications.
    pub const fn keys(self, keys: &'static [KeySpec]) -> Spec {
        Spec { keys, ..self }
    }

    /// Sets the channel specification.
    pub const fn channels(self, channels: ChannelSpec) -> Spec {
        Spec { channels: Some(channels), ..self }
    }

    /// Sets which databases a request uses, if its client's is not all.
    pub const fn databases(self, databases: Databases) -> Spec {
        Spec { databases, ..self }
    }

    /// Sets the tips.
    pub const fn tips(self, tips: &'static [&'static str]) -> Spec {
        Spec { tips, ..self }
    }

    /// Sets the documentation.
    pub const fn docs(self, docs: Docs) -> Spec {
        Spec { docs, ..self }
    }

    /// Sets a function that finds the keys, where the specifications do not suffice.
    pub const fn find_keys(self, find: FindKeys) -> Spec {
        Spec { find_keys: Some(find), ..self }
    }

    /// Sets a function that marks the secret arguments.
    pub const fn secrets(self, find: FindSecrets) -> Spec {
        Spec { secrets: Some(find), ..self }
    }

    /// Sets a function that finds what the script declares which a request runs.
    pub const fn declares(self, find: FindDeclared) -> Spec {
        Spec { declares: Some(find), ..self }
    }

    /// Sets what the command looks for in the value of its key.
    pub const fn seeks(self, seeks: Seeks) -> Spec {
        Spec { seeks, ..self }
    }

    /// What a request looks for in the collection at its first key, if that can be told. A request with options may be
    /// misunderstood: nothing depends on this but how soon memory comes in.
    #[inline]
    pub fn aim<'a>(&self, args: &Args<'a>) -> Option<PrefetchTarget<'a>> {
        Some(match self.seeks {
            Seeks::Nothing => return None,
            Seeks::Start | Seeks::LongString => PrefetchTarget::Start,
            Seeks::Member(i) => PrefetchTarget::Member(args.get(i)?),
            Seeks::Place(i) => PrefetchTarget::Place(args.get(i)?),
            Seeks::Score(i) => PrefetchTarget::Score(args.get(i + 1)?, num::parse_f64(args.get(i)?)?),
            Seeks::Ranks { at, reverse } => PrefetchTarget::Ranks {
                start: num::parse_i64(args.get(at)?)?,
                stop: num::parse_i64(args.get(at + 1)?)?,
                reverse,
            },
        })
    }

    /// The arguments of a request as others may see them.
    pub fn shown<'a>(&self, args: &Args<'a>) -> Vec<&'a [u8]> {
        let mut shown: Vec<&[u8]> = args.iter().collect();
        if let Some(find) = self.secrets {
            find(args, &mut |i| shown[i] = b"(redacted)");
        }
        shown
    }

    /// The name within its container, or the whole name.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('|').next().expect("rsplit yields at least one part")
    }

    /// Whether a request of `args` arguments has the right number of them.
    #[inline]
    pub fn accepts(&self, args: usize) -> bool {
        if self.arity >= 0 { args == self.arity as usize } else { args >= self.arity.unsigned_abs() as usize }
    }

    /// All ACL categories, those that follow from the flags included.
    pub fn categories(&self) -> Acl {
        let mut acl = self.acl;
        let flags = self.flags;
        if flags.has(Flags::WRITE) {
            acl = acl | Acl::WRITE;
        }
        if flags.has(Flags::READONLY) && !acl.has(Acl::SCRIPTING) {
            acl = acl | Acl::READ;
        }
        if flags.has(Flags::ADMIN) {
            acl = acl | Acl::ADMIN | Acl::DANGEROUS;
        }
        if flags.has(Flags::PUBSUB) {
            acl = acl | Acl::PUBSUB;
        }
        if flags.has(Flags::BLOCKING) {
            acl = acl | Acl::BLOCKING;
        }
        acl | if flags.has(Flags::FAST) { Acl::FAST } else { Acl::SLOW }
    }

    /// Calls `f` with the position of each key of a request and what happens to it; false when
    /// the request does not have the command's form.
    pub fn each_key(&self, args: &Args<'_>, f: &mut dyn FnMut(usize, KeyFlags)) -> bool {
        if let Some(find) = self.find_keys {
            return find(args, f);
        }
        self.keys.iter().filter(|spec| !spec.flags.has(KeyFlags::NOT_KEY)).all(|spec| {
            let complete = spec.positions(args, |i| f(i, spec.flags));
            complete || spec.flags.has(KeyFlags::INCOMPLETE)
        })
    }

    /// Whether the keys of a request are all known although [`Spec::each_key`] says that its form is not the
    /// command's: a list of keys that may be empty has none.
    pub fn has_empty_list(&self, args: &Args<'_>) -> bool {
        self.find_keys.is_none()
            && self.keys.iter().all(|spec| match (spec.begin, spec.find) {
                (Begin::Index(at), Find::Range { last: -1, step: 1, .. }) if at as usize == args.len() => {
                    true
                }
                _ => spec.positions(args, |_| {}),
            })
    }

    /// Whether some key's place depends on the request.
    pub fn has_movable_keys(&self) -> bool {
        let fixed = |spec: &KeySpec| matches!((spec.begin, spec.find), (Begin::Index(_), Find::Range { .. }));
        !self.keys.iter().all(fixed)
    }

    /// Whether some argument may be a key.
    pub fn has_keys(&self) -> bool {
        self.find_keys.is_some() || self.keys.iter().any(|spec| !spec.flags.has(KeyFlags::NOT_KEY))
    }

    /// The classic triple of `COMMAND INFO`: first key, last key, step.
    pub fn key_range(&self) -> (i64, i64, i64) {
        // Specifications that begin at a fixed argument and follow one another are one range.
        let mut range: Option<(i64, i64, i64)> = None;
        for spec in self.keys {
            let (Begin::Index(first), Find::Range { last, step, limit: 0 | 1 }) = (spec.begin, spec.find)
            else {
                continue;
            };
            let first = first as i64;
            let last = if last >= 0 { first + last as i64 } else { last as i64 };
            range = match range {
                None => Some((first, last, step as i64)),
                Some((f, l, s)) if l >= 0 && first == l + 1 => Some((f, last, s)),
                other => other,
            };
        }
        range.unwrap_or((0, 0, 0))
    }
}
