//! The system's resolver, with an error type of its own.
//!
//! A failed lookup can so be told from a failed connection by its type, and a
//! time-out that hits during the lookup from one that hits later.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use tower_service::Service;

/// Resolves the host name of one connection. Clones share its progress.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolver {
    resolving: Arc<AtomicBool>,
}

/// The host name could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("host name lookup failed")]
pub(super) struct ResolveError(#[from] io::Error);

impl Resolver {
    /// Whether a lookup has started and not completed. One that was cancelled has not.
    pub(super) fn is_resolving(&self) -> bool {
        self.resolving.load(Ordering::Relaxed)
    }
}

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<GaiAddrs, ResolveError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        GaiResolver::new().poll_ready(cx).map_err(ResolveError)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookup = GaiResolver::new().call(name);
        let resolving = Arc::clone(&self.resolving);
        Box::pin(async move {
            resolving.store(true, Ordering::Relaxed);
            let addresses = lookup.await;
            resolving.store(false, Ordering::Relaxed);
            Ok(addresses?)
        })
    }
}
