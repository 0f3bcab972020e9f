//! Drives one hyper connection while its time limits are watched.

use std::fmt;
use std::pin::{Pin, pin};

use hyper_util::server::graceful::GracefulConnection;
use tokio::time::{Instant, sleep_until};

use super::idle::{ConnState, IdleMonitor};
use super::parking::PARK_AFTER;
use super::stop::StopSignal;

/// Drives a connection until it ends, which is `None`, or until the monitor reports a
/// state for the caller to act on. Passes a stop on to the connection.
pub(super) async fn drive<C>(
    mut connection: Pin<&mut C>,
    monitor: &mut IdleMonitor,
    stop: &mut StopSignal,
) -> Option<ConnState>
where
    C: GracefulConnection,
    C::Error: fmt::Display,
{
    let mut stopped = pin!(stop.stopped());
    let mut stopping = false;
    let mut check = pin!(sleep_until(Instant::now() + PARK_AFTER));
    loop {
        tokio::select! {
            // hyper handles all received bytes before the monitor judges the connection.
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection failed");
                }
                return None;
            }
            () = &mut stopped, if !stopping => {
                connection.as_mut().graceful_shutdown();
                stopping = true;
            }
            () = &mut check => match monitor.check(Instant::now()) {
                ConnState::CheckAt(at) => check.as_mut().reset(at),
                state => return Some(state),
            },
        }
    }
}
