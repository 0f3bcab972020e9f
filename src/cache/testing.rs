//! Keys and responses for the tests of the cache.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode};

use super::entry::Entry;
use super::key::CacheKey;
use super::policy::Lifetime;
use super::response::{HeaderTemplates, StoredResponse};
use crate::region::Region;
use crate::token::{BearerToken, DigestKey};

/// The key of a GET with the `n`th token.
pub(super) fn key(digest_key: &DigestKey, n: usize) -> CacheKey {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {n}").parse().unwrap());
    let token = BearerToken::take(&mut headers).unwrap().unwrap();
    let target = PathAndQuery::from_static("/");
    let digest = token.digest(digest_key);
    CacheKey::of(digest_key, Region::Na, &target, &headers, &digest)
}

pub(super) fn keys(count: usize) -> Vec<CacheKey> {
    let digest_key = DigestKey::random().unwrap();
    (0..count).map(|n| key(&digest_key, n)).collect()
}

pub(super) fn response(body_bytes: usize) -> StoredResponse {
    let (body, templates) = (vec![b'x'; body_bytes], HeaderTemplates::default());
    StoredResponse::new(StatusCode::OK, HeaderMap::new(), &body, &templates)
}

/// Fresh for as long as it is retained.
pub(super) fn entry(body_bytes: usize, retained: Duration) -> Arc<Entry> {
    let lifetime = Lifetime {
        initial_age: Duration::ZERO,
        fresh: retained,
        while_revalidate: retained,
        if_error: retained,
    };
    Arc::new(Entry::new(response(body_bytes), lifetime, None))
}
