//! A client's settings: nodes, token, randomness, network.

use std::{fmt, io, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::http::Uri;

use crate::random::{Randomness, SystemRandomness};

/// The settings of a [`Client`](crate::Client). [`Config::new`] has the usual values, for `..` as well.
#[derive(Clone)]
pub struct Config {
    /// The nodes, `ws://host:port` each, tried in turn.
    pub urls: Vec<String>,
    /// Where tokens come from.
    pub token: Arc<dyn TokenSource>,
    /// The client's name, sent to the server.
    pub name: String,
    /// Where jitter and ids come from.
    pub random: Arc<dyn Randomness>,
    /// How to connect to a node.
    pub dial: Arc<dyn Dial>,
    /// The most messages held of one conversation; beyond them the oldest are dropped.
    pub messages_held: usize,
    /// The most sends that may wait for their answer; further ones fail.
    pub sends_waiting: usize,
}

/// Gives access tokens.
pub trait TokenSource: Send + Sync {
    /// Returns a token. `stale` is one that was refused or expires soon, so another is wanted. If there is none yet,
    /// the same may be returned: then a live connection goes on until the token expires, and a client whose token was
    /// refused stops.
    fn token(&self, stale: Option<String>) -> BoxFuture<'static, Result<String, NoToken>>;
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// The client asks again later.
    #[error("there is no token for now")]
    ForNow,
    /// The client stops.
    #[error("there is no token any more")]
    ForGood,
}

/// Always the same token.
#[derive(Clone)]
pub struct FixedToken(pub String);

/// Opens a stream to a node.
pub trait Dial: Send + Sync {
    /// `url` is one of the configured ones.
    fn dial(&self, url: &str) -> BoxFuture<'static, io::Result<Box<dyn Wire>>>;
}

/// A stream to a node.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

/// Plain TCP. No TLS: the reference client talks to nodes, not to the proxy in front of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Config {
    /// The usual settings, over TCP.
    pub fn new(
        urls: impl IntoIterator<Item = impl Into<String>>,
        token: impl TokenSource + 'static,
    ) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            token: Arc::new(token),
            name: env!("CARGO_PKG_NAME").to_owned(),
            random: Arc::new(SystemRandomness),
            dial: Arc::new(Tcp),
            messages_held: 10_000,
            sends_waiting: 1_024,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("urls", &self.urls)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl TokenSource for FixedToken {
    fn token(&self, _stale: Option<String>) -> BoxFuture<'static, Result<String, NoToken>> {
        futures::future::ready(Ok(self.0.clone())).boxed()
    }
}

impl<F, T> TokenSource for F
where
    F: Fn(Option<String>) -> T + Send + Sync,
    T: Future<Output = Result<String, NoToken>> + Send + 'static,
{
    fn token(&self, stale: Option<String>) -> BoxFuture<'static, Result<String, NoToken>> {
        self(stale).boxed()
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Dial for Tcp {
    fn dial(&self, url: &str) -> BoxFuture<'static, io::Result<Box<dyn Wire>>> {
        let place = place(url);
        async move {
            let stream = TcpStream::connect(place?).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        }
        .boxed()
    }
}

/// `host:port` of a URL.
fn place(url: &str) -> io::Result<String> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {why}"));
    let uri: Uri = url.parse().map_err(|_| bad("is no URL"))?;
    if uri.scheme_str() != Some("ws") {
        return Err(bad("is not ws://"));
    }
    let host = uri.host().ok_or_else(|| bad("has no host"))?;
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (url, expected) in [
            ("ws://127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("ws://[::1]:8080/", Some("[::1]:8080")),
            ("ws://chat.example.org", Some("chat.example.org:80")),
            ("wss://chat.example.org", None),
            ("chat.example.org:80", None),
            ("", None),
        ] {
            assert_eq!(place(url).ok().as_deref(), expected, "{url}");
        }
    }
}
