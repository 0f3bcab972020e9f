//! A test: `simulate` reads the log that `serve` writes.

use std::io::{self, BufReader};
use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use tracing_subscriber::layer::SubscriberExt as _;

use super::json::JsonFormat;
use crate::cache::status::{CacheStatus, Forward};
use crate::lab::simulate::log::read;
use crate::lab::simulate::trace::{Target, TraceRequest};
use crate::metrics::Metrics;
use crate::record::Record;
use crate::region::Region;
use crate::token::SkillId;

#[test]
fn simulate_reads_the_log_lines_of_real_requests() {
    let (log, out) = io::pipe().unwrap();
    let layer = tracing_subscriber::fmt::layer()
        .event_format(JsonFormat)
        .with_writer(Arc::new(out));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let mut headers = HeaderMap::new();
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert("traceparent", trace.parse().unwrap());
        let metrics = Arc::new(Metrics::new());
        let mut record = Record::start(Method::GET, &headers, true, Arc::clone(&metrics));
        record.region = Some(Region::Eu);
        record.skill = SkillId::parse("amzn1.ask.skill.one");
        record.template = Some("/v1/devices/{deviceId}/settings/address".into());
        record.cache = Some(CacheStatus::forwarded(Forward::Request));
        record.finish(StatusCode::OK);
        tracing::info!(reason = "SIGTERM", "stopping");
        let mut record = Record::start(Method::POST, &HeaderMap::new(), true, metrics);
        record.region = Some(Region::Na);
        record.template = Some("/v1/directives".into());
        record.finish(StatusCode::NO_CONTENT);
    });
    let read = read(BufReader::new(log)).unwrap();
    assert_eq!((read.requests, read.skipped), (2, 1));
    let requests: Vec<_> = read.trace.requests().collect();
    let (get, post) = match requests[0].region {
        Region::Eu => (requests[0], requests[1]),
        _ => (requests[1], requests[0]),
    };
    let of = |request: TraceRequest| {
        let target = &read.trace.targets[request.target as usize];
        let skill = &read.trace.skills[request.skill as usize];
        (target.clone(), skill.as_ref().map(ToString::to_string))
    };
    assert_eq!(
        of(get),
        (
            Target::get("/v1/devices/simulated/settings/address"),
            Some("amzn1.ask.skill.one".to_owned())
        )
    );
    assert!(get.no_cache && !post.no_cache);
    assert_eq!(of(post).0.method, Method::POST);
    assert_eq!((post.region, of(post).1), (Region::Na, None));
}
