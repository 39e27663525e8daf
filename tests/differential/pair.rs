//! A connection to each of two servers.

use spinel::resp::request::write_request;
use spinel::stdx::quote;

use crate::reply::{elements, normalise};
use crate::support::Client;

pub fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// Sends a request to both servers, first to Spinel, and waits for both replies.
pub fn both((a, b): &mut (Client, Client), args: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let mut request = Vec::new();
    write_request(&mut request, args.iter().map(Vec::as_slice));
    let sent = a.send(&request).and_then(|()| b.send(&request));
    sent.unwrap_or_else(|error| panic!("{error} when sending {}", shown(args)));
    let ours = a.reply().unwrap_or_else(|error| panic!("Spinel: {error} after {}", shown(args)));
    let theirs = b.reply().unwrap_or_else(|error| panic!("the other server: {error} after {}", shown(args)));
    (ours, theirs)
}

pub fn shown(args: &[Vec<u8>]) -> String {
    args.iter().map(|arg| quote::repr(arg)).collect::<Vec<_>>().join(" ")
}

/// Digests of all data, after due keys have been accessed and thereby removed.
pub fn digests(clients: &mut (Client, Client)) -> (Vec<u8>, Vec<u8>) {
    for db in 0..16 {
        both(clients, &words(&["SELECT", &db.to_string()]));
        both(clients, &words(&["SCAN", "0", "COUNT", "100000"]));
    }
    both(clients, &words(&["DEBUG", "DIGEST"]))
}

/// Keys whose values, or whose having an expiry, differ, with what each server reports. Different digests do not
/// suffice, because Redis 8 and Valkey 9 format scores differently in them.
pub fn differing_keys(clients: &mut (Client, Client)) -> String {
    let mut out = String::new();
    let bytes = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Vec<_>>();
    for db in 0..16 {
        both(clients, &words(&["SELECT", &db.to_string()]));
        let (x, y) = both(clients, &words(&["KEYS", "*"]));
        let mut keys: Vec<Vec<u8>> =
            elements(&x).into_iter().chain(elements(&y)).map(<[u8]>::to_vec).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let start = key.iter().position(|&b| b == b'\n').expect("a bulk string") + 1;
            let key = &key[start..key.len() - 2];
            let digests = both(clients, &bytes(&[b"DEBUG", b"DIGEST-VALUE", key]));
            let times = both(clients, &bytes(&[b"TTL", key]));
            if digests.0 == digests.1 && (times.0 == b":-1\r\n") == (times.1 == b":-1\r\n") {
                continue;
            }
            const NAMES: [&str; 5] = ["get", "lrange", "smembers", "hgetall", "zrange"];
            let views: [&[&[u8]]; 5] = [
                &[b"GET", key],
                &[b"LRANGE", key, b"0", b"-1"],
                &[b"SMEMBERS", key],
                &[b"HGETALL", key],
                &[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"],
            ];
            let mut differs = (times.0 == b":-1\r\n") != (times.1 == b":-1\r\n");
            let mut shown =
                format!("  spinel {}\n  theirs {}\n", quote::repr(&times.0), quote::repr(&times.1));
            for (name, view) in NAMES.into_iter().zip(views) {
                let (x, y) = both(clients, &bytes(view));
                differs |= normalise(name, &[], &x) != normalise(name, &[], &y);
                if !x.starts_with(b"-WRONGTYPE") {
                    shown += &format!("  spinel {}\n  theirs {}\n", quote::repr(&x), quote::repr(&y));
                }
            }
            if differs {
                out += &format!("database {db}, key {}\n{shown}", quote::repr(key));
            }
        }
    }
    out
}
