//! How failures on real sockets are classified, and where their source chains end.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::BodyExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{AlertDescription, ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::causes::chain;
use super::*;
use crate::body;
use crate::upstream::connector::Connector;
use crate::upstream::pool::Pool;

/// No step takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn for_localhost() -> CertificateParams {
    CertificateParams::new(vec!["localhost".to_owned()]).unwrap()
}

/// Accepts TLS with HTTP/2, with a certificate that `authority` signs.
fn acceptor(authority: &Authority, certificate: CertificateParams) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let certificate = certificate.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// A client that trusts `authority`, if any, and waits `connect_timeout`.
fn pool(authority: Option<&Authority>, connect_timeout: Duration) -> Arc<Pool> {
    let mut roots = RootCertStore::empty();
    if let Some(authority) = authority {
        roots.add(authority.der().clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(Pool::new(Connector::new(tls, connect_timeout), PATIENCE, 1))
}

/// Makes one call, which fails.
async fn call(pool: &Arc<Pool>, uri: &str) -> Failure {
    let mut request = Request::new(body::whole(Bytes::new()));
    *request.uri_mut() = uri.parse::<Uri>().unwrap();
    let call = async {
        let body = pool.request(&mut request).await?.into_body();
        let read = body.collect().await;
        read.map_err(|error| Failure::reading_body(error.into()))
    };
    let outcome = timeout(PATIENCE, call).await.expect("an outcome in time");
    outcome.expect_err("a failure")
}

/// Calls an upstream that treats its one connection as `serve` does.
async fn served<F: Future>(
    pool: &Arc<Pool>,
    scheme: &str,
    serve: impl FnOnce(TcpStream) -> F,
) -> Failure {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let uri = format!("{scheme}://localhost:{port}/");
    let serving = async { serve(listener.accept().await.unwrap().0).await };
    let failing = call(pool, &uri);
    tokio::pin!(serving, failing);
    tokio::select! {
        failure = &mut failing => failure,
        _ = &mut serving => failing.await,
    }
}

/// The same over HTTP/2, where `serve` is called once a request has come.
async fn served_http2<F: Future>(serve: impl FnOnce(TlsStream<TcpStream>) -> F) -> Failure {
    let authority = authority("trusted");
    let acceptor = acceptor(&authority, for_localhost());
    let pool = pool(Some(&authority), PATIENCE);
    served(&pool, "https", |stream| async move {
        let mut stream = acceptor.accept(stream).await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, &[])).await.unwrap();
        stream.read_exact(&mut [0; 24]).await.unwrap();
        while read_frame_type(&mut stream).await != HEADERS {}
        serve(stream).await
    })
    .await
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// An HTTP/2 frame; flag 4 is END_HEADERS (RFC 9113 §4.1).
fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let flags = if kind == HEADERS { 4 } else { 0 };
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

async fn read_frame_type(stream: &mut (impl AsyncRead + Unpin)) -> u8 {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.unwrap();
    head[3]
}

async fn read_request(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.unwrap() > 0, "a request");
    }
}

/// Ends a connection with a TCP reset.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

/// Checks the class of a failure, and returns the root of its chain.
#[track_caller]
fn root<T: StdError + 'static>(failure: &Failure, kind: Kind, error_type: ErrorType) -> &T {
    assert_eq!((failure.kind, failure.error_type), (kind, error_type));
    let root = chain(failure).last().unwrap();
    root.downcast_ref().unwrap_or_else(|| panic!("{root:?}"))
}

/// The same, where the operating system's error is inside the root's wrapper.
#[track_caller]
fn io_kind(failure: &Failure, kind: Kind, error_type: ErrorType) -> io::ErrorKind {
    assert_eq!((failure.kind, failure.error_type), (kind, error_type));
    find::<io::Error>(failure).unwrap().kind()
}

fn unused_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_refused_connection() {
    let failure = call(
        &pool(None, PATIENCE),
        &format!("http://{}/", unused_address()),
    )
    .await;
    let root: &io::Error = root(&failure, Kind::Connect, ErrorType::ConnectionRefused);
    assert_eq!(root.kind(), io::ErrorKind::ConnectionRefused);
    let error = failure.into_error(Region::Eu);
    assert_eq!(
        error.to_string(),
        "alexa-gateway: upstream eu: connection refused"
    );
    assert!(error.source().is_some());
}

#[tokio::test]
async fn a_host_name_that_does_not_resolve() {
    // No resolver accepts a label of more than 63 octets (RFC 1035 §2.3.4).
    let name = "a".repeat(64);
    let failure = call(&pool(None, PATIENCE), &format!("http://{name}.invalid/")).await;
    assert_eq!(
        (failure.kind, failure.error_type),
        (Kind::Dns, ErrorType::DnsError)
    );
    let lookup: &ResolveError = find(&failure).unwrap();
    assert!(lookup.source().unwrap().is::<io::Error>());
}

#[test]
fn a_lookup_that_takes_too_long() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    // With the one thread for lookups busy, none completes.
    let (release, busy) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || busy.recv());
    let pool = pool(None, Duration::from_millis(20));
    let failure = runtime.block_on(call(&pool, "http://localhost/"));
    drop(release);
    let _: &Elapsed = root(&failure, Kind::ConnectTimeout, ErrorType::DnsTimeout);
}

