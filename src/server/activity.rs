//! What one connection is doing, as seen from outside hyper.
//!
//! Requests and the [`ClientStream`](super::stream) only set these atomics, so a
//! request touches no timer. [`IdleMonitor`](super::idle) reads them when it is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The state of a connection since hyper got it.
pub(super) struct Activity {
    opened: Instant,
    /// Unfinished parts of requests: responses, and request bodies.
    in_flight: AtomicUsize,
    requests_seen: AtomicU64,
    /// When a part of a request last ended, in milliseconds since `opened`.
    last_end_ms: AtomicU64,
    /// Whether bytes have come since then. Between HTTP/1 requests, they are a head.
    bytes_received: AtomicBool,
    /// Sequence number of the current write stall; 0 if writable.
    write_stall: AtomicU32,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            in_flight: AtomicUsize::new(0),
            requests_seen: AtomicU64::new(0),
            last_end_ms: AtomicU64::new(0),
            bytes_received: AtomicBool::new(false),
            write_stall: AtomicU32::new(0),
        })
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> InFlight {
        self.requests_seen.fetch_add(1, Ordering::Relaxed);
        self.begin_part()
    }

    /// Counts one more part of a request as in flight until the guard is dropped.
    pub(super) fn begin_part(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(super) fn set_bytes_received(&self) {
        self.bytes_received.store(true, Ordering::Relaxed);
    }

    /// Sets the sequence number of the current write stall; 0 if writable.
    pub(super) fn set_write_stall(&self, stall: u32) {
        self.write_stall.store(stall, Ordering::Relaxed);
    }

    /// Whether a request is in flight. If not, everything that was set before the end of
    /// the last one is visible.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) > 0
    }

    pub(super) fn requests_seen(&self) -> u64 {
        self.requests_seen.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_received(&self) -> bool {
        self.bytes_received.load(Ordering::Relaxed)
    }

    pub(super) fn write_stall(&self) -> u32 {
        self.write_stall.load(Ordering::Relaxed)
    }

    /// When the last request ended; before the first request, when the connection opened.
    pub(super) fn last_end(&self) -> Instant {
        self.opened + Duration::from_millis(self.last_end_ms.load(Ordering::Relaxed))
    }
}

/// An unfinished part of a request.
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_end_ms.store(now, Ordering::Relaxed);
        self.0.bytes_received.store(false, Ordering::Relaxed);
        // Last, and with Release: pairs with `is_in_flight`.
        self.0.in_flight.fetch_sub(1, Ordering::Release);
    }
}
