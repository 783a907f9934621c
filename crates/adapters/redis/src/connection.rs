//! Connections to Redis: timeouts, so that a hung server is noticed, and the pace of reconnecting.

use std::{fmt, time::Duration};

use deadpool_redis::{
    Manager, Pool, Runtime,
    redis::{AsyncConnectionConfig, Client, ProtocolVersion, RedisResult},
};
use parlance_application::{Error, Result};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Concurrent commands through the pool.
const POOL: usize = 4;

fn unavailable(error: impl fmt::Display) -> Error {
    Error::unavailable(format_args!("redis: {error}"))
}

/// A client that speaks RESP3, in which replies and pushed messages share a connection. Fails only on a bad URL.
pub(crate) fn client(url: &str) -> Result<Client> {
    let bad = |error| Error::internal(format_args!("the Redis URL is not valid: {error}"));
    let info = Client::open(url).map_err(bad)?.get_connection_info().clone();
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Client::open(info.set_redis_settings(settings)).map_err(bad)
}

pub(crate) fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(ANSWER))
}

/// Shared connections for single commands.
pub(crate) fn pool(client: &Client) -> Result<Pool> {
    let manager = Manager::new_with_config(client.get_connection_info().clone(), config())
        .map_err(unavailable)?;
    Pool::builder(manager)
        .max_size(POOL)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(ANSWER))
        .create_timeout(Some(CONNECT))
        .recycle_timeout(Some(ANSWER))
        .build()
        .map_err(Error::internal)
}

/// Asks for a sign of life.
pub(crate) async fn ping(pool: &Pool) -> Result<()> {
    let mut connection = pool.get().await.map_err(unavailable)?;
    let answer: RedisResult<()> =
        deadpool_redis::redis::cmd("PING").query_async(&mut connection).await;
    answer.map_err(unavailable)
}

/// The waits between attempts to connect: each is twice as long as the last, up to a limit.
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(2);

    pub(crate) const fn new() -> Self {
        Self(Self::FIRST)
    }

    pub(crate) const fn reset(&mut self) {
        self.0 = Self::FIRST;
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}
