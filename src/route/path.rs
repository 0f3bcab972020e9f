//! Request paths: their canonical form, and templates that match them.
//!
//! All spellings of one resource have the same canonical form (RFC 3986 §6.2.2):
//! `%7Ecurrent` is `~current`. A path that another server could read as a different
//! resource (dot segments, an encoded slash, a backslash, a leading `//`) is refused,
//! not repaired. Pure: no I/O, no clock.

use std::borrow::Cow;
use std::sync::Arc;

/// Why a request target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It does not begin with a slash, such as `*` or an authority.
    #[error("the request target is not a path; send a path such as /v2/...")]
    NotAbsolute,
    /// It begins with `//`, which some servers read as a host.
    #[error("the path begins with //; send it with one slash")]
    LeadingDoubleSlash,
    /// It has a `.` or `..` segment, plain or encoded.
    #[error("the path has a . or .. segment; send the resolved path")]
    DotSegment,
    /// It has a backslash, or an encoded slash or backslash.
    #[error("the path has an encoded slash or a backslash")]
    EncodedSlash,
    /// It has a `%` without two hexadecimal digits after it.
    #[error("the path has a % that is not followed by two hexadecimal digits")]
    BadEscape,
}

/// Returns the canonical form of `path`: escapes of unreserved characters are decoded,
/// all others are written in upper case.
///
/// # Errors
/// See [`BadPath`].
pub fn canonical(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') {
        return Err(BadPath::NotAbsolute);
    }
    if path.starts_with("//") {
        return Err(BadPath::LeadingDoubleSlash);
    }
    let path = decode_unreserved(path)?;
    let bytes = path.as_bytes();
    let is_escape = |at: usize, digits: &[u8]| bytes[at + 1..].starts_with(digits);
    for at in memchr::memchr2_iter(b'\\', b'%', bytes) {
        if bytes[at] == b'\\' || is_escape(at, b"2F") || is_escape(at, b"5C") {
            return Err(BadPath::EncodedSlash);
        }
    }
    let mut dots = memchr::memchr_iter(b'.', bytes);
    let begins_segment = |at: usize| at > 0 && bytes[at - 1] == b'/';
    if dots.any(begins_segment) && path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(BadPath::DotSegment);
    }
    Ok(path)
}

/// Normalises the escapes of a query and keeps its order. A query with a malformed
/// escape is returned unchanged; Alexa may reject it.
#[must_use]
pub fn canonical_query(query: &str) -> Cow<'_, str> {
    decode_unreserved(query).unwrap_or(Cow::Borrowed(query))
}

/// A path for logs. Segments other than the API's own words become `{}`, because they
/// may be ids of devices, users or lists.
#[must_use]
pub fn redact(path: &str) -> String {
    const MAX_SEGMENTS: usize = 8;
    let segments = path.split('/').skip(1).take(MAX_SEGMENTS);
    segments.fold(String::new(), |out, segment| {
        let known = segment.is_empty() || API_WORDS.contains(&segment);
        out + "/" + if known { segment } else { "{}" }
    })
}

/// The literal path segments of the Alexa APIs.
const API_WORDS: [&str; 34] = [
    "v0",
    "v1",
    "v2",
    "v3",
    "~current",
    "accounts",
    "address",
    "alerts",
    "auth",
    "catalog",
    "countryAndPostalCode",
    "datastore",
    "devices",
    "directives",
    "events",
    "householdlists",
    "inSkillProducts",
    "items",
    "messages",
    "name",
    "o2",
    "persons",
    "proactiveEvents",
    "profile",
    "reminders",
    "settings",
    "skillmessages",
    "skills",
    "stages",
    "timers",
    "token",
    "users",
    "commands",
    "development",
];

fn decode_unreserved(text: &str) -> Result<Cow<'_, str>, BadPath> {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let escape = rest.get(at + 1..at + 3).ok_or(BadPath::BadEscape)?;
        if !escape.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BadPath::BadEscape);
        }
        match u8::from_str_radix(escape, 16) {
            Ok(byte) if is_unreserved(byte) => out.push(char::from(byte)),
            _ => {
                out.push('%');
                out.push_str(&escape.to_ascii_uppercase());
            }
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// A path in which a segment `{name}` matches any single, non-empty segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    text: Arc<str>,
    /// The length of the text before the first placeholder.
    literal_bytes: usize,
}

