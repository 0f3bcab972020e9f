//! What a fetch does when the cache has no usable response: it joins the flight for
//! its key or starts one, and waits.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::flight::{self, Flight, FlightKey, FlightOutcome};
use super::policy::Policy;
use super::routed::{Fetch, RoutedRequest};
use crate::cache::Cache;
use crate::cache::policy::FetchMode;
use crate::coalesce::{Flights, Interest, NotLanded, TooManyWaiters, Waiter};
use crate::error::{Error, Kind};
use crate::limits::{Family, Limits};
use crate::record::Record;
use crate::upstream::{self, Upstream};

/// What fetches share. Lives behind an `Arc`, because flights outlive the requests
/// that start them.
pub(super) struct Fetches {
    pub(super) cache: Cache,
    pub(super) flights: Flights<FlightKey, FlightOutcome>,
    pub(super) limits: Arc<Limits>,
    pub(super) upstream: Upstream,
}

/// A flight's outcome for one of its waiters.
pub(super) struct Fetched {
    pub(super) outcome: FlightOutcome,
    /// Another request had started the flight.
    pub(super) collapsed: bool,
}

/// Whether a flight ends when nobody waits for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unattended {
    Ends,
    GoesOn,
}

impl Fetches {
    /// Joins or starts a flight, and waits until it lands or the caller's own deadline
    /// passes. Dropping the future leaves the flight.
    ///
    /// # Errors
    /// The wait for a quota would not fit the caller's deadline, too many requests
    /// wait, the deadline passed, or the flight was lost. A failed call is an outcome.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        request: &RoutedRequest,
        fetch: &Fetch,
        mode: FetchMode,
        record: &Record,
    ) -> Result<Fetched, Error> {
        let deadline = request.deadline;
        let key = FlightKey {
            key: fetch.key,
            mode,
        };
        // The flight would wait longer than this caller, so the caller is told at once
        // if its own deadline is too short.
        if deadline.latest < deadline.usual && !self.flights.is_in_flight(&key) {
            let skill = request.identity.claims.skill.as_ref();
            let region = request.route.region;
            let fits = self
                .limits
                .check(region, Family::Profile, skill, deadline.latest);
            fits.map_err(upstream::refused)?;
        }
        let lands_by = deadline.latest.max(deadline.usual);
        let waiter = self.join(policy, request, fetch, key, lands_by, Unattended::Ends)?;
        let landed = waiter.landed_by(deadline.latest).await;
        let outcome = landed.map_err(|error| match error {
            NotLanded::Lost => Error::new(Kind::Internal, error.to_string()),
            NotLanded::DeadlinePassed => {
                let seconds = (deadline.latest - record.started).as_secs_f64();
                Error::new(Kind::Deadline, format!("no response within {seconds}s"))
            }
        })?;
        Ok(Fetched {
            outcome,
            collapsed: waiter.collapsed(),
        })
    }

    /// Renews a stored response in the background, unless it is being fetched already.
    /// If too many requests wait, the stored response is good enough for now.
    pub(super) fn revalidate(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        request: &RoutedRequest,
        fetch: &Fetch,
    ) {
        let key = FlightKey {
            key: fetch.key,
            mode: FetchMode::Anew,
        };
        let lands_by = Instant::now() + policy.deadline.default;
        self.join(policy, request, fetch, key, lands_by, Unattended::GoesOn)
            .ok();
    }

    fn join(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        request: &RoutedRequest,
        fetch: &Fetch,
        key: FlightKey,
        lands_by: Instant,
        unattended: Unattended,
    ) -> Result<Waiter<FlightKey, FlightOutcome>, Error> {
        let uri = request.upstream_uri(&policy.routes)?;
        let start = |interest: Interest<_, _>| {
            let flight = Flight {
                call: request.to_call(uri, flight::headers(&request.parts)),
                rule: Arc::clone(&fetch.rule),
                key,
                expires_at: request.identity.claims.expires_at,
                deadline: lands_by,
            };
            let (shared, policy) = (Arc::clone(self), Arc::clone(policy));
            async move {
                let Self {
                    cache, upstream, ..
                } = &*shared;
                let abandoned = async {
                    match unattended {
                        Unattended::Ends => interest.abandoned().await,
                        Unattended::GoesOn => pending().await,
                    }
                };
                flight
                    .run(cache, upstream, &policy.upstream, abandoned)
                    .await
            }
        };
        let joined = self.flights.join(key, lands_by, &policy.coalesce, start);
        joined.map_err(|error @ TooManyWaiters| {
            let error = Error::new(Kind::TooManyWaiters, error.to_string());
            error.retry_after(Duration::from_secs(1))
        })
    }
}
