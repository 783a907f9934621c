//! What nodes share through Redis: [`RedisBus`] carries events between them, [`RedisJobs`] is their job queue.
//!
//! Neither needs Redis to be there when it is made, and both recover by themselves when it comes back.

mod board;
mod bus;
mod connection;
mod jobs;
mod publisher;
mod subscription;
mod wire;

pub use bus::RedisBus;
pub use jobs::{RedisJobs, RedisJobsOptions};
