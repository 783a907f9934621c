//! The adapter against a real Redis. `PARLANCE_TEST_REDIS_URL` names one; tests that kill a server start their own.

#![expect(clippy::expect_used, clippy::panic, reason = "tests may")]

mod board;
mod bus;
mod jobs;
mod loss;
mod server;

use std::{path::Path, time::Duration};

use deadpool_redis::redis;
use parlance_domain::Timestamp;
use parlance_redis::{RedisBus, RedisJobs, RedisJobsOptions};
use parlance_testkit::contract::{board::BoardStage, jobs::Jobs};
use tokio::time::Instant;

const URL: &str = "PARLANCE_TEST_REDIS_URL";

/// The shared server. Tests keep out of each other's way by [`unique`] prefixes.
fn url() -> String {
    std::env::var(URL).unwrap_or_else(|_| {
        panic!("{URL} is not set: start a redis-server, and set it to redis://127.0.0.1:<port>")
    })
}

/// A prefix that nobody else has.
fn unique() -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let name = dir.path().file_name().and_then(|name| Path::new(name).to_str());
    format!("test{}", name.expect("a name").replace('.', "-"))
}

/// The shared server's clock.
async fn server_time() -> Timestamp {
    let client = redis::Client::open(url()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connects");
    let (secs, micros): (u64, u64) =
        redis::cmd("TIME").query_async(&mut connection).await.expect("answers");
    Timestamp::from_millis(0) + Duration::new(secs, 0) + Duration::from_micros(micros)
}

fn contract_bus() -> RedisBus {
    RedisBus::connect(&url(), &unique()).expect("a URL")
}

/// Jobs whose time is real, but short.
fn contract_jobs() -> (Jobs, ()) {
    let mut jobs =
        Jobs::new(RedisJobs::connect(&url(), jobs::quick(&unique(), "one")).expect("a URL"));
    (jobs.lease, jobs.delay) = (Duration::from_secs(2), Duration::from_secs(1));
    (jobs, ())
}

/// Stalled jobs are seen before they run again.
async fn contract_board() -> (BoardStage, ()) {
    let mut options = jobs::quick(&unique(), "one");
    options.stalled_check = Duration::from_secs(5);
    let queue = RedisJobs::connect(&url(), options).expect("a URL");
    let began = server_time().await;
    let start = Instant::now();
    (BoardStage::new(queue, move || began + start.elapsed()), ())
}

mod contract {
    use super::{contract_board, contract_bus, contract_jobs};

    parlance_testkit::bus_contract!(contract_bus());
    parlance_testkit::job_contract!(contract_jobs());
    parlance_testkit::board_contract!(contract_board().await);
}

#[test]
fn a_malformed_url_is_refused() {
    for url in ["", "127.0.0.1", "http://127.0.0.1"] {
        assert!(RedisBus::connect(url, "a").is_err(), "{url}");
        assert!(RedisJobs::connect(url, RedisJobsOptions::new("a", "one")).is_err(), "{url}");
    }
}
