//! A relay that makes an address look far away: it delays every byte, and the first ones
//! by the TCP handshake, which takes no time on loopback.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Pieces in transit: more than a delay of some milliseconds ever holds.
const UNDER_WAY: usize = 1024;

/// Serves until the process is ended. `delay` is for one way.
///
/// # Errors
/// The address cannot be bound.
pub(crate) async fn serve(listen: SocketAddr, to: SocketAddr, delay: Duration) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (near, _) = listener.accept().await?;
        let accepted = Instant::now();
        tokio::spawn(async move {
            let far = TcpStream::connect(to).await?;
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            // SYN and SYN-ACK pass before the first byte may leave.
            let there = carry(near_in, far_out, accepted + 2 * delay, delay);
            let back = carry(far_in, near_out, accepted, delay);
            tokio::try_join!(there, back)
        });
    }
}

/// Relays bytes one way until the end of the stream.
async fn carry(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    not_before: Instant,
    delay: Duration,
) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let read = async move {
        loop {
            let mut piece = Vec::with_capacity(16 * 1024);
            if from.read_buf(&mut piece).await? == 0 {
                return io::Result::Ok(());
            }
            let due = Instant::now().max(not_before) + delay;
            if sender.send((due, piece)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(drop)
}
