//! Opens connections, TLS included, within a time limit.
//!
//! hyper-util limits the time for TCP alone; here one limit covers the lookup of the
//! host name, TCP and the TLS handshake.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service as _;

use super::failure::Failure;
use super::resolver::Resolver;

/// How often an idle connection is probed by TCP.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// An open connection.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Opens connections to `http` and `https` origins.
pub(super) struct Connector {
    tls: Arc<ClientConfig>,
    timeout: Duration,
}

impl Connector {
    /// Offers HTTP/2 and HTTP/1.1 over TLS, and gives up after `timeout`.
    pub(super) fn new(mut tls: ClientConfig, timeout: Duration) -> Self {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            tls: Arc::new(tls),
            timeout,
        }
    }

    /// Opens a connection to the origin of `uri`.
    ///
    /// # Errors
    /// Why there is no connection. Nothing was sent.
    pub(super) async fn connect(&self, uri: Uri) -> Result<Stream, Failure> {
        let resolver = Resolver::default();
        let mut tcp = HttpConnector::new_with_resolver(resolver.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        let mut connector = HttpsConnector::from((tcp, Arc::clone(&self.tls)));
        let connecting = async {
            poll_fn(|cx| connector.poll_ready(cx)).await?;
            connector.call(uri).await
        };
        match timeout(self.timeout, connecting).await {
            Ok(connected) => connected.map_err(Failure::connecting),
            Err(elapsed) if resolver.is_resolving() => Err(Failure::resolve_timeout(elapsed)),
            Err(elapsed) => Err(Failure::connect_timeout(elapsed)),
        }
    }
}
