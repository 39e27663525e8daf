//! What the server that this one stands in for has as modules.

use crate::config::value::CompatVersion;
use crate::resp::{Replied, Reply};

/// The module that `version` has: name, version, and its line in INFO.
pub(super) fn module_of(version: CompatVersion) -> Option<(&'static str, i64, &'static str)> {
    match version {
        CompatVersion::Redis8_2 => Some((
            "vectorset",
            1,
            "module:name=vectorset,ver=1,api=1,filters=0,usedby=[],using=[],\
             options=[handle-io-errors|handle-repl-async-load]",
        )),
        CompatVersion::Redis7_2 | CompatVersion::Valkey9_1 => None,
    }
}

/// Writes the list of modules, as MODULE LIST and HELLO show it.
pub(super) fn write_modules(reply: &mut Reply<'_>, version: CompatVersion) -> Replied {
    let Some((name, number, _)) = module_of(version) else { return reply.array(0) };
    reply.array(1);
    reply.map(4);
    reply.bulk(b"name");
    reply.bulk(name.as_bytes());
    reply.bulk(b"ver");
    reply.int(number);
    reply.bulk(b"path");
    reply.bulk(b"");
    reply.bulk(b"args");
    reply.array(0)
}
