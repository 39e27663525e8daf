//! Which version this is: Spinel's own, the one of Redis that it stands in for, and the build.

use crate::stdx::alloc;

/// Spinel's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the program was built from, in eight hexadecimal digits; zeros if it is not known.
pub const COMMIT: &str = env!("SPINEL_COMMIT");

/// `1` if the sources differed from the commit, otherwise `0`.
pub const MODIFIED: &str = env!("SPINEL_MODIFIED");

/// The version of Redis whose behaviour is promised to clients, and which they are told.
pub const REDIS_VERSION: &str = "7.2.4";

/// Tells builds apart: a hash of our version and of the machine built for.
pub const BUILD_ID: u64 = {
    let text = concat!(env!("CARGO_PKG_NAME"), "-", env!("CARGO_PKG_VERSION")).as_bytes();
    let machine = std::env::consts::ARCH.as_bytes();
    // FNV-1a, by Fowler, Noll and Vo.
    let (mut hash, mut i) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while i < text.len() + machine.len() {
        let byte = if i < text.len() { text[i] } else { machine[i - text.len()] };
        hash = (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
};

/// The version line without the program's name, in the form that scripts take apart (` v=…`), with the version of the
/// server that this one stands in for.
pub fn version_text(stands_in_for: &str) -> String {
    let bits = usize::BITS;
    format!(
        "v={stands_in_for} sha={COMMIT}:{MODIFIED} malloc={} bits={bits} build={BUILD_ID:016x} spinel={VERSION}",
        alloc::NAME
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_line_begins_and_ends_as_scripts_expect() {
        assert!(version_text(REDIS_VERSION).starts_with(&format!("v=7.2.4 sha={COMMIT}:")));
        assert!(COMMIT.len() == 8 && COMMIT.bytes().all(|byte| byte.is_ascii_hexdigit()), "{COMMIT}");
        assert!(["0", "1"].contains(&MODIFIED));
        assert!(
            version_text("8.2.3").starts_with("v=8.2.3 sha=")
                && version_text(REDIS_VERSION).ends_with(concat!(" spinel=", env!("CARGO_PKG_VERSION")))
        );
    }
}
