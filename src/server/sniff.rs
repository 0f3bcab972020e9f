//! Which protocol a connection speaks, from its first bytes (pure).

/// The first bytes of an HTTP/2 connection: RFC 9113, section 3.4.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes of a request say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sniffed {
    /// Too few bytes to tell.
    Incomplete,
    Http1,
    Http2,
}

/// Sniffs the first bytes of a request, without empty lines before it. Only the first
/// request of a connection can be HTTP/2.
pub(super) fn sniff(bytes: &[u8], is_first: bool) -> Sniffed {
    match bytes {
        // A CR alone may be half of an empty line.
        b"" | b"\r" => Sniffed::Incomplete,
        PREFACE if is_first => Sniffed::Http2,
        _ if is_first && PREFACE.starts_with(bytes) => Sniffed::Incomplete,
        _ => Sniffed::Http1,
    }
}

/// The length of the empty lines at the start of these bytes, which a server ignores
/// before a request: RFC 9112, section 2.2. A CR counts only before its LF.
pub(super) fn empty_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\n").or(rest.strip_prefix(b"\r\n")) {
        rest = after;
    }
    bytes.len() - rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_preface_at_the_start_is_http_2() {
        for length in 0..PREFACE.len() {
            assert_eq!(sniff(&PREFACE[..length], true), Sniffed::Incomplete);
        }
        assert_eq!(sniff(PREFACE, true), Sniffed::Http2);
        assert_eq!(sniff(PREFACE, false), Sniffed::Http1);
        assert_eq!(sniff(b"PRI * HTTP/1.1", true), Sniffed::Http1);
        assert_eq!(sniff(b"P", false), Sniffed::Http1);
    }

    #[test]
    fn a_carriage_return_is_an_empty_line_only_with_its_line_feed() {
        for (bytes, length) in [
            (&b""[..], 0),
            (b"\n\r\nGET", 3),
            (b"\r\n\rGET", 2),
            (b"\r\n\r", 2),
            (b"\r\r\n", 0),
        ] {
            assert_eq!(empty_lines(bytes), length, "{bytes:?}");
        }
    }
}
