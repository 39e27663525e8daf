//! Requests, of which only the first line and a few headers matter.

/// Bytes of the longest request, without a body: nobody has a reason to send one.
pub const MAX_BYTES: usize = 8 << 10;

/// Headers of the request with the most.
const MAX_HEADERS: usize = 64;

/// A request that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether only the head of the response is wanted.
    pub head: bool,
    /// The path, without a query.
    pub path: String,
    /// Whether the connection may go on.
    pub keep_alive: bool,
}

/// What the bytes received so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a request.
    Incomplete,
    /// A request, and its length in bytes.
    Request(Request, usize),
    /// A request that is answered with this status, after which the connection ends.
    Refused(u16),
}

/// Reads the request at the beginning of `bytes`. O(bytes).
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let window = &bytes[..bytes.len().min(MAX_BYTES)];
    let len = match request.parse(window) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_BYTES => return Parsed::Refused(431),
        Ok(httparse::Status::Partial) => return Parsed::Incomplete,
        Err(httparse::Error::TooManyHeaders) => return Parsed::Refused(431),
        Err(_) => return Parsed::Refused(400),
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Parsed::Refused(400);
    };
    let (mut hosts, mut has_body, mut close) = (0, false, version == 0);
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("host") {
            hosts += 1;
        } else if is("transfer-encoding") || is("content-length") && header.value != b"0" {
            has_body = true;
        } else if is("connection") {
            let mut options = header.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            close |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
        }
    }
    if !matches!(method, "GET" | "HEAD") {
        return Parsed::Refused(405);
    }
    if has_body || hosts > 1 || version == 1 && hosts == 0 {
        return Parsed::Refused(400);
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if !path.starts_with('/') {
        return Parsed::Refused(400);
    }
    let request = Request { head: method == "HEAD", path: path.into(), keep_alive: !close };
    Parsed::Request(request, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    fn get(path: &str, keep_alive: bool, len: usize) -> Parsed {
        Parsed::Request(Request { head: false, path: path.into(), keep_alive }, len)
    }

    #[test]
    fn requests_are_read_and_others_refused() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", get("/", true, 27)),
            (
                "GET /metrics?x=1 HTTP/1.1\r\nhost: a\r\nConnection: Foo, Close\r\n\r\n",
                get("/metrics", false, 62),
            ),
            ("GET /x HTTP/1.0\r\n\r\n", get("/x", false, 19)),
            ("GET / HTTP/1.1\r\nHost: a\r\n", Parsed::Incomplete),
            ("", Parsed::Incomplete),
            ("GET / HTTP/1.1\r\n\r\n", Parsed::Refused(400)),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Parsed::Refused(400)),
            ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", Parsed::Refused(400)),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Parsed::Refused(400)),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", Parsed::Refused(400)),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Parsed::Refused(400)),
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", Parsed::Refused(405)),
            ("*1\r\n$4\r\nPING\r\n", Parsed::Refused(400)),
            ("GET / HTTP/2.0\r\n\r\n", Parsed::Refused(400)),
            ("\0\0\0", Parsed::Refused(400)),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
        let Parsed::Request(request, _) = parse(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n") else {
            panic!("a request")
        };
        assert!(request.head && request.keep_alive);
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(MAX_BYTES));
        assert_eq!(parse(long.as_bytes()), Parsed::Refused(431));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(parse(many.as_bytes()), Parsed::Refused(431));
    }

    /// Neither random bytes nor a request with random changes make the parser panic or read beyond the bytes.
    #[test]
    fn any_bytes_are_judged() {
        let mut rng = Rng::new(21);
        let valid = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n";
        for _ in 0..20_000 {
            let mut bytes = valid.to_vec();
            for _ in 0..rng.below(4) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.below(256) as u8;
            }
            bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
            if let Parsed::Request(_, len) = parse(&bytes) {
                assert!(len <= bytes.len());
            }
        }
    }
}
