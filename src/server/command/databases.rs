//! Which databases a request uses, for rules that limit users to some.

use super::flags::{Acl, Flags};
use super::keys::KeyFlags;
use super::spec::Spec;
use crate::acl::UsedDatabase;
use crate::resp::Args;

/// Calls its second argument with the position of each argument that is the number of a database.
pub type FindDatabases = fn(&Args<'_>, &mut dyn FnMut(usize));

/// The databases that the requests of a command use.
#[derive(Clone, Copy)]
pub enum Databases {
    /// The one that the client has selected, if the command has anything to do with keys.
    Selected,
    /// The one whose number this argument is. It is the selected one from then on.
    Selects(usize),
    /// Those that the request names, and not the selected one.
    Named(FindDatabases),
    /// Those that the request names, and the selected one.
    NamedAndSelected(FindDatabases),
    /// All.
    All,
}

impl Spec {
    /// Whether the command has anything to do with keys, be it that it lists or counts them.
    fn concerns_keys(&self) -> bool {
        self.flags.has(Flags::READONLY.with(Flags::WRITE))
            || self.acl.has(Acl::KEYSPACE.with(Acl::READ).with(Acl::WRITE))
            || self.find_keys.is_some()
            || self.keys.iter().any(|spec| !spec.flags.has(KeyFlags::NOT_KEY))
    }

    /// The databases that a request of a client in database `selected` uses, of `count`: first those that it names,
    /// provided that there are databases of all these numbers.
    pub fn used_databases(&self, args: &Args<'_>, selected: u32, count: u32) -> Vec<UsedDatabase> {
        let named = |positions: Vec<usize>| {
            let numbers = positions.into_iter().map(|at| {
                let number = args.int(at).ok().and_then(|number| u32::try_from(number).ok());
                number.filter(|number| *number < count).map(|number| UsedDatabase { number, named_by: at })
            });
            numbers.collect::<Option<Vec<_>>>().unwrap_or_default()
        };
        let found = |find: FindDatabases| {
            let mut positions = Vec::new();
            find(args, &mut |at| positions.push(at));
            named(positions)
        };
        let unnamed = |number| UsedDatabase { number, named_by: 0 };
        match self.databases {
            Databases::Selected if self.concerns_keys() => vec![unnamed(selected)],
            Databases::Selected => Vec::new(),
            Databases::Selects(at) => named(vec![at]),
            Databases::Named(find) => found(find),
            Databases::NamedAndSelected(find) => {
                let mut all = found(find);
                all.push(unnamed(selected));
                all
            }
            Databases::All => (0..count).map(unnamed).collect(),
        }
    }
}
