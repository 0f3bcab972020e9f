//! The parts of a hit, each by itself: `cargo bench --bench parts`. For the whole hit
//! see `benches/count`; for the hit beside its peers, `benches/peers`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use alexa_gateway::cache::entry::Entry;
use alexa_gateway::cache::key::CacheKey;
use alexa_gateway::cache::policy::{Lifetime, RequestDirectives};
use alexa_gateway::cache::response::{HeaderTemplates, ResponseStamp, StoredResponse};
use alexa_gateway::cache::status::CacheStatus;
use alexa_gateway::cache::{Cache, Capacity};
use alexa_gateway::config::Config;
use alexa_gateway::config::layers::Sources;
use alexa_gateway::lab::mock::TokenSpec;
use alexa_gateway::limits::{Family, Limits, Priority};
use alexa_gateway::metrics::Metrics;
use alexa_gateway::record::Record;
use alexa_gateway::region::Region;
use alexa_gateway::request::Caller;
use alexa_gateway::route::Evidence;
use alexa_gateway::token::{BearerToken, ClaimsCache, DigestKey};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

/// The requests of a skill with a new token of real size.
fn parts() -> Parts {
    let request = Request::get("/v2/persons/~current/profile/name")
        .header("host", "api.amazonalexa.com")
        .header("accept", "application/json")
        .header("user-agent", "ask-node-model/1.86.0 Node/v22")
        .header(
            "authorization",
            format!("Bearer {}", TokenSpec::default().mint()),
        );
    request.body(()).expect("a request").into_parts().0
}

fn token() -> BearerToken {
    let taken = BearerToken::take(&mut parts().headers);
    taken.expect("one token").expect("a token")
}

fn config() -> Config {
    let sources = Sources {
        file: None,
        environment: &[],
    };
    Config::load(&sources).expect("the defaults are valid")
}

fn request(criterion: &mut Criterion) {
    criterion.bench_function("request: take out what is ours", |bench| {
        bench.iter_batched_ref(parts, Caller::take, BatchSize::SmallInput);
    });
    let (config, parts) = (config(), parts());
    criterion.bench_function("route", |bench| {
        bench.iter(|| {
            config.gateway.routes.route(black_box(&Evidence {
                host: Some("api.amazonalexa.com"),
                path: parts.uri.path(),
                target: parts.uri.path_and_query(),
                ..Evidence::default()
            }))
        });
    });
}

fn credentials(criterion: &mut Criterion) {
    let (token, key) = (token(), DigestKey::random().expect("randomness"));
    criterion.bench_function("token: digest", |bench| {
        bench.iter(|| black_box(&token).digest(&key));
    });
    criterion.bench_function("token: claims, decoded", |bench| {
        bench.iter(|| black_box(&token).claims());
    });
    let (claims, digest) = (ClaimsCache::for_responses(100_000), token.digest(&key));
    criterion.bench_function("token: claims, cached", |bench| {
        bench.iter(|| claims.claims(&digest, || black_box(&token).claims()));
    });
}

fn cache(criterion: &mut Criterion) {
    let (parts, key) = (parts(), DigestKey::random().expect("randomness"));
    let digest = token().digest(&key);
    let target = parts.uri.path_and_query().expect("a path");
    let of = || CacheKey::of(&key, Region::Na, black_box(target), &parts.headers, &digest);
    criterion.bench_function("cache: key", |bench| bench.iter(of));
    let cache = Cache::new(Capacity {
        max_bytes: 1 << 20,
        max_entries: 1000,
    });
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let answer = StoredResponse::new(
        StatusCode::OK,
        headers,
        b"\"John\"",
        &HeaderTemplates::default(),
    );
    let lifetime = Lifetime {
        initial_age: Duration::ZERO,
        fresh: HOUR,
        while_revalidate: HOUR,
        if_error: HOUR,
    };
    let entry = Entry::new(answer.clone(), lifetime, None);
    cache.store(of(), Arc::new(entry));
    let directives = RequestDirectives::parse(&parts.headers);
    let (key, now) = (of(), Instant::now());
    criterion.bench_function("cache: lookup", |bench| {
        bench.iter(|| cache.lookup(black_box(&key), &directives, now));
    });
    let stamp = ResponseStamp {
        request_id: HeaderValue::from_static("0123456789abcdef"),
        cache_status: HeaderValue::from_static("alexa-gateway; hit; ttl=300"),
        age_seconds: Some(5),
    };
    criterion.bench_function("answer: a response of its own", |bench| {
        bench.iter(|| black_box(&answer).to_response(stamp.clone()));
    });
}

fn admit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let limits = runtime.block_on(async { Limits::new(&config().gateway.limits) });
    let deadline = Instant::now() + HOUR;
    // The permit is dropped unused, so the quota never runs out.
    criterion.bench_function("limits: admit", |bench| {
        bench.iter(|| {
            let (region, family) = (Region::Na, Family::Profile);
            let admitted = limits.admit(region, family, None, Priority::New, deadline);
            runtime.block_on(admitted).expect("a permit")
        });
    });
}

fn record(criterion: &mut Criterion) {
    let (parts, metrics, skill) = (parts(), Arc::new(Metrics::new()), token().claims().skill);
    criterion.bench_function("record: count a hit", |bench| {
        bench.iter(|| {
            let metrics = Arc::clone(&metrics);
            let mut record = Record::start(Method::GET, &parts.headers, false, metrics);
            record.region = Some(Region::Na);
            record.family = Some(Family::Profile);
            record.skill.clone_from(&skill);
            record.cache = Some(CacheStatus::Hit(HOUR));
            record.finish(StatusCode::OK);
        });
    });
}

criterion_group!(hit, request, credentials, cache, admit, record);
criterion_main!(hit);
