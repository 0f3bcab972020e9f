//! The calls of the load: token and operation, as the bytes of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use alexa_gateway::lab::mock::TokenSpec;

/// The operations of the Person Profile API that a skill calls.
const OPERATIONS: [&str; 3] = ["name", "givenName", "mobileNumber"];

/// Tokens of real size: 1,850 bytes, all different, valid for longer than the bench
/// takes.
pub(crate) struct Tokens(Vec<Box<str>>);

impl Tokens {
    /// Mints the tokens of this many entries, one entry per token and operation.
    pub(crate) fn for_entries(entries: u64) -> Arc<Self> {
        let hours = Duration::from_secs(6 * 3600);
        Self::valid_until(SystemTime::now() + hours, entries)
    }

    /// Mints tokens that all expire at `end`, rounded down to a second.
    pub(crate) fn valid_until(end: SystemTime, entries: u64) -> Arc<Self> {
        let spec = TokenSpec {
            lifetime: Duration::ZERO,
            issued_at: end,
            ..TokenSpec::default()
        };
        let count = entries.div_ceil(OPERATIONS.len() as u64);
        Arc::new(Self((0..count).map(|_| spec.mint().into()).collect()))
    }
}

/// The order of the calls.
enum Order {
    /// Every entry in turn.
    Each,
    /// A random entry.
    Any,
    /// A new token for each call: the end of a minted one is replaced by a number.
    Never,
    /// Always the same new token.
    Same(u64),
}

/// Calls that any number of connections take in turn.
pub(crate) struct Calls {
    tokens: Arc<Tokens>,
    entries: u64,
    order: Order,
    first: u64,
    next: AtomicU64,
}

impl Calls {
    /// Calls for each entry in turn, to fill a cache.
    pub(crate) fn each(tokens: &Arc<Tokens>, entries: u64) -> Arc<Self> {
        Self::new(tokens, entries, Order::Each, 0)
    }

    /// Calls for any of the entries.
    pub(crate) fn any(tokens: &Arc<Tokens>, entries: u64) -> Arc<Self> {
        Self::new(tokens, entries, Order::Any, 0)
    }

    /// Calls that miss every cache.
    pub(crate) fn never(tokens: &Arc<Tokens>) -> Arc<Self> {
        Self::new(tokens, 0, Order::Never, fastrand::u64(..))
    }

    /// The same call again and again; the first is a miss.
    pub(crate) fn same(tokens: &Arc<Tokens>) -> Arc<Self> {
        Self::new(tokens, 0, Order::Same(fastrand::u64(..)), 0)
    }

    fn new(tokens: &Arc<Tokens>, entries: u64, order: Order, first: u64) -> Arc<Self> {
        Arc::new(Self {
            tokens: Arc::clone(tokens),
            entries,
            order,
            first,
            next: AtomicU64::new(first),
        })
    }

    /// The number of calls taken so far.
    pub(crate) fn made(&self) -> u64 {
        self.next.load(Ordering::Relaxed).wrapping_sub(self.first)
    }

    /// Writes the next request to `out`, which it empties first.
    pub(crate) fn write_next(&self, out: &mut Vec<u8>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match self.order {
            Order::Each => self.write(number % self.entries, None, out),
            Order::Any => self.write(fastrand::u64(..self.entries), None, out),
            Order::Never => self.write(number, Some(number), out),
            Order::Same(number) => self.write(number, Some(number), out),
        }
    }

    fn write(&self, entry: u64, ending: Option<u64>, out: &mut Vec<u8>) {
        let operation = OPERATIONS[(entry % 3) as usize];
        let token = &self.tokens.0[(entry / 3) as usize % self.tokens.0.len()];
        out.clear();
        out.extend_from_slice(b"GET /v2/persons/~current/profile/");
        out.extend_from_slice(operation.as_bytes());
        out.extend_from_slice(
            b" HTTP/1.1\r\nHost: api.amazonalexa.com\r\nAccept: application/json\r\n\
              User-Agent: ask-node-model/1.86.0 Node/v22\r\nAuthorization: Bearer ",
        );
        out.extend_from_slice(token.as_bytes());
        if let Some(ending) = ending {
            // Six bits per letter, so that it stays base64.
            let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let from = out.len() - 11;
            for (at, letter) in out[from..].iter_mut().enumerate() {
                *letter = letters[(ending >> (6 * at)) as usize & 63];
            }
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}
