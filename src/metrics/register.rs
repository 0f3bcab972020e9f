//! Registration of metrics.

use std::fmt;
use std::hash::Hash;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

/// Histograms of seconds, by their labels.
pub(super) type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// Creates a metric at zero and registers it.
pub(super) fn register<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: Metric + Clone + Default,
{
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// Creates histograms of seconds and registers them.
pub(super) fn register_durations<L>(registry: &mut Registry, name: &str, help: &str) -> Durations<L>
where
    L: EncodeLabelSet + Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static,
{
    let metric = Family::new_with_constructor(histogram as fn() -> Histogram);
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// From the tens of microseconds of a hit to the longest deadline.
const BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5,
    5.0, 8.0,
];
