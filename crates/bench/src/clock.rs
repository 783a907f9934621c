//! The two calls that other crates may not make: what is measured here is real time.

use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "there is no runtime here whose worker it would block"
)]
pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}
