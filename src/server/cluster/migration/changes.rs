//! What changes in slots that are being moved away follows their keys.

use crate::cluster::migration::progress::Place;
use crate::keyspace::Sink;
use crate::resp::Args;
use crate::resp::request::Span;
use crate::server::Server;
use crate::server::command::{Commands, Spec};
use crate::stdx::num;

/// A request that is passed on, with its keys.
struct Request<'a> {
    db: usize,
    bytes: &'a [u8],
    keys: Vec<&'a [u8]>,
}

impl Server {
    /// Sends what the unit changes to the targets of the slots that it is about.
    pub(in crate::server) fn append_to_migrations(&mut self) {
        let Server { cluster: Some(cluster), execution, commands, keyspace, .. } = self else { return };
        let mut exports =
            cluster.migrations.exports.iter_mut().filter(|export| export.machine.streams()).peekable();
        if exports.peek().is_none() {
            return;
        }
        let mut requests = Vec::new();
        for (db, bytes) in execution.unit.parts_for(Sink::Migrations) {
            read_all(db as usize, bytes, commands, &mut requests);
        }
        for export in exports {
            let progress = &export.progress;
            let place = |key: &[u8]| progress.place(key);
            // What one unit changes in the slot that is being sent is sent request by request, or key by key.
            let open = requests.iter().flat_map(|request| &request.keys).any(|key| place(key) == Place::Open);
            let as_it_is = |request: &Request<'_>| {
                request
                    .keys
                    .iter()
                    .all(|key| place(key) == Place::Sent && !(open && progress.is_current(key)))
            };
            let (sent, changed): (Vec<&Request<'_>>, Vec<&Request<'_>>) = requests
                .iter()
                .filter(|request| !request.keys.is_empty())
                .partition(|request| as_it_is(request));
            for request in sent {
                export.push(request.db, request.bytes);
            }
            let mut names: Vec<&[u8]> = changed.iter().flat_map(|request| &request.keys).copied().collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                export.send_changed(keyspace, name);
            }
        }
    }
}

/// Reads the requests in `bytes`, which this server has written.
fn read_all<'a>(db: usize, mut bytes: &'a [u8], commands: &Commands, requests: &mut Vec<Request<'a>>) {
    let mut spans = Vec::new();
    while let Some(len) = read(bytes, &mut spans) {
        let (request, rest) = bytes.split_at(len);
        requests.push(Request { db, bytes: request, keys: keys(request, &spans, commands) });
        bytes = rest;
    }
}

fn keys<'a>(request: &'a [u8], spans: &[Span], commands: &Commands) -> Vec<&'a [u8]> {
    let args = Args::new(request, spans, &[]);
    let spec = |id| -> &'static Spec { commands.spec(id) };
    let found = commands.find(args.at(0)).and_then(|id| commands.meant(id, &args)).map(spec);
    let mut keys = Vec::new();
    if let Some(spec) = found {
        spec.each_key(&args, &mut |i, _| {
            if let Some(range) = spans.get(i).and_then(|span| span.range()) {
                keys.extend(request.get(range));
            }
        });
    }
    keys
}

/// Finds the arguments of the request at the start of `bytes`, and its length; `None` at the end.
fn read(bytes: &[u8], spans: &mut Vec<Span>) -> Option<usize> {
    spans.clear();
    let (n, mut at) = header(bytes, 0, b'*')?;
    for _ in 0..n {
        let (len, start) = header(bytes, at, b'$')?;
        spans.push(Span::within(start, len));
        at = start.checked_add(len)?.checked_add(2)?;
    }
    (at <= bytes.len() && n > 0).then_some(at)
}

/// The number behind `marker` at `at`, and where its line ends.
fn header(bytes: &[u8], at: usize, marker: u8) -> Option<(usize, usize)> {
    let line = bytes.get(at..)?.strip_prefix(&[marker])?;
    let end = memchr::memchr(b'\r', line)?;
    let number = usize::try_from(num::parse_i64(&line[..end])?).ok()?;
    Some((number, at + 1 + end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::request::write_request;

    #[test]
    fn requests_are_read_as_they_were_written() {
        let mut bytes = Vec::new();
        for request in
            [&["SET", "a", "1"][..], &["MSET", "a", "1", "b", ""], &["XGROUP", "CREATE", "s", "g", "0"]]
        {
            write_request(&mut bytes, request.iter().map(|word| word.as_bytes()));
        }
        let (mut spans, mut at, mut words) = (Vec::new(), 0, Vec::new());
        while let Some(len) = read(&bytes[at..], &mut spans) {
            let request = &bytes[at..at + len];
            words.push(
                spans.iter().map(|span| span.get(request, &[]).to_vec()).collect::<Vec<_>>().join(&b' '),
            );
            at += len;
        }
        assert_eq!(at, bytes.len());
        assert_eq!(words, [&b"SET a 1"[..], b"MSET a 1 b ", b"XGROUP CREATE s g 0"]);
        for cut in 0..bytes.len() {
            let mut rest = &bytes[..cut];
            while let Some(len) = read(rest, &mut spans) {
                rest = &rest[len..];
            }
        }
        for odd in
            ["*0\r\n", "*1\r\n$-1\r\n", "*9999999999999999999\r\n", "*1\r\n$18446744073709551615\r\n", "x"]
        {
            assert_eq!(read(odd.as_bytes(), &mut spans), None);
        }
    }
}
