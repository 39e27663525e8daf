//! Normalised replies, in which two correct replies are equal.

/// Commands whose replies have no order and are compared as sets.
pub const UNORDERED: &[&str] = &["keys", "smembers", "sinter", "sunion", "sdiff", "hkeys", "hvals", "spop"];

/// Commands whose replies depend on chance; only the form is compared.
pub const RANDOM: &[&str] = &["randomkey", "srandmember", "hrandfield", "zrandmember"];

/// Length of the RESP value at the beginning of `bytes`, if it is complete.
pub fn length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|w| w == b"\r\n")? + 2;
    let number =
        std::str::from_utf8(&bytes[1..end - 2]).ok().and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
    let n = number.max(0) as usize;
    let values = match bytes[0] {
        b'$' | b'=' if number >= 0 => return (bytes.len() >= end + n + 2).then_some(end + n + 2),
        b'*' | b'~' | b'>' => n,
        b'%' => 2 * n,
        _ => 0,
    };
    (0..values).try_fold(end, |at, _| Some(at + length(&bytes[at..])?))
}

/// The elements of a RESP value.
pub fn elements(reply: &[u8]) -> Vec<&[u8]> {
    let mut at = reply.windows(2).position(|w| w == b"\r\n").expect("a whole reply") + 2;
    let mut out = Vec::new();
    while at < reply.len() {
        let len = length(&reply[at..]).expect("a whole reply");
        out.push(&reply[at..at + len]);
        at += len;
    }
    out
}

/// Index of the argument that is a cursor.
fn cursor_at(name: &str) -> Option<usize> {
    match name {
        "scan" => Some(1),
        "sscan" | "hscan" | "zscan" => Some(2),
        _ => None,
    }
}

/// Whether this reply ends a scan.
pub fn is_last(reply: &[u8]) -> bool {
    reply.starts_with(b"*2\r\n$1\r\n0\r\n")
}

/// The reply in a form in which two correct replies are equal.
pub fn normalise(name: &str, args: &[Vec<u8>], reply: &[u8]) -> Vec<u8> {
    let aggregate = matches!(reply[0], b'*' | b'~' | b'%');
    if UNORDERED.contains(&name) && aggregate {
        let mut items = elements(reply);
        items.sort();
        return items.concat();
    }
    if name == "hgetall" && aggregate {
        let items = elements(reply);
        let mut pairs: Vec<_> = items.chunks(2).collect();
        pairs.sort();
        return pairs.concat().concat();
    }
    if RANDOM.contains(&name) {
        let end = reply.iter().position(|&b| b == b'\r').unwrap_or(reply.len());
        let null = reply[1..].starts_with(b"-1");
        return if reply[0] == b'$' && !null { b"$".to_vec() } else { reply[..end].to_vec() };
    }
    // A cursor is specific to the server, and the elements of a scan have no order. But a scan that is complete in
    // one call has shown everything.
    if let Some(at) = cursor_at(name).filter(|_| aggregate) {
        if !is_last(reply) || args.get(at).is_none_or(|cursor| cursor != b"0") {
            return b"scanned".to_vec();
        }
        let both = elements(reply);
        let items = elements(both[1]);
        let number = |score: &[u8]| -> Option<f64> {
            std::str::from_utf8(score).ok()?.split_ascii_whitespace().last()?.parse().ok()
        };
        let mut parts: Vec<Vec<u8>> = match name {
            // With NOVALUES there are fields only, with NOSCORES members.
            "hscan" if !args.iter().any(|arg| arg.eq_ignore_ascii_case(b"NOVALUES")) => {
                items.chunks(2).map(|pair| pair.concat()).collect()
            }
            "zscan" if !args.iter().any(|arg| arg.eq_ignore_ascii_case(b"NOSCORES")) => items
                .chunks(2)
                .map(|pair| [pair[0], &number(pair[1]).expect("a score").to_be_bytes()].concat())
                .collect(),
            _ => items.iter().map(|item| item.to_vec()).collect(),
        };
        parts.sort();
        // While a table is being resized, elements may be repeated.
        parts.dedup();
        return parts.concat();
    }
    reply.to_vec()
}
