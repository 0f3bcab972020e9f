//! A gateway between skill backends and the Alexa APIs.
//!
//! A **request** is **routed** to a region. The **cache** answers it if it can.
//! Otherwise it joins a **flight** for the same key; the flight asks **limits** for a
//! permit and hands it to the **upstream**, which may retry. **Config** is a value,
//! replaced as a whole; **error** is every way to say no.
//!
//! # Layout
//!
//! In reading order. Each room has one job.
//!
//! | room | job |
//! |---|---|
//! | [`gateway`] | the pipeline: the only room that knows the order of the steps |
//! | [`request`] | which requests are acceptable, and their parts for the gateway |
//! | [`token`] | the bearer token, its digest, its unverified claims |
//! | [`route`] | which region, which rule, which path (pure) |
//! | [`cache`] | stored responses; [`cache::key`] and [`cache::policy`] are pure |
//! | [`coalesce`] | flights: one fetch per key, any number of waiters |
//! | [`limits`] | quotas, permits and the queue: kept strictly, shared fairly, learned |
//! | [`upstream`] | the attempt loop; connections, retries, back-off, breakers |
//! | [`record`], [`metrics`] | what is known of one request; what is counted of all |
//! | [`server`], [`admin`] | listeners, connections and drain; what operators see |
//! | [`config`] | layers, the file as written, validated values, reload |
//! | [`cli`] | one file per subcommand; how the log is written |
//! | `lab` | a mock of Alexa, a demo, simulations; a cargo feature, no part of the sidecar |
//! | [`region`], [`headers`], [`body`], [`duration`], [`error`] | the ground floor, which any room may use |
//!
//! # Who imports whom
//!
//! Each room owns its `Policy`, the values that it works with; `config` builds them
//! and nobody else reads the file. Imports form no circle, neither between rooms nor
//! between files. A test holds the source against this table.
//!
//! | room | imports |
//! |---|---|
//! | `main` | `cli` |
//! | `cli` | `admin`, `cache`, `config`, `gateway`, `lab`, `metrics`, `record`, `region`, `server`, `token`, `upstream` |
//! | `lab` | `body`, `cache`, `config`, `duration`, `error`, `gateway`, `headers`, `limits`, `record`, `region`, `server`, `token`, `upstream` |
//! | `config` | `admin`, `cache`, `coalesce`, `duration`, `gateway`, `limits`, `region`, `route`, `server`, `token`, `upstream` |
//! | `server` | `admin`, `body`, `gateway`, `region` |
//! | `admin` | `gateway`, `limits`, `metrics`, `region`, `upstream` |
//! | `gateway` | `body`, `cache`, `coalesce`, `duration`, `error`, `headers`, `limits`, `metrics`, `record`, `region`, `request`, `route`, `token`, `upstream` |
//! | `record` | `cache`, `error`, `limits`, `metrics`, `region`, `token`, `upstream` |
//! | `upstream` | `body`, `duration`, `error`, `headers`, `limits`, `metrics`, `region`, `token` |
//! | `metrics` | `cache`, `error`, `limits`, `region`, `token` |
//! | `limits` | `duration`, `region`, `token` |
//! | `route` | `cache`, `region` |
//! | `cache` | `body`, `headers`, `region`, `token` |
//! | `request` | `error`, `headers`, `token` |
//! | `token` | `region` |
//! | `body`, `coalesce`, `duration`, `error`, `headers`, `region` | |
//!
//! # The life of a request
//!
//! 1. [`server`] accepts the connection and speaks HTTP/1.1 or h2c. An idle connection
//!    holds little more than its socket.
//! 2. [`gateway`] takes one snapshot of its policy and starts the record.
//! 3. [`request`] checks the request and removes the token, the gateway's own headers
//!    and the hop-by-hop headers. *May end in 400.*
//! 4. [`route`] weighs the evidence for a region and finds the rule. *400, 421.*
//! 5. A request without a rule, of another method, or without a token is relayed: it
//!    is admitted under the passthrough quotas and streamed, once. Otherwise:
//! 6. [`cache`] looks the key up: a fresh response is served; a stale one may be, and
//!    is revalidated in the background. *A hit ends here.*
//! 7. [`coalesce`]: the request joins the flight for its key or starts one, and waits
//!    until it lands or the request's own deadline passes. *504.*
//! 8. [`upstream`], in the flight, which goes on if its callers leave: the attempt is
//!    admitted by the breaker and the quotas, sent with its [`limits::Permit`], judged,
//!    and repeated after a back-off if the retry budget allows it, all within the
//!    flight's deadline. *429, 502, 503, 504.*
//! 9. [`cache::policy`] decides whether the response is stored, and for how long.
//! 10. [`record`] is counted and logged, once, however the request ends.
//!
//! # What to open
//!
//! | to change | open |
//! |---|---|
//! | which host gets a request | `route.rs`, `route/` |
//! | what may be stored, for how long, and when it may be reused | `cache/policy/` |
//! | what makes two requests the same | `cache/key.rs` |
//! | what is evicted, and when memory is freed | `cache.rs`, `cache/expiry.rs`, `cache/sweep.rs` |
//! | when to retry, how long to wait | `upstream/retry.rs` |
//! | how many retries there may be | `upstream/budget.rs` |
//! | when a region is left alone, and for how long | `upstream/breaker/circuit.rs` |
//! | what a failure of upstream is called | `upstream/failure.rs` |
//! | how a quota is kept | `limits/quota/` |
//! | who goes next, who gets how much | `limits/queue/schedule.rs`, `limits/queue/shares.rs` |
//! | what is learned from a 429 | `limits/learning/` |
//! | a status or an error body | `error.rs` |
//! | a metric, a field of the log line | `metrics/`, `record.rs` |
//! | how long a connection is kept, and what it costs while idle | `server/idle.rs`, `server/parking.rs` |
//! | a configuration key | `config/default.toml`, `config/file.rs`, the room's `Policy`, together |
//! | the order of the steps | `gateway.rs` and the list above, together |
//!
//! Time in memory is tokio's, so that tests can pause it. The wall clock is read only
//! for HTTP dates and for the expiry of tokens.

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
