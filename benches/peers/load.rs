//! The load: closed loop, open loop, and all connections at once.

mod callers;
mod connection;
mod latency;
mod open_loop;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use self::callers::finish;
use self::connection::PATIENCE;
pub(crate) use self::connection::{CONNECTIONS, Connection, keep_open};
pub(crate) use self::latency::{Latencies, LoadResult};
pub(crate) use self::open_loop::{OpenLoop, open};
use crate::call::Calls;

/// When a closed loop ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Calls(u64),
    Elapsed(Duration),
}

/// Closed loop: each connection makes its next call when it has its response.
///
/// # Errors
/// A call failed, or was not answered with 200.
pub(crate) async fn closed(
    address: SocketAddr,
    calls: &Arc<Calls>,
    until: Until,
) -> anyhow::Result<LoadResult> {
    let latencies = Latencies::new()?;
    let left = Arc::new(AtomicU64::new(match until {
        Until::Calls(calls) => calls,
        Until::Elapsed(_) => u64::MAX,
    }));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(address).await?);
    }
    let start = Instant::now();
    let last = start
        + match until {
            Until::Calls(_) => Duration::from_secs(600),
            Until::Elapsed(time) => time,
        };
    let mut callers = JoinSet::new();
    for mut connection in connections {
        let (calls, latencies, left) = (Arc::clone(calls), latencies.clone(), Arc::clone(&left));
        callers.spawn(async move {
            let mut sent = Instant::now();
            while sent < last && take(&left) {
                connection.call(&calls).await?;
                let now = Instant::now();
                latencies.record(now - sent);
                sent = now;
            }
            io::Result::Ok(())
        });
    }
    let bound = last + PATIENCE - start;
    finish(callers, bound).await?;
    Ok(latencies.finish(start.elapsed()))
}

fn take(left: &AtomicU64) -> bool {
    let less = |left: u64| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

/// Makes one call on each connection, all at once.
///
/// # Errors
/// A call failed, or was not answered with 200.
pub(crate) async fn together(
    connections: Vec<Connection>,
    calls: &Arc<Calls>,
) -> anyhow::Result<LoadResult> {
    let latencies = Latencies::new()?;
    let ready = Arc::new(Barrier::new(connections.len()));
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for mut connection in connections {
        let (calls, latencies, ready) = (Arc::clone(calls), latencies.clone(), Arc::clone(&ready));
        callers.spawn(async move {
            ready.wait().await;
            let sent = Instant::now();
            connection.call(&calls).await?;
            latencies.record(sent.elapsed());
            io::Result::Ok(())
        });
    }
    finish(callers, PATIENCE).await?;
    Ok(latencies.finish(start.elapsed()))
}
