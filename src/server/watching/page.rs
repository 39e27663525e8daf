//! The page that draws the metrics: one file without anything from elsewhere.
//!
//! A browser runs only the script and applies only the styles whose digests the response names, and connects only to
//! where the page came from.

use sha2::{Digest, Sha256};

use crate::net::http::response::Response;

const HTML: &str = include_str!("page.html");

/// The response with the page.
pub(super) fn page() -> Response {
    let mut response = Response::new(200, "text/html; charset=utf-8", HTML.as_bytes());
    let (script, style) = (digest(between("<script>", "</script>")), digest(between("<style>", "</style>")));
    response.headers = format!(
        "Content-Security-Policy: default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
         Referrer-Policy: no-referrer\r\n"
    )
    .into();
    response
}

/// What stands between two tags of the page.
fn between(start: &str, end: &str) -> &'static str {
    let (_, rest) = HTML.split_once(start).expect("the page has each tag");
    rest.split_once(end).expect("the page closes each tag").0
}

/// The SHA-256 digest of a text, in base64.
fn digest(text: &str) -> String {
    base64(&Sha256::digest(text.as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_letters() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let outside = HTML.replace("http://www.w3.org/2000/svg", "");
        for word in [
            "http:",
            "https:",
            "//cdn",
            "src=",
            "<link",
            "@import",
            "url(",
            " style=",
            "innerHTML",
            " onclick",
        ] {
            assert!(!outside.contains(word), "{word}");
        }
        assert_eq!((HTML.matches("<script").count(), HTML.matches("<style").count()), (1, 1));
        let headers = page().headers;
        assert!(headers.contains("default-src 'none'") && !headers.contains("unsafe"));
    }
}
