//! Names of commands that related servers have and this server lacks.
//!
//! A configuration written for one of those servers renames such commands or restricts who may run them: it is
//! accepted, and its rules are kept. A call of such a command is an unknown command nevertheless.

use crate::server::command::{Acl, Flags, Spec};

const fn absent(name: &'static str, flags: Flags, categories: Acl) -> Spec {
    Spec::absent(name).flags(flags).acl(categories)
}

/// Absent commands, sorted by name. A command that gets implemented is removed from this list.
#[rustfmt::skip]
pub const COMMANDS: &[Spec] = &[
    absent("arcount", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("ardel", Flags::WRITE.with(Flags::FAST), Acl::NONE),
    absent("ardelrange", Flags::WRITE, Acl::NONE),
    absent("arget", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("argetrange", Flags::READONLY, Acl::NONE),
    absent("argrep", Flags::READONLY, Acl::NONE),
    absent("arinfo", Flags::READONLY, Acl::NONE),
    absent("arinsert", Flags::WRITE.with(Flags::FAST), Acl::NONE),
    absent("arlastitems", Flags::READONLY, Acl::NONE),
    absent("arlen", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("armget", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("armset", Flags::WRITE.with(Flags::FAST), Acl::NONE),
    absent("arnext", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("arop", Flags::READONLY, Acl::NONE),
    absent("arring", Flags::WRITE, Acl::NONE),
    absent("arscan", Flags::READONLY, Acl::NONE),
    absent("arseek", Flags::WRITE.with(Flags::FAST), Acl::NONE),
    absent("arset", Flags::WRITE.with(Flags::FAST), Acl::NONE),
    absent("backup", Flags::NONE, Acl::NONE),
    absent("backup|abort", Flags::ADMIN, Acl::NONE),
    absent("backup|cleanup", Flags::ADMIN, Acl::NONE),
    absent("backup|help", Flags::NONE, Acl::NONE),
    absent("backup|list", Flags::ADMIN, Acl::NONE),
    absent("backup|seal", Flags::ADMIN, Acl::NONE),
    absent("backup|start", Flags::ADMIN, Acl::NONE),
    absent("backup|status", Flags::ADMIN, Acl::NONE),
    absent("bf.add", Flags::WRITE, Acl::NONE),
    absent("bf.card", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("bf.exists", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("bf.info", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("bf.insert", Flags::WRITE, Acl::NONE),
    absent("bf.loadchunk", Flags::WRITE, Acl::NONE),
    absent("bf.madd", Flags::WRITE, Acl::NONE),
    absent("bf.mexists", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("bf.reserve", Flags::WRITE, Acl::NONE),
    absent("bf.scandump", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("cf.add", Flags::WRITE, Acl::NONE),
    absent("cf.addnx", Flags::WRITE, Acl::NONE),
    absent("cf.compact", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("cf.count", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("cf.del", Flags::WRITE.with(Flags::FAST), Acl::NONE),
    absent("cf.exists", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("cf.info", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("cf.insert", Flags::WRITE, Acl::NONE),
    absent("cf.insertnx", Flags::WRITE, Acl::NONE),
    absent("cf.loadchunk", Flags::WRITE, Acl::NONE),
    absent("cf.mexists", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("cf.reserve", Flags::WRITE, Acl::NONE),
    absent("cf.scandump", Flags::READONLY.with(Flags::FAST), Acl::NONE),
    absent("cluster|migration", Flags::ADMIN, Acl::NONE),
    absent("cms.incrby", Flags::WRITE, Acl::NONE),
    absent("cms.info", Flags::READONLY, Acl::NONE),
    absent("cms.initbydim", Flags::WRITE, Acl::NONE),
    absent("cms.initbyprob", Flags::WRITE, Acl::NONE),
    absent("cms.merge", Flags::WRITE, Acl::NONE),
    absent("cms.query", Flags::READONLY, Acl::NONE),
    absent("ft._aliasaddifnx", Flags::WRITE, Acl::NONE),
    absent("ft._aliasdelifx", Flags::WRITE, Acl::NONE),
    absent("ft._alterifnx", Flags::WRITE, Acl::NONE),
    absent("ft._createifnx", Flags::WRITE, Acl::NONE),
    absent("ft._dropifx", Flags::WRITE, Acl::NONE),
    absent("ft._dropindexifx", Flags::WRITE, Acl::NONE),
    absent("ft._list", Flags::READONLY, Acl::NONE),
    absent("ft.add", Flags::WRITE, Acl::NONE),
    absent("ft.aggregate", Flags::READONLY, Acl::NONE),
    absent("ft.aliasadd", Flags::WRITE, Acl::NONE),
    absent("ft.aliasdel", Flags::WRITE, Acl::NONE),
    absent("ft.aliaslist", Flags::READONLY, Acl::NONE),
    absent("ft.aliasupdate", Flags::WRITE, Acl::NONE),
    absent("ft.alter", Flags::WRITE, Acl::NONE),
    absent("ft.config", Flags::READONLY, Acl::NONE),
    absent("ft.config|get", Flags::READONLY, Acl::NONE),
    absent("ft.config|help", Flags::READONLY, Acl::NONE),
    absent("ft.config|set", Flags::WRITE, Acl::NONE),
    absent("ft.create", Flags::WRITE, Acl::NONE),
    absent("ft.cursor", Flags::READONLY, Acl::NONE),
    absent("ft.cursor|del", Flags::READONLY, Acl::NONE),
    absent("ft.cursor|gc", Flags::READONLY, Acl::NONE),
    absent("ft.cursor|read", Flags::READONLY, Acl::NONE),
    absent("ft.del", Flags::WRITE, Acl::NONE),
    absent("ft.dictadd", Flags::WRITE, Acl::NONE),
    absent("ft.dictdel", Flags::WRITE, Acl::NONE),
    absent("ft.dictdump", Flags::READONLY, Acl::NONE),
    absent("ft.drop", Flags::WRITE, Acl::NONE),
    absent("ft.dropindex", Flags::WRITE, Acl::NONE),
    absent("ft.explain", Flags::READONLY, Acl::NONE),
    absent("ft.explaincli", Flags::READONLY, Acl::NONE),
    absent("ft.get", Flags::READONLY, Acl::NONE),
    absent("ft.hybrid", Flags::READONLY, Acl::NONE),
    absent("ft.info", Flags::READONLY, Acl::NONE),
    absent("ft.mget", Flags::READONLY, Acl::NONE),
    absent("ft.profile", Flags::READONLY, Acl::NONE),
    absent("ft.safeadd", Flags::WRITE, Acl::NONE),
    absent("ft.search", Flags::READONLY, Acl::NONE),
    absent("ft.spellcheck", Flags::READONLY, Acl::NONE),
    absent("ft.sugadd", Flags::WRITE, Acl::NONE),
    absent("ft.sugdel", Flags::WRITE, Acl::NONE),
    absent("ft.sugget", Flags::READONLY, Acl::NONE),
    absent("ft.suglen", Flags::READONLY, Acl::NONE),
    absent("ft.synadd", Flags::WRITE, Acl::NONE),
    absent("ft.syndump", Flags::READONLY, Acl::NONE),
    absent("ft.synupdate", Flags::WRITE, Acl::NONE),
    absent("ft.tagvals", Flags::READONLY, Acl::NONE),
    absent("himport", Flags::NONE, Acl::HASH),
    absent("himport|discard", Flags::NONE, Acl::HASH),
    absent("himport|discardall", Flags::NONE, Acl::HASH),
    absent("himport|prepare", Flags::NONE, Acl::HASH),
    absent("himport|set", Flags::WRITE, Acl::HASH),
    absent("json.arrappend", Flags::WRITE, Acl::NONE),
    absent("json.arrindex", Flags::READONLY, Acl::NONE),
    absent("json.arrinsert", Flags::WRITE, Acl::NONE),
    absent("json.arrlen", Flags::READONLY, Acl::NONE),
    absent("json.arrpop", Flags::WRITE, Acl::NONE),
    absent("json.arrtrim", Flags::WRITE, Acl::NONE),
    absent("json.clear", Flags::WRITE, Acl::NONE),
    absent("json.del", Flags::WRITE, Acl::NONE),
    absent("json.forget", Flags::WRITE, Acl::NONE),
    absent("json.get", Flags::READONLY, Acl::NONE),
    absent("json.merge", Flags::WRITE, Acl::NONE),
    absent("json.mget", Flags::READONLY, Acl::NONE),
    absent("json.mset", Flags::WRITE, Acl::NONE),
    absent("json.numincrby", Flags::WRITE, Acl::NONE),
    absent("json.nummultby", Flags::WRITE, Acl::NONE),
    absent("json.numpowby", Flags::WRITE, Acl::NONE),
    absent("json.objkeys", Flags::READONLY, Acl::NONE),
    absent("json.objlen", Flags::READONLY, Acl::NONE),
    absent("json.resp", Flags::READONLY, Acl::NONE),
    absent("json.set", Flags::WRITE, Acl::NONE),
    absent("json.strappend", Flags::WRITE, Acl::NONE),
    absent("json.strlen", Flags::READONLY, Acl::NONE),
    absent("json.toggle", Flags::WRITE, Acl::NONE),
    absent("json.type", Flags::READONLY, Acl::NONE),
    absent("search.clusterinfo", Flags::READONLY, Acl::NONE),
    absent("search.clusterrefresh", Flags::READONLY, Acl::NONE),
    absent("search.clusterset", Flags::READONLY, Acl::NONE),
    absent("tdigest.add", Flags::WRITE, Acl::NONE),
    absent("tdigest.byrank", Flags::READONLY, Acl::NONE),
    absent("tdigest.byrevrank", Flags::READONLY, Acl::NONE),
    absent("tdigest.cdf", Flags::READONLY, Acl::NONE),
    absent("tdigest.create", Flags::WRITE, Acl::NONE),
    absent("tdigest.info", Flags::READONLY, Acl::NONE),
    absent("tdigest.max", Flags::READONLY, Acl::NONE),
    absent("tdigest.merge", Flags::WRITE, Acl::NONE),
    absent("tdigest.min", Flags::READONLY, Acl::NONE),
    absent("tdigest.quantile", Flags::READONLY, Acl::NONE),
    absent("tdigest.rank", Flags::READONLY, Acl::NONE),
    absent("tdigest.reset", Flags::WRITE, Acl::NONE),
    absent("tdigest.revrank", Flags::READONLY, Acl::NONE),
    absent("tdigest.trimmed_mean", Flags::READONLY, Acl::NONE),
    absent("timeseries.clusterset", Flags::READONLY, Acl::NONE),
    absent("timeseries.refreshcluster", Flags::READONLY, Acl::NONE),
    absent("topk.add", Flags::WRITE, Acl::NONE),
    absent("topk.count", Flags::READONLY, Acl::NONE),
    absent("topk.incrby", Flags::WRITE, Acl::NONE),
    absent("topk.info", Flags::READONLY, Acl::NONE),
    absent("topk.list", Flags::READONLY, Acl::NONE),
    absent("topk.query", Flags::READONLY, Acl::NONE),
    absent("topk.reserve", Flags::WRITE, Acl::NONE),
    absent("trimslots", Flags::WRITE, Acl::NONE),
    absent("ts.add", Flags::WRITE, Acl::NONE),
    absent("ts.alter", Flags::WRITE, Acl::NONE),
    absent("ts.create", Flags::WRITE, Acl::NONE),
    absent("ts.createrule", Flags::WRITE.with(Flags::FAST), Acl::NONE),
    absent("ts.decrby", Flags::WRITE, Acl::NONE),
    absent("ts.del", Flags::WRITE, Acl::NONE),
    absent("ts.deleterule", Flags::WRITE, Acl::NONE),
    absent("ts.get", Flags::READONLY, Acl::NONE),
    absent("ts.incrby", Flags::WRITE, Acl::NONE),
    absent("ts.info", Flags::READONLY, Acl::NONE),
    absent("ts.madd", Flags::WRITE, Acl::NONE),
    absent("ts.mget", Flags::READONLY, Acl::NONE),
    absent("ts.mrange", Flags::READONLY, Acl::NONE),
    absent("ts.mrevrange", Flags::READONLY, Acl::NONE),
    absent("ts.nrange", Flags::READONLY, Acl::NONE),
    absent("ts.nrevrange", Flags::READONLY, Acl::NONE),
    absent("ts.queryindex", Flags::READONLY, Acl::NONE),
    absent("ts.querylabels", Flags::READONLY, Acl::NONE),
    absent("ts.range", Flags::READONLY, Acl::NONE),
    absent("ts.read", Flags::READONLY, Acl::NONE),
    absent("ts.revrange", Flags::READONLY, Acl::NONE),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::COMMANDS;
    use crate::commands::testing::{Harness, check_with};
    use crate::server::command::RenameError;

    #[test]
    fn names_are_sorted_and_of_no_other_command() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        let groups = crate::commands::ALL.iter().flat_map(|group| group.iter());
        let present: HashSet<&str> = groups
            .flat_map(|spec| std::iter::once(spec).chain(spec.subcommands).map(|spec| spec.name))
            .collect();
        for spec in COMMANDS {
            assert!(!present.contains(spec.name), "{} is there", spec.name);
            if let Some((container, _)) = spec.name.split_once('|') {
                let known = |name: &str| COMMANDS.iter().any(|spec| spec.name == name);
                assert!(present.contains(container) || known(container), "{}", spec.name);
            }
        }
    }

    #[test]
    fn rules_about_them_are_kept() {
        let mut harness = Harness::default();
        let commands = harness.server.commands.len();
        assert!(harness.server.commands.find(b"arget").is_none());
        assert_eq!(harness.server.commands.rename(b"ARGET", b""), Ok(()));
        assert_eq!(harness.server.commands.rename(b"ArGet", b"secret"), Ok(()));
        assert_eq!(harness.server.commands.rename(b"arget", b"get"), Err(RenameError::NameIsTaken));
        assert_eq!(harness.server.commands.rename(b"config|x", b""), Err(RenameError::NoSuchCommand));
        assert_eq!(harness.server.commands.len(), commands);
        check_with(
            &mut harness,
            r#"
            ACL SETUSER u on nopass +@all -arget -cluster|reset +psync +slaveof -@stream +cluster|nodes ~*
            ACL SETUSER v +psync -xgroup|create +client|capa
            ACL SETUSER v +nosuch
            ACL LIST
            ACL DRYRUN u arget x
            ARGET x
            AUTH u x
            GET k
            "#,
            r#"
            OK
            OK
            (error) ERR Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL
            1) "user default on nopass sanitize-payload ~* &* +@all"
            2) "user u on nopass sanitize-payload ~* resetchannels +@all -arget -cluster|reset +psync +slaveof -@stream +cluster|nodes"
            3) "user v off sanitize-payload resetchannels -@all +psync -xgroup|create +client|capa"
            (error) ERR Command 'arget' not found
            (error) ERR unknown command 'ARGET', with args beginning with: 'x'
            OK
            (nil)
            "#,
        );
    }
}
