//! A client that says what it wants, byte by byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::within;

pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until the other side closes.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset ends the reading as well; what came before it is what counts.
        within("the connection closes", self.0.read_to_end(&mut bytes))
            .await
            .ok();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads one head, and a body of the length that it declares.
    pub(crate) async fn read_answer(&mut self) -> String {
        let mut bytes = Vec::new();
        within("an answer", async {
            while !is_whole(&bytes) {
                assert_ne!(self.0.read_buf(&mut bytes).await.unwrap(), 0, "{bytes:?}");
            }
        })
        .await;
        String::from_utf8(bytes).unwrap()
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length:")?
            .trim()
            .parse::<usize>()
            .ok()
    });
    bytes.len() >= head.len() + 4 + length.unwrap_or(0)
}
