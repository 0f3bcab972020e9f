//! The open loop: calls are due whatever became of those before them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{JoinSet, yield_now};
use tokio::time::Instant;

use super::callers::finish;
use super::connection::{CONNECTIONS, PATIENCE, keep_open};
use super::latency::{Latencies, LoadResult};
use crate::call::Calls;

/// Makes calls that are due at random times, on average `rate` per second. Latency counts
/// from when a call was due, so waiting for a free connection counts as well.
///
/// # Errors
/// A call failed, or was not answered with 200.
pub(crate) async fn open(
    address: SocketAddr,
    calls: &Arc<Calls>,
    rate: f64,
    time: Duration,
) -> anyhow::Result<LoadResult> {
    let open = OpenLoop::connect(address, calls).await?;
    let start = Instant::now();
    open.run(rate, || start.elapsed() < time).await
}

/// An open loop with its connections open.
pub(crate) struct OpenLoop {
    due: Arc<Due>,
    latencies: Latencies,
    callers: JoinSet<io::Result<()>>,
}

impl OpenLoop {
    /// Opens the connections and makes one call on each, so that no peer closes them as
    /// idle before the loop begins.
    ///
    /// # Errors
    /// A call failed, or was not answered with 200.
    pub(crate) async fn connect(address: SocketAddr, calls: &Arc<Calls>) -> anyhow::Result<Self> {
        let latencies = Latencies::new()?;
        let due = Arc::new(Due::default());
        let mut callers = JoinSet::new();
        for mut connection in keep_open(address, calls, CONNECTIONS).await? {
            let (calls, latencies, due) = (Arc::clone(calls), latencies.clone(), Arc::clone(&due));
            callers.spawn(async move {
                while let Some(at) = due.next().await {
                    connection.call(&calls).await?;
                    latencies.record(at.elapsed());
                }
                io::Result::Ok(())
            });
        }
        Ok(Self {
            due,
            latencies,
            callers,
        })
    }

    /// Makes calls as [`open`] does, as long as `more` returns true.
    ///
    /// # Errors
    /// A call failed, or was not answered with 200.
    pub(crate) async fn run(
        self,
        rate: f64,
        more: impl Fn() -> bool,
    ) -> anyhow::Result<LoadResult> {
        let start = Instant::now();
        let mut at = start;
        while more() {
            // The load has its own core: spinning is more precise than a timer.
            while Instant::now() < at {
                yield_now().await;
            }
            self.due.push(at);
            at += Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / rate);
        }
        self.due.end();
        finish(self.callers, PATIENCE).await?;
        Ok(self.latencies.finish(start.elapsed()))
    }
}

/// Due calls that no connection has taken yet.
#[derive(Default)]
struct Due {
    calls: Mutex<VecDeque<Instant>>,
    ended: AtomicBool,
    more: Notify,
}

impl Due {
    fn push(&self, at: Instant) {
        self.calls.lock().push_back(at);
        self.more.notify_one();
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.more.notify_waiters();
    }

    async fn next(&self) -> Option<Instant> {
        loop {
            let call = self.calls.lock().pop_front();
            if call.is_some() {
                return call;
            }
            if self.ended.load(Ordering::Relaxed) {
                return None;
            }
            self.more.notified().await;
        }
    }
}