impl PathTemplate {
    /// Parses a template such as `/v2/devices/{deviceId}/settings/System.timeZone`.
    ///
    /// # Errors
    /// A message for the configuration's author.
    pub fn parse(text: &str) -> Result<Self, String> {
        let canonical = canonical(text).map_err(|bad| bad.to_string())?;
        if text.contains(['?', '#', ' ']) {
            return Err("must be a path without query, fragment or space".into());
        }
        for segment in canonical.split('/').skip(1) {
            let placeholder = segment.starts_with('{') && segment.ends_with('}');
            if segment.contains(['{', '}']) && !placeholder {
                return Err(format!(
                    "a placeholder must be a whole segment, unlike '{segment}'"
                ));
            }
        }
        Ok(Self {
            literal_bytes: canonical.find('{').unwrap_or(canonical.len()),
            text: canonical.into(),
        })
    }

    /// The template's text. It holds no ids, so it may be logged.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The template's text, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// Whether the canonical path `path` matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        if self.literal_bytes == self.text.len() {
            return *path == *self.text;
        }
        let (literal, rest) = self.text.split_at(self.literal_bytes);
        let Some(path) = path.strip_prefix(literal) else {
            return false;
        };
        // A placeholder follows a slash, so both continue with a whole segment.
        let (mut ours, mut theirs) = (rest.split('/'), path.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) if a.starts_with('{') && !b.is_empty() => {}
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_resource_have_one_canonical_form() {
        for path in [
            "/v2/persons/~current/profile/name",
            "/v2/persons/%7Ecurrent/profile/name",
            "/v2/persons/%7ecurrent/profile/n%61me",
        ] {
            assert_eq!(
                canonical(path).unwrap(),
                "/v2/persons/~current/profile/name"
            );
        }
        assert_eq!(canonical("/a%c3%a9").unwrap(), "/a%C3%A9");
    }

    #[test]
    fn paths_that_could_name_another_resource_are_refused() {
        for (path, why) in [
            ("*", BadPath::NotAbsolute),
            ("", BadPath::NotAbsolute),
            ("//evil.example/v2", BadPath::LeadingDoubleSlash),
            ("/v2/../v1", BadPath::DotSegment),
            ("/v2/%2e%2E/v1", BadPath::DotSegment),
            ("/v2/.", BadPath::DotSegment),
            ("/v2/a%2fb", BadPath::EncodedSlash),
            ("/v2/a%5Cb", BadPath::EncodedSlash),
            ("/v2/a\\b", BadPath::EncodedSlash),
            ("/v2/%", BadPath::BadEscape),
            ("/v2/%zz", BadPath::BadEscape),
            ("/v2/%+1", BadPath::BadEscape),
            ("/v2/%é", BadPath::BadEscape),
        ] {
            assert_eq!(canonical(path), Err(why), "{path}");
        }
    }

    #[test]
    fn a_double_escape_is_decoded_once() {
        assert_eq!(canonical("/a%252Fb").unwrap(), "/a%252Fb");
    }

    #[test]
    fn a_redacted_path_holds_no_ids() {
        let path = "/v1/users/amzn1.ask.account.AF/skills/~current/x y";
        assert_eq!(redact(path), "/v1/users/{}/skills/~current/{}");
        assert_eq!(redact("/v1/directives"), "/v1/directives");
        assert_eq!(redact(&"/a".repeat(99)), "/{}".repeat(8));
    }

    #[test]
    fn a_placeholder_matches_one_segment() {
        let template = PathTemplate::parse("/v2/devices/{deviceId}/settings/x").unwrap();
        assert!(template.matches("/v2/devices/amzn1.ask.device.A/settings/x"));
        for path in [
            "/v2/devices//settings/x",
            "/v2/devices/a/b/settings/x",
            "/v2/devices/a/settings",
            "/v2/devices/a/settings/x/",
        ] {
            assert!(!template.matches(path), "{path}");
        }
    }

    #[test]
    fn malformed_templates_are_refused() {
        for text in ["v2", "/a{b}", "/a?b", "/a/../b"] {
            assert!(PathTemplate::parse(text).is_err(), "{text}");
        }
    }
}
