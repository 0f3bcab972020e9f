//! Request paths: their canonical form, and the templates they are matched by.
//!
//! Two spellings of one resource have one canonical form (RFC 3986 §6.2.2), so
//! `%7Ecurrent` is `~current`. A path that another server could read as a
//! different resource (dot segments, an encoded slash, a backslash, a leading
//! `//`) is refused rather than repaired. Pure: no I/O, no clock.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Why a request target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// It does not begin with a slash, such as `*` or an authority.
    NotAbsolute,
    /// It begins with `//`, which some servers read as a host.
    LeadingDoubleSlash,
    /// It has a `.` or `..` segment, plain or encoded.
    DotSegment,
    /// It has a backslash or an encoded slash or backslash.
    EncodedSlash,
    /// A `%` is not followed by two hexadecimal digits.
    BadEscape,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the request target is not a path; send a path such as /v2/...",
            Self::LeadingDoubleSlash => "the path begins with //; send it with one slash",
            Self::DotSegment => "the path has a . or .. segment; send the resolved path",
            Self::EncodedSlash => "the path has an encoded slash or a backslash",
            Self::BadEscape => "the path has a % that two hexadecimal digits do not follow",
        })
    }
}

/// Brings `path` into its canonical form: escapes of unreserved characters are
/// decoded, all others are written in upper case.
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

/// Normalises the escapes of a query, whose order and content are kept. Escapes
/// that are none stay as they are: a query is Alexa's to judge.
#[must_use]
pub fn canonical_query(query: &str) -> Cow<'_, str> {
    decode_unreserved(query).unwrap_or(Cow::Borrowed(query))
}

/// A path for logs: segments that name things of the API stay, every other one,
/// which may be the id of a device, a user or a list, becomes `{}`.
#[must_use]
pub fn redact(path: &str) -> String {
    const DEEPEST: usize = 8;
    let segments = path.split('/').skip(1).take(DEEPEST);
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

/// A path in which a segment `{name}` stands for any one non-empty segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    text: Arc<str>,
    /// The text before the first placeholder, which is all of it for most.
    literal_bytes: usize,
}

impl PathTemplate {
    /// Reads a template such as `/v2/devices/{deviceId}/settings/System.timeZone`.
    ///
    /// # Errors
    /// Says in words what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let canonical = canonical(text).map_err(|bad| bad.to_string())?;
        if text.contains(['?', '#', ' ']) {
            return Err("a template is a path without query, fragment or space".into());
        }
        for segment in canonical.split('/').skip(1) {
            let placeholder = segment.starts_with('{') && segment.ends_with('}');
            if segment.contains(['{', '}']) && !placeholder {
                return Err(format!(
                    "a placeholder is a whole segment, unlike '{segment}'"
                ));
            }
        }
        Ok(Self {
            literal_bytes: canonical.find('{').unwrap_or(canonical.len()),
            text: canonical.into(),
        })
    }

    /// The template as written; safe to log, for it holds no ids.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same, to be kept.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// Whether the canonical path `path` is an instance of this template.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        if self.literal_bytes == self.text.len() {
            return *path == *self.text;
        }
        let (literal, rest) = self.text.split_at(self.literal_bytes);
        let Some(path) = path.strip_prefix(literal) else {
            return false;
        };
        // A placeholder follows a slash, so both go on with a whole segment.
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
    fn spellings_of_one_resource_are_one_path() {
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
    fn paths_that_could_mean_another_resource_are_refused() {
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
    fn a_path_in_a_log_holds_no_ids() {
        let path = "/v1/users/amzn1.ask.account.AF/skills/~current/x y";
        assert_eq!(redact(path), "/v1/users/{}/skills/~current/{}");
        assert_eq!(redact("/v1/directives"), "/v1/directives");
        assert_eq!(redact(&"/a".repeat(99)), "/{}".repeat(8));
    }

    #[test]
    fn a_placeholder_is_one_segment() {
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
    fn templates_that_make_no_sense_are_refused() {
        for text in ["v2", "/a{b}", "/a?b", "/a/../b"] {
            assert!(PathTemplate::parse(text).is_err(), "{text}");
        }
    }
}
