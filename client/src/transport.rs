//! The way to the network, so that tests can put scripted peers in its place.

#[cfg_attr(
    not(all(feature = "tls", any(target_arch = "x86_64", target_arch = "aarch64"))),
    path = "transport/without_tls.rs"
)]
mod tls;

pub(crate) use tls::{Tls, security_error};

use socket2::{SockRef, TcpKeepalive};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Probes begin when nothing was heard for so long: a peer that vanished is found (line 47).
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
/// Between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Sent bytes may stay unacknowledged for so long. No shorter than `request.timeout.ms` is by
/// default: a broker that enforces a quota stops reading, and that alone must not end a connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Looks hosts up and opens byte streams.
pub(crate) trait Transport: Clone + Send + Sync + 'static {
    /// What is received.
    type Read: AsyncRead + Unpin + Send;
    /// Where to send.
    type Write: AsyncWrite + Unpin + Send;

    /// Every address of `host`, which may be an IP literal, in the resolver's order.
    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Opens a stream to `address`, which `host` was resolved to.
    fn connect(
        &self,
        address: SocketAddr,
        host: &str,
    ) -> impl Future<Output = io::Result<(Self::Read, Self::Write)>> + Send;
}

/// The host's own network, bare or secured. It is one type, with streams as objects, so that a program
/// has what drives connections once.
#[derive(Clone)]
pub(crate) enum Network {
    Plain(Tcp),
    Secured(Tls),
}

impl Transport for Network {
    type Read = Box<dyn AsyncRead + Unpin + Send>;
    type Write = Box<dyn AsyncWrite + Unpin + Send>;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Tcp.resolve(host, port).await
    }

    async fn connect(
        &self,
        address: SocketAddr,
        host: &str,
    ) -> io::Result<(Self::Read, Self::Write)> {
        match self {
            Self::Plain(tcp) => {
                let (read, write) = tcp.connect(address, host).await?;
                Ok((Box::new(read), Box::new(write)))
            }
            Self::Secured(tls) => {
                let (read, write) = tls.connect(address, host).await?;
                Ok((Box::new(read), Box::new(write)))
            }
        }
    }
}

/// The host's own TCP and resolver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tcp;

impl Transport for Tcp {
    type Read = OwnedReadHalf;
    type Write = OwnedWriteHalf;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        // IPv6 literals come in the brackets of host:port; the resolver wants them bare.
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let found = tokio::net::lookup_host((bare.unwrap_or(host), port)).await?;
        Ok(found.collect())
    }

    async fn connect(
        &self,
        address: SocketAddr,
        _host: &str,
    ) -> io::Result<(OwnedReadHalf, OwnedWriteHalf)> {
        Ok(self.open(address).await?.into_split())
    }
}

impl Tcp {
    async fn open(self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        if is_self_connection(stream.local_addr()?, stream.peer_addr()?) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "nothing listens there: the connection met itself",
            ));
        }
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_TIME)
            .with_interval(KEEPALIVE_INTERVAL);
        socket.set_tcp_keepalive(&keepalive)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
        Ok(stream)
    }
}

/// Connecting to a dead port of this host's ephemeral range can be given that very port as its own:
/// TCP's simultaneous open then connects the socket to itself, and it would answer with an echo.
fn is_self_connection(local: SocketAddr, peer: SocketAddr) -> bool {
    local == peer
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    #[tokio::test]
    async fn lines_46_and_47_sockets_do_not_delay_and_notice_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (read, _write) = Tcp.connect(address, "localhost").await.unwrap();
        let stream: &TcpStream = read.as_ref();
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_TIME);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(TCP_USER_TIMEOUT));
    }

    #[tokio::test]
    async fn a_socket_that_met_itself_is_seen() {
        // Bound first and connected to its own address: the simultaneous open, forced.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        assert!(is_self_connection(
            stream.local_addr().unwrap(),
            stream.peer_addr().unwrap()
        ));
    }

    #[tokio::test]
    async fn line_43_literals_of_both_families_resolve_with_or_without_brackets() {
        for (host, address) in [
            ("127.0.0.1", "127.0.0.1:9092"),
            ("::1", "[::1]:9092"),
            ("[::1]", "[::1]:9092"),
        ] {
            let found = Tcp.resolve(host, 9092).await.unwrap();
            assert_eq!(found, [address.parse().unwrap()], "{host}");
        }
    }
}
