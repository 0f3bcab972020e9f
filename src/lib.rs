//! A gateway between skill backends and the Alexa APIs.
//!
//! A **request** is **routed** to a region; the **cache** answers it if it can;
//! otherwise it joins a **flight** for the same key; the flight asks **limits** for
//! a permit and hands it to the **upstream**, which may retry. Around them:
//! **config** (values, replaced whole) and **error** (every way to say no).
//!
//! # Layout
//!
//! In reading order; each room has one job.
//!
//! | room | job |
//! |---|---|
//! | [`gateway`] | the pipeline: the only file that knows the order of the steps |
//! | [`request`] | which requests are acceptable, and their parts for the gateway |
//! | [`headers`] | the gateway's own header names; hop-by-hop rules |
//! | [`token`] | the secret, its digest, its unauthenticated hints |
//! | [`route`] | which region, which rule, which path (pure) |
//! | [`cache`] | stored answers: [`cache::key`] and [`cache::policy`] are pure |
//! | [`coalesce`] | flights: one fetch per key, any number of waiters |
//! | [`limits`] | quotas, permits, the queue: kept strictly, shared fairly, learned |
//! | [`upstream`] | the attempt loop; [`upstream::client`] dials, its `pool` keeps connections, [`upstream::retry`] judges (pure), [`upstream::breaker`] leaves a failing region alone |
//! | [`body`] | bodies, whole and streamed |
//! | [`error`] | every way to say no, and the only table of statuses |
//! | [`record`], [`metrics`] | what is known of one request; what is counted of all |
//! | [`config`] | layers, the file as written, the policies of the rooms, reload |
//! | [`region`], [`duration`] | the three regions; durations as people write them |
//! | [`server`], [`admin`] | listeners, connections and drain; what operators see |
//! | [`cli`] | one file per subcommand; how the log is written |
//! | `lab` | a mock of Alexa, a demo, and simulations; a cargo feature, no part of the sidecar |
//!
//! Who may import whom: `main → cli → server, admin → gateway → {request, route,
//! cache, coalesce, upstream}`, and `upstream → limits`. Anyone may use config
//! values, error, metrics, region, token and the values of `body`. `lab`
//! is for trying and testing; nothing that serves skills uses it.
//!
//! # The life of a request
//!
//! 1. [`server`] accepts the connection and speaks HTTP/1.1 or h2c; while a
//!    connection is idle, it keeps little more than the socket.
//! 2. [`gateway`] takes one snapshot of the configuration and starts the record.
//! 3. [`request`] takes out the token and the gateway's own headers, and drops
//!    what is for one hop only. *May end in 400.*
//! 4. [`route`] weighs the evidence for a region and finds the rule. *400, 421.*
//! 5. No rule, another method, or no token: admitted under the quotas for calls
//!    that pass through, and streamed, once. Otherwise:
//! 6. [`cache`] is asked by [`cache::key`]: fresh, and that is the answer; stale
//!    but allowed, and it is renewed meanwhile. *A hit ends here.*
//! 7. [`coalesce`]: the request joins the flight for its key or starts it, and
//!    waits until it lands or its own deadline passes. *504.*
//! 8. [`upstream`], in the flight, which goes on if its callers leave: admit, past
//!    the breaker and the quotas; send with the [`limits::Permit`]; judge; wait, if
//!    the retry budget allows it, and again; all inside the flight's deadline. *429,
//!    502, 503, 504.*
//! 9. [`cache::policy`] decides whether the answer is stored, and for how long.
//! 10. [`record`] is counted and logged, once, whatever the end was.
//!
//! # What you may touch
//!
//! | to change | open |
//! |---|---|
//! | which host gets a request | `route.rs` |
//! | what may be stored, for how long | `cache/policy.rs` |
//! | what makes two requests the same | `cache/key.rs` |
//! | what is evicted, and when memory is freed | `cache.rs`, `cache/expiry.rs` |
//! | when to retry, how long to wait | `upstream/retry.rs` |
//! | how many retries there may be | `upstream/budget.rs` |
//! | when a region is left alone, and for how long | `upstream/breaker/circuit.rs` |
//! | how a quota is kept | `limits/quota/` |
//! | who goes next, who gets how much | `limits/queue/schedule.rs`, `limits/queue/shares.rs` |
//! | what is learned from a 429 | `limits/learning/` |
//! | a status or an error body | `error.rs` |
//! | a metric, a field of the log line | `metrics.rs`, `record.rs` |
//! | how long a connection is kept, and what it costs while idle | `server/idle.rs`, `server/parking.rs` |
//! | a configuration key | `config/default.toml`, `config/file.rs`, `config.rs`, together |
//! | the order of the steps | `gateway.rs` and the list above, together |
//!
//! Time in memory is tokio's, so that tests can pause it; the wall clock is asked
//! only for HTTP dates and for the expiry of tokens.

pub mod admin;
pub mod body;
pub mod cache;
pub mod cli;
pub mod coalesce;
pub mod config;
pub mod duration;
pub mod error;
pub mod gateway;
pub mod headers;
#[cfg(feature = "lab")]
pub mod lab;
pub mod limits;
pub mod metrics;
pub mod record;
pub mod region;
pub mod request;
pub mod route;
pub mod server;
pub mod token;
pub mod upstream;