#[tokio::test]
async fn a_connection_that_takes_too_long() {
    let silent = |mut stream: TcpStream| async move {
        // It ends when the client gives up.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    };
    let pool = pool(None, Duration::from_millis(200));
    let failure = served(&pool, "https", silent).await;
    let _: &Elapsed = root(&failure, Kind::ConnectTimeout, ErrorType::ConnectionTimeout);
}

#[tokio::test]
async fn certificates_that_do_not_verify() {
    let (trusted, unknown) = (authority("trusted"), authority("unknown"));
    let mut expired = for_localhost();
    expired.not_before = date_time_ymd(2001, 1, 1);
    expired.not_after = date_time_ymd(2002, 1, 1);
    let other = CertificateParams::new(vec!["example.org".to_owned()]).unwrap();
    for (authority, certificate, details) in [
        (
            &unknown,
            for_localhost(),
            "certificate from an unknown authority",
        ),
        (&trusted, expired, "certificate expired"),
        (&trusted, other, "certificate for another name"),
    ] {
        let acceptor = acceptor(authority, certificate);
        let pool = pool(Some(&trusted), PATIENCE);
        let failure = served(&pool, "https", |stream| acceptor.accept(stream)).await;
        let root: &rustls::Error = root(&failure, Kind::Tls, ErrorType::TlsCertificateError);
        assert!(matches!(root, rustls::Error::InvalidCertificate(_)));
        assert_eq!(failure.to_string(), details);
    }
}

#[tokio::test]
async fn bytes_that_are_not_tls_and_a_tls_alert() {
    let send = |bytes: &'static [u8]| async move {
        let serve = |mut stream: TcpStream| async move {
            stream.write_all(bytes).await.unwrap();
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        };
        served(&pool(None, PATIENCE), "https", serve).await
    };
    let failure = send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let _: &rustls::Error = root(&failure, Kind::Tls, ErrorType::TlsProtocolError);
    let alert = AlertDescription::HandshakeFailure;
    // A fatal alert (RFC 8446 §6).
    let failure = send(&[21, 3, 3, 0, 2, 2, 40]).await;
    let root: &rustls::Error = root(&failure, Kind::Tls, ErrorType::TlsAlertReceived(alert));
    assert_eq!(*root, rustls::Error::AlertReceived(alert));
}

#[tokio::test]
async fn a_connection_that_closes_in_the_handshake() {
    let pool = pool(None, PATIENCE);
    let failure = served(&pool, "https", async |stream| reset(stream)).await;
    let kind = io_kind(&failure, Kind::Connect, ErrorType::ConnectionTerminated);
    assert_eq!(kind, io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_connection_that_ends_before_the_head() {
    let pool = pool(None, PATIENCE);
    let terminated = ErrorType::ConnectionTerminated;
    let failure = served(&pool, "http", async |mut stream| {
        read_request(&mut stream).await;
        reset(stream);
    })
    .await;
    let kind = io_kind(&failure, Kind::AnswerLost, terminated);
    assert_eq!(kind, io::ErrorKind::ConnectionReset);
    let failure = served(&pool, "http", async |mut stream| {
        read_request(&mut stream).await;
    })
    .await;
    let root: &hyper::Error = root(&failure, Kind::AnswerLost, terminated);
    assert!(root.is_incomplete_message());
}

#[tokio::test]
async fn a_response_that_is_cut_off_or_malformed() {
    let pool = pool(None, PATIENCE);
    let respond = |response: &'static str, with_reset: bool| {
        let pool = &pool;
        async move {
            served(pool, "http", async |mut stream| {
                read_request(&mut stream).await;
                stream.write_all(response.as_bytes()).await.unwrap();
                if with_reset {
                    reset(stream);
                }
            })
            .await
        }
    };
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe";
    for (with_reset, expected) in [
        (false, io::ErrorKind::UnexpectedEof),
        (true, io::ErrorKind::ConnectionReset),
    ] {
        let failure = respond(half, with_reset).await;
        let incomplete = ErrorType::HttpResponseIncomplete;
        assert_eq!(io_kind(&failure, Kind::AnswerLost, incomplete), expected);
    }
    let no_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n";
    let failure = respond(no_chunk, false).await;
    let coding = ErrorType::HttpResponseTransferCoding;
    io_kind(&failure, Kind::AnswerLost, coding);
    let failure = respond("220 mail.example.org ESMTP\r\n\r\n", false).await;
    let malformed = ErrorType::HttpProtocolError;
    let root: &hyper::Error = root(&failure, Kind::AnswerLost, malformed);
    assert!(root.is_parse());
}

#[tokio::test]
async fn an_http2_stream_that_is_reset() {
    let incomplete = ErrorType::HttpResponseIncomplete;
    for (head, reason, error_type) in [
        (&[][..], Reason::INTERNAL_ERROR, incomplete),
        (&frame(HEADERS, 1, &[0x88]), Reason::CANCEL, incomplete),
        (&[], Reason::PROTOCOL_ERROR, ErrorType::HttpProtocolError),
    ] {
        let failure = served_http2(async |mut stream| {
            let code = u32::from(reason).to_be_bytes();
            let frames = [head, &frame(RST_STREAM, 1, &code)].concat();
            stream.write_all(&frames).await.unwrap();
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        })
        .await;
        let root: &h2::Error = root(&failure, Kind::AnswerLost, error_type);
        assert!(root.is_reset() && root.is_remote());
        assert_eq!(root.reason(), Some(reason));
    }
}

#[tokio::test]
async fn an_http2_connection_that_goes_away_and_what_it_said_is_not_told() {
    let failure = served_http2(async |mut stream| {
        let secret = [&[0, 0, 0, 0, 0, 0, 0, 11][..], b"a secret"].concat();
        let goaway = frame(GOAWAY, 0, &secret);
        stream.write_all(&goaway).await.unwrap();
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let terminated = ErrorType::ConnectionTerminated;
    let root: &h2::Error = root(&failure, Kind::AnswerLost, terminated);
    assert!(root.is_go_away());
    let causes = failure.causes().to_string();
    assert_eq!(causes, "http2 error: GOAWAY received: ENHANCE_YOUR_CALM");
}
