//! The free slots that tenants over their share leave to the others.
//!
//! Headroom follows demand. It grows each time a tenant within its share has to wait
//! behind one over its share, and shrinks a little each time it does not. So it
//! settles where 4 in 1,000 such requests wait (stochastic approximation of a
//! quantile: Robbins and Monro, 1951).

/// The fraction of a region's slots that is left free.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headroom {
    fraction: f64,
}

impl Default for Headroom {
    fn default() -> Self {
        Self { fraction: INITIAL }
    }
}

impl Headroom {
    /// A request within its share has to wait behind a tenant over its share.
    pub(super) fn grow(&mut self, slots: usize) {
        self.fraction = (self.fraction + step(slots)).min(0.5);
    }

    /// A request within its share does not have to wait.
    pub(super) fn shrink(&mut self, slots: usize) {
        self.fraction = (self.fraction - TARGET * step(slots)).max(0.0);
    }

    /// The headroom in slots.
    pub(super) fn of(self, slots: usize) -> f64 {
        self.fraction * slots as f64
    }
}

/// A four-hundredth of the slots, at least a quarter of one: fine enough to settle,
/// and coarse enough to get there within minutes.
fn step(slots: usize) -> f64 {
    (0.25 / slots as f64).max(1.0 / 400.0)
}

/// The headroom before anything is known of the demand.
const INITIAL: f64 = 0.1;

/// The fraction of requests within their share that may wait for others: well below
/// one in a hundred, so that it does not move their 99th percentile.
const TARGET: f64 = 0.004;
