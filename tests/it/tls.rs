//! The way to Alexa is encrypted, checked, and HTTP/2 where it is offered.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use alexa_gateway::region::Region;
use http::Version;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::alexa::json;
use crate::support::command::TempDir;
use crate::support::gateway::TestGateway;
use crate::support::{NAME, token};

/// What one TLS upstream saw of each request: version, SNI, and connections.
#[derive(Default)]
struct Seen {
    versions: Vec<Version>,
    names: Vec<Option<String>>,
}

struct TlsAlexa {
    address: SocketAddr,
    authority_pem: String,
    seen: Arc<Mutex<Seen>>,
    /// Connections that are open when this is told say nothing more, and stay open.
    silence: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TlsAlexa {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TlsAlexa {
    /// An upstream with a certificate of a throw-away authority for `localhost`.
    async fn start(alpn: &[&str]) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let log = Arc::clone(&seen);
        let silence = Arc::new(Notify::new());
        let silenced = Arc::clone(&silence);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let name = stream.get_ref().1.server_name().map(str::to_owned);
                log.lock().names.push(name);
                let log = Arc::clone(&log);
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    log.lock().versions.push(request.version());
                    async { Ok::<_, Infallible>(json(200, "{}")) }
                });
                let silenced = Arc::clone(&silenced);
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let connection = builder.serve_connection(TokioIo::new(stream), service);
                    let mut connection = pin!(connection);
                    tokio::select! {
                        _ = connection.as_mut() => {}
                        () = silenced.notified() => pending().await,
                    }
                });
            }
        });
        Self {
            address,
            authority_pem: authority.pem(),
            seen,
            silence,
            task,
        }
    }

    /// Trusts the authority, whose certificate is written to `dir`.
    fn trusted(&self, dir: &TempDir) -> String {
        dir.write("ca.pem", &self.authority_pem);
        let ca = dir.path("ca.pem");
        format!("[upstream.tls]\nextra_ca_file = '{}'\n", ca.display())
    }

    fn config(&self) -> String {
        let port = self.address.port();
        let section =
            |region| format!("[regions.{region}]\nupstream = 'https://localhost:{port}'\n");
        Region::ALL.map(section).concat()
    }
}

#[tokio::test]
async fn an_extra_authority_is_trusted_and_connections_are_kept() {
    let dir = TempDir::new();
    for (alpn, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let alexa = TlsAlexa::start(alpn).await;
        for roots in ["bundled", "os"] {
            *alexa.seen.lock() = Seen::default();
            let tls = format!("{}roots = '{roots}'\n", alexa.trusted(&dir));
            let gateway = TestGateway::start(&format!("{tls}{}", alexa.config())).await;
            let client = gateway.client();
            for _ in 0..5 {
                client
                    .get(NAME)
                    .token(&token(Region::Na))
                    .send()
                    .await
                    .expect_status(200);
            }
            let seen = alexa.seen.lock();
            assert_eq!(seen.versions, [version; 5], "{alpn:?}");
            assert_eq!(
                seen.names,
                [Some("localhost".to_owned())],
                "one warm connection"
            );
        }
    }
}

#[tokio::test]
async fn an_http2_connection_that_says_nothing_any_more_is_replaced() {
    let (dir, alexa) = (TempDir::new(), TlsAlexa::start(&["h2"]).await);
    let config = alexa.trusted(&dir) + &alexa.config();
    let gateway = TestGateway::start(&config).await;
    let client = gateway.client();
    let call = async || {
        let token = token(Region::Na);
        client.get(NAME).token(&token).send().await.status
    };
    assert_eq!(call().await, 200);
    alexa.silence.notify_waiters();
    let replaced = async { while call().await != 200 {} };
    timeout(Duration::from_secs(30), replaced).await.unwrap();
    assert_eq!(alexa.seen.lock().names.len(), 2);
}

#[tokio::test]
async fn an_unknown_authority_is_refused_and_no_token_is_sent() {
    let alexa = TlsAlexa::start(&["h2"]).await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let reply = gateway
        .client()
        .get(NAME)
        .token(&token(Region::Na))
        .send()
        .await;
    reply.expect_own_error(502, "tls_certificate_error");
    assert!(alexa.seen.lock().versions.is_empty());
}

#[tokio::test]
async fn an_authority_file_that_is_none_is_told_at_the_start() {
    use alexa_gateway::server::Server;
    let dir = TempDir::new();
    dir.write("empty.pem", "nothing");
    for (file, why) in [
        ("empty.pem", "holds no certificate"),
        ("absent.pem", "absent.pem"),
    ] {
        let path = dir.path(file);
        let config = format!("[upstream.tls]\nextra_ca_file = '{}'\n", path.display());
        let config = crate::support::gateway::load(&config);
        let error = Server::start(config.server, config.admin, config.gateway)
            .await
            .unwrap_err();
        let told = error.to_string();
        assert!(
            told.starts_with("upstream.tls.extra_ca_file: ") && told.contains(why),
            "{told}"
        );
    }
}
