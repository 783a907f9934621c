//! Drops a connection whose peer keeps the server waiting.
//!
//! actix-http limits the time for the head of a connection's first request, and for the pause between requests. It
//! leaves a connection open whose peer stops within a later request, or does not read an answer.
//!
//! 1. From the first byte that comes after an answer, the next answer has to begin in time: that includes the request,
//!    however slowly its bytes drip in (`who_stops_in_the_middle_of_a_request_is_given_up`).
//! 2. An answer has to make progress: each piece the peer takes starts the time over (`who_does_not_read_is_given_up`).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// See the module's description. Its errors are of the kind `TimedOut`.
pub(crate) struct Watchdog<T> {
    io: T,
    patience: Duration,
    /// Only while the peer keeps the server waiting: a timer waking an idle connection would restart actix-http's
    /// keep-alive.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> Watchdog<T> {
    pub(crate) fn new(io: T, patience: Duration) -> Self {
        Self { io, patience, timer: None }
    }

    /// The connection, no longer watched.
    pub(crate) fn into_inner(self) -> T {
        self.io
    }

    fn begin(&mut self) {
        self.timer.get_or_insert_with(|| Box::pin(sleep(self.patience)));
    }

    /// Pending, or an error once it has taken too long.
    fn poll_patience<R>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watchdog<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_pending() {
            return self.poll_patience(cx);
        }
        if buf.filled().len() > before {
            self.begin();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watchdog<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        if written.is_pending() {
            self.begin();
            return self.poll_patience(cx);
        }
        self.timer = None;
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn who_stops_in_the_middle_of_a_request_is_given_up() {
        let (ours, mut theirs) = duplex(64);
        let mut ours = Watchdog::new(ours, PATIENCE);
        let mut byte = [0];
        for _ in 0..2 {
            theirs.write_all(b"r").await.expect("written");
            ours.read_exact(&mut byte).await.expect("read");
            ours.write_all(b"a").await.expect("answered");
        }
        let answered = Instant::now();
        let drip = async {
            tokio::time::sleep(PATIENCE).await;
            loop {
                theirs.write_all(b"r").await.expect("written");
                tokio::time::sleep(PATIENCE / 7).await;
            }
        };
        let read = async {
            loop {
                if let Err(error) = ours.read_exact(&mut byte).await {
                    return error.kind();
                }
            }
        };
        let ended = tokio::select! { ended = read => ended, () = drip => unreachable!() };
        assert_eq!(ended, io::ErrorKind::TimedOut);
        // A pause between two requests is not its concern.
        assert_eq!(answered.elapsed().as_secs(), 2 * PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_given_up() {
        let (ours, mut theirs) = duplex(1);
        let mut ours = Watchdog::new(ours, PATIENCE);
        let begun = Instant::now();
        let slow = async {
            for _ in 0..3 {
                tokio::time::sleep(PATIENCE / 2).await;
                theirs.read_u8().await.expect("read");
            }
            std::future::pending::<()>().await;
        };
        let answer = ours.write_all(b"an answer");
        let answered =
            tokio::select! { answered = answer => answered, () = slow => unreachable!() };
        assert_eq!(answered.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs() * 5 / 2);
    }
}
