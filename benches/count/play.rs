//! The caller of the gateway and the origin behind it, in one process.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use alexa_gateway::lab::mock::TokenSpec;
use anyhow::{Context as _, bail};
use clap::ValueEnum as _;

/// Which calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Calls {
    /// Calls for stored responses.
    Hits,
    /// Calls with a new token each.
    Misses,
}

const TOKENS: usize = 8;
const OPERATIONS: [&str; 3] = ["name", "givenName", "mobileNumber"];
/// Longer than any call takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// The response of the origin.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
    Content-Length: 19\r\nx-amzn-requestid: 0f6c1b2a-93d4-4c1e-8f57-2b7d9a3e4c10\r\n\r\n\
    {\"name\":\"Jane Doe\"}";

/// The arguments that give this program a role.
pub(crate) fn arguments(role: &str, calls: Calls, count: usize) -> [String; 6] {
    let calls = calls.to_possible_value();
    let calls = calls.map_or_else(String::new, |calls| calls.get_name().to_owned());
    let count = count.to_string();
    let flags = ["--role", role, "--calls", &calls, "--count", &count];
    flags.map(str::to_owned)
}

/// Prints the address of the origin, reads that of the gateway, and makes the calls.
#[expect(clippy::print_stdout, reason = "how two processes find each other")]
pub(crate) fn play(calls: Calls, count: usize) -> anyhow::Result<()> {
    let origin = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", origin.local_addr()?);
    thread::spawn(move || serve(&origin));
    let mut gateway = String::new();
    io::stdin().read_line(&mut gateway)?;
    let gateway: SocketAddr = gateway.trim().parse().context("the gateway's address")?;
    let mut caller = Caller::connect(gateway)?;
    if calls == Calls::Misses {
        return (0..count).try_for_each(|_| caller.call(&fresh()[0], b"fwd=miss"));
    }
    let known: Vec<_> = (0..TOKENS).flat_map(|_| fresh()).collect();
    known
        .iter()
        .try_for_each(|it| caller.call(it, b"fwd=miss"))?;
    let mut asked = known.iter().cycle().take(count);
    asked.try_for_each(|it| caller.call(it, b"; hit;"))
}

struct Caller {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Caller {
    fn connect(gateway: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(gateway)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let answer = vec![0; 16 * 1024];
        Ok(Self { stream, answer })
    }

    /// Makes one call, and checks what the cache did by `Cache-Status`.
    fn call(&mut self, request: &[u8], cache: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request)?;
        // The gateway sends a response in one write, so one read gets it.
        let length = self.stream.read(&mut self.answer)?;
        let answer = &self.answer[..length];
        if answer.starts_with(b"HTTP/1.1 200") && memchr::memmem::find(answer, cache).is_some() {
            return Ok(());
        }
        bail!("{}", String::from_utf8_lossy(answer))
    }
}

/// The requests of a skill with a new token of real size.
fn fresh() -> [Vec<u8>; 3] {
    let spec = TokenSpec {
        lifetime: Duration::from_secs(6 * 3600),
        ..TokenSpec::default()
    };
    let token = spec.mint();
    OPERATIONS.map(|operation| {
        format!(
            "GET /v2/persons/~current/profile/{operation} HTTP/1.1\r\n\
             Host: api.amazonalexa.com\r\nAccept: application/json\r\n\
             User-Agent: ask-node-model/1.86.0 Node/v22\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        )
        .into_bytes()
    })
}

/// Answers every request until the process ends.
fn serve(origin: &TcpListener) {
    for mut stream in origin.incoming().flatten() {
        thread::spawn(move || -> io::Result<()> {
            stream.set_nodelay(true)?;
            let (mut begun, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
            loop {
                let read = stream.read(&mut buffer)?;
                if read == 0 {
                    return Ok(());
                }
                begun.extend_from_slice(&buffer[..read]);
                if begun.ends_with(b"\r\n\r\n") {
                    begun.clear();
                    stream.write_all(ANSWER)?;
                }
            }
        });
    }
}
