//! Several nodes, clients, a store and a bus in one process under a paused clock and a seed: whatever fails, every
//! acknowledged message reaches every member once, in one order.
//!
//! `make simulate SEEDS=100000` plays more of them; `SEED=7 make simulate` plays one and prints its trace.
#![expect(clippy::expect_used, reason = "tests may")]

mod bus;
mod chance;
mod client;
mod judge;
mod node;
mod world;

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
};

use world::run;

/// How many seeds are played by default.
const SEEDS: u64 = 200;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order() {
    if let Some(seed) = setting("PARLANCE_SEED") {
        let outcome = run(seed);
        println!("{}", outcome.trace.join("\n"));
        assert_eq!(outcome.broken, [""; 0], "seed {seed}");
        return;
    }
    let (from, seeds) =
        (setting("PARLANCE_FROM_SEED").unwrap_or(1), setting("PARLANCE_SEEDS").unwrap_or(SEEDS));
    let (next, messages) = (AtomicU64::new(from), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    let outcome = run(seed);
                    messages.fetch_add(outcome.messages, Ordering::Relaxed);
                    if !outcome.broken.is_empty() {
                        // The others need not continue.
                        next.store(from + seeds, Ordering::Relaxed);
                        let last = outcome.trace.len().saturating_sub(60);
                        println!("… {}", outcome.trace[last..].join("\n"));
                        panic!(
                            "seed {seed} is broken; PARLANCE_SEED={seed} plays it again with its whole trace:\n{}",
                            outcome.broken.join("\n")
                        );
                    }
                }
            });
        }
    });
    let messages = messages.into_inner();
    println!("{seeds} runs, {messages} messages");
    assert!(messages as u64 > 50 * seeds, "too little happened: {messages} messages");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 11] {
        let (one, two) = (run(seed), run(seed));
        let differ = one.trace.iter().zip(&two.trace).find(|(one, two)| one != two);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(one.trace.len(), two.trace.len(), "seed {seed}");
    }
}
