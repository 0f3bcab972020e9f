//! The origin: the same response to every request, after a delay, over plain HTTP/1.1
//! or over TLS with HTTP/2 or HTTP/1.1. It counts requests.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

/// The body of every response.
pub(crate) const BODY: &str = r#"{"name":"Jane Doe"}"#;
/// Returns the number of requests; not counted itself.
pub(crate) const COUNT: &[u8] = b"GET /-/count ";
pub(crate) const COUNT_PATH: &str = "/-/count";
const REQUEST_ID: &str = "0f6c1b2a-93d4-4c1e-8f57-2b7d9a3e4c10";

/// Names of the files that [`write_certificates`] makes.
pub(crate) const AUTHORITY: &str = "authority.pem";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// The response to every request.
pub(crate) fn answer() -> Vec<u8> {
    answer_of(BODY)
}

/// The response to [`COUNT`].
pub(crate) fn count(requests: u64) -> Vec<u8> {
    answer_of(&requests.to_string())
}

fn answer_of(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         x-amzn-requestid: {REQUEST_ID}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Writes a throw-away authority, and a certificate of it for 127.0.0.1 and
/// `localhost`, into a folder.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn write_certificates(folder: &Path) -> anyhow::Result<()> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate for self-signed if issuer and subject are equal.
    let name = "An authority for one bench";
    authority.distinguished_name.push(DnType::CommonName, name);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    fs::write(folder.join(AUTHORITY), authority.pem())?;
    fs::write(folder.join(CERTIFICATE), certificate.pem())?;
    fs::write(folder.join(KEY), key.serialize_pem())?;
    Ok(())
}

/// Serves until the process is ended; over TLS with the certificate of a folder.
///
/// # Errors
/// The address cannot be bound, or there is no usable certificate.
pub(crate) async fn serve(
    listen: SocketAddr,
    delay: Duration,
    tls: Option<&Path>,
) -> anyhow::Result<()> {
    let tls = tls.map(acceptor).transpose()?;
    let listener = TcpListener::bind(listen).await?;
    let requests = Arc::new(AtomicU64::new(0));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (tls, requests) = (tls.clone(), Arc::clone(&requests));
        tokio::spawn(async move {
            match tls {
                // A client may break off its handshake.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        connection(stream, delay, requests).await;
                    }
                }
                None => connection(stream, delay, requests).await,
            }
        });
    }
}

async fn connection<S>(stream: S, delay: Duration, requests: Arc<AtomicU64>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let requests = Arc::clone(&requests);
        async move {
            if request.uri().path() == COUNT_PATH {
                let count = requests.load(Ordering::Relaxed).to_string();
                return Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(count))));
            }
            requests.fetch_add(1, Ordering::Relaxed);
            if !delay.is_zero() {
                sleep(delay).await;
            }
            let mut response = Response::new(Full::new(Bytes::from_static(BODY.as_bytes())));
            let headers = response.headers_mut();
            for (name, value) in [
                ("content-type", "application/json"),
                ("x-amzn-requestid", REQUEST_ID),
            ] {
                headers.insert(name, http::HeaderValue::from_static(value));
            }
            Ok(response)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().pipeline_flush(true);
    builder
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

fn acceptor(folder: &Path) -> anyhow::Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_file(folder.join(CERTIFICATE))?;
    let key = PrivateKeyDer::from_pem_file(folder.join(KEY))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = ["h2", "http/1.1"]
        .map(|name| name.as_bytes().to_vec())
        .to_vec();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Connects without session resumption: a full handshake every time.
pub(crate) fn connector(folder: &Path) -> anyhow::Result<tokio_rustls::TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join(AUTHORITY))?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
}
