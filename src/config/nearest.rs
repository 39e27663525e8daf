//! Which directive somebody meant who misspelled its name.
//!
//! The distance of two names is the number of letters that are inserted, left out, exchanged for others, or swapped
//! with their neighbours, to make one from the other ("optimal string alignment", after Damerau).

use super::{foreign, table};

/// Directives that are not parameters.
const OTHERS: [&str; 5] = ["include", "user", "rename-command", "sentinel", "loadmodule"];

/// Names longer than this resemble none.
const MAX_LEN: usize = 64;

/// The directive whose name is the nearest to `name`, in any letter case; `None` if none is near: at most a third of
/// the letters may differ. Of several, parameters come first, in the order of their table.
pub fn nearest(name: &[u8]) -> Option<&'static str> {
    if name.len() > MAX_LEN {
        return None;
    }
    // Names with `_` are a frequent mistake, and one letter is soon misspelled besides.
    let name: Vec<u8> =
        name.iter().map(|&byte| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }).collect();
    let parameters = table::params().filter(|param| !param.hidden).flat_map(|param| param.names());
    let known = parameters.chain(OTHERS).chain(foreign::names());
    let best = known.map(|known| (distance(&name, known.as_bytes()), known)).min_by_key(|(far, _)| *far)?;
    (best.0 <= name.len() / 3).then_some(best.1)
}

/// O(length of `a` × length of `b`).
fn distance(a: &[u8], b: &[u8]) -> usize {
    // Row `i` has the distances of the first `i` letters of `a` from each beginning of `b`.
    let mut two_above = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let exchanged = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = exchanged.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(two_above[j - 2] + 1);
            }
        }
        two_above = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_letters() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("port", "port", 0),
            ("prot", "port", 1),
            ("pport", "port", 1),
            ("bind", "bond", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
            assert_eq!(distance(b.as_bytes(), a.as_bytes()), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_misspelled_name_is_recognised_and_another_word_is_not() {
        for (wrong, right) in [
            ("maxmemroy", Some("maxmemory")),
            ("MaxMemory_Policy", Some("maxmemory-policy")),
            ("append-only", Some("appendonly")),
            ("renamecommand", Some("rename-command")),
            ("import-mod", Some("import-mode")),
            ("x", None),
            ("", None),
            ("listen-on-every-interface", None),
        ] {
            assert_eq!(nearest(wrong.as_bytes()), right, "{wrong}");
        }
        assert_eq!(nearest(&[b'a'; 1 << 20]), None);
    }
}
