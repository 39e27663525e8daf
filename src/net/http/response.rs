//! Responses.

use std::sync::Arc;

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// Other headers, each with its end of line.
    pub headers: Arc<str>,
    /// The body.
    pub body: Arc<[u8]>,
}

impl Response {
    /// A response without further headers.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Arc<[u8]>>) -> Response {
        Response { status, content_type, headers: "".into(), body: body.into() }
    }

    /// A response that only says what its status means.
    pub fn plain(status: u16) -> Response {
        let text = format!("{}\n", reason(status)).into_bytes();
        let mut response = Response::new(status, "text/plain; charset=utf-8", text);
        if status == 405 {
            response.headers = "Allow: GET, HEAD\r\n".into();
        }
        response
    }

    /// The bytes to send.
    pub fn encode(&self, head_only: bool, keep_alive: bool) -> Vec<u8> {
        let Response { status, content_type, headers, body } = self;
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let mut out = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{headers}\r\n",
            reason(*status),
            body.len()
        )
        .into_bytes();
        if !head_only {
            out.extend_from_slice(body);
        }
        out
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_its_length_with_or_without_its_body() {
        let response = Response::plain(405);
        let text = String::from_utf8(response.encode(false, false)).expect("text");
        assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{text}");
        assert!(text.contains("Allow: GET, HEAD\r\n") && text.contains("Connection: close\r\n"));
        assert!(text.contains("Content-Length: 19\r\n") && text.ends_with("\r\n\r\nMethod Not Allowed\n"));
        let head = String::from_utf8(response.encode(true, true)).expect("text");
        assert!(head.contains("Content-Length: 19\r\n") && head.ends_with("\r\n\r\n"));
    }
}
