//! The signal to stop, from a server to its listeners and connections.

use tokio::sync::watch;

/// Tells every [`StopSignal`] to stop. Dropping it tells them, too.
#[derive(Debug)]
pub(super) struct StopSwitch(watch::Sender<bool>);

/// Tells when to stop.
#[derive(Clone, Debug)]
pub(super) struct StopSignal(watch::Receiver<bool>);

impl StopSwitch {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(super) fn signal(&self) -> StopSignal {
        StopSignal(self.0.subscribe())
    }

    pub(super) fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl StopSignal {
    /// Completes when the server stops or is dropped.
    pub(super) async fn stopped(&mut self) {
        self.0.wait_for(|&stop| stop).await.ok();
    }
}
