//! The floor: the cost of the sockets alone. Reads until the end of a head, writes a fixed
//! response, parses nothing. Also serves as the origin that answers at once.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::origin::{COUNT, answer, count};

const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    /// The start of an incomplete head.
    begun: Vec<u8>,
}

/// Serves until the process is ended.
///
/// # Errors
/// The address cannot be bound.
pub(crate) fn serve(listen: SocketAddr) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(listen)?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free = Vec::new();
    let (canned, mut requests) = (answer(), 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let slot = free.pop().unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    poll.registry()
                        .register(&mut stream, Token(slot), Interest::READABLE)?;
                    let begun = Vec::new();
                    connections[slot] = Some(Connection { stream, begun });
                }
                continue;
            }
            let slot = event.token().0;
            let Some(connection) = &mut connections[slot] else {
                continue;
            };
            if connection
                .serve(&canned, &mut requests, &mut buffer)
                .is_err()
            {
                connections[slot] = None;
                free.push(slot);
            }
        }
    }
}

impl Connection {
    /// Answers the requests that have arrived. An error ends the connection.
    fn serve(&mut self, canned: &[u8], requests: &mut u64, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => &buffer[..read],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let whole = read.ends_with(b"\r\n\r\n");
            if read.starts_with(COUNT) {
                self.stream.write_all(&count(*requests))?;
            } else if whole {
                *requests += 1;
                self.begun.clear();
                // The response is far smaller than the buffer of a socket.
                self.stream.write_all(canned)?;
            } else {
                self.begun.extend_from_slice(read);
                if self.begun.ends_with(b"\r\n\r\n") {
                    *requests += 1;
                    self.begun.clear();
                    self.stream.write_all(canned)?;
                }
            }
            // The buffer was larger than the head, so nothing is left to read; more bytes
            // cause another event.
            if whole {
                return Ok(());
            }
        }
    }
}
