//! The transport's metrics, under the names operators know. The process renders them at `/metrics`.

use std::{sync::LazyLock, time::Duration};

use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use parlance_application::Sent;

const MESSAGES: &str = "parlance_messages_total";
const SEND: &str = "parlance_send_seconds";
const SOCKETS: &str = "parlance_sockets";
const DROPPED: &str = "parlance_dropped_frames_total";
const SLOW: &str = "parlance_slow_consumers_total";
const REQUESTS: &str = "parlance_http_requests_total";
const REQUEST: &str = "parlance_http_request_seconds";
const ERRORS: &str = "parlance_errors_total";

/// Describes each metric.
pub fn describe_figures() {
    describe_counter!(MESSAGES, "New messages whose sender this node has answered");
    describe_histogram!(SEND, Unit::Seconds, "From a socket's message.send to its answer");
    describe_gauge!(SOCKETS, "WebSockets that are open");
    describe_counter!(DROPPED, "Typing events, pings and pongs that a slow reader was not sent");
    describe_counter!(SLOW, "Sockets that were closed because they did not read (4001)");
    describe_counter!(REQUESTS, "HTTP requests, by method, route and status");
    describe_histogram!(REQUEST, Unit::Seconds, "From a request's head to its answer, by route");
    describe_counter!(ERRORS, "Refusals and failures by REST and sockets, by the contract's code");
    // Metrics that nothing has touched yet are 0 instead of missing.
    let _ = (&*MESSAGES_SENT, &*SENDS);
    gauge!(SOCKETS).increment(0);
    counter!(DROPPED).increment(0);
    counter!(SLOW).increment(0);
}

/// Looked up once: there may be tens of thousands of uses a second.
static MESSAGES_SENT: LazyLock<Counter> = LazyLock::new(|| counter!(MESSAGES));
static SENDS: LazyLock<Histogram> = LazyLock::new(|| histogram!(SEND));

/// Counts a message, unless it was sent before.
pub(crate) fn sent(sent: &Sent) {
    if !sent.duplicate {
        MESSAGES_SENT.increment(1);
    }
}

pub(crate) fn send_answered(took: Duration) {
    SENDS.record(took);
}

pub(crate) fn socket_opened() {
    gauge!(SOCKETS).increment(1);
}

pub(crate) fn socket_ended() {
    gauge!(SOCKETS).decrement(1);
}

pub(crate) fn frame_dropped() {
    counter!(DROPPED).increment(1);
}

pub(crate) fn slow_consumer() {
    counter!(SLOW).increment(1);
}

/// `method` and `route` must be from a bounded set, whatever clients send.
pub(crate) fn request_answered(method: &'static str, route: String, status: u16, took: Duration) {
    histogram!(REQUEST, "route" => route.clone()).record(took);
    let status = status.to_string();
    counter!(REQUESTS, "method" => method, "route" => route, "status" => status).increment(1);
}

pub(crate) fn refused(code: &'static str) {
    counter!(ERRORS, "code" => code).increment(1);
}
