//! The outside world: what waits for readiness, and the sockets that become ready. Nothing in here knows a
//! command or a key.
#![warn(missing_docs)]
pub mod descriptors;
pub mod http;
pub mod io;
pub mod link;
pub mod listener;
pub mod peer;
pub mod poll;
pub mod signals;
pub mod stream;
pub mod threads;
pub mod tls;

/// The system's text for an error (`Address already in use`), without the number that `io::Error` adds.
pub fn error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(code) => text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text).to_owned(),
        // A failed host lookup has the resolver's text behind a colon.
        None => text.rsplit_once(": ").map_or(text.as_str(), |(_, reason)| reason).to_owned(),
    }
}
