//! What a caller is told when something goes wrong on the way, and what was done.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    ports::store::{Changes, Conversations, Messages},
};
use parlance_testkit::{MemoryStore, Stage, Weather};
use tokio::sync::{Notify, Semaphore};

/// Fails on one side of a method's calls, and writes down what it has seen.
struct Storm {
    method: &'static str,
    side: &'static str,
    seen: Mutex<Vec<(&'static str, &'static str)>>,
}

impl Storm {
    fn new(method: &'static str, side: &'static str) -> Arc<Self> {
        Arc::new(Self { method, side, seen: Mutex::default() })
    }

    fn pass(&self, method: &'static str, side: &'static str) -> Result<()> {
        self.seen.lock().expect("nobody panics").push((method, side));
        let fails = (method, side) == (self.method, self.side);
        if fails { Err(Error::unavailable("storm")) } else { Ok(()) }
    }
}

#[async_trait]
impl Weather for Storm {
    async fn before(&self, method: &'static str) -> Result<()> {
        self.pass(method, "before")
    }

    async fn after(&self, method: &'static str) -> Result<()> {
        self.pass(method, "after")
    }
}

/// Lets calls go there, and none come back.
struct Sunk {
    done: Notify,
    never: Semaphore,
}

#[async_trait]
impl Weather for Sunk {
    async fn after(&self, _method: &'static str) -> Result<()> {
        self.done.notify_one();
        self.never.acquire().await.map(drop).map_err(Error::unavailable)
    }
}

#[tokio::test]
async fn what_fails_on_the_way_there_is_not_done() {
    let store = MemoryStore::new();
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let general = stage.team(ada).await.general;
    let before = store.head(general);
    let behind = store.behind(Storm::new("append", "before"));
    let outcome = behind.append(general, vec![stage.draft(ada, "1", "hello")]).await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. })));
    assert_eq!((store.head(general), store.messages(general)), (before, vec![]));
}

/// So a repeat finds it, by the way of a healthy node.
#[tokio::test]
async fn what_fails_on_the_way_back_is_done() {
    let store = MemoryStore::new();
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let general = stage.team(ada).await.general;
    let behind = store.behind(Storm::new("append", "after"));
    let outcome = behind.append(general, vec![stage.draft(ada, "1", "hello")]).await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. })));
    let again = stage.try_send(ada, general, "1", "hello").await.expect("is a duplicate");
    assert_eq!((again.change, store.messages(general)), (None, vec![Stage::message(&again)]));
}

#[tokio::test]
async fn who_dies_on_the_way_back_has_written() {
    let store = MemoryStore::new();
    let stage = Stage::new(store.clone());
    let ada = stage.person("ada").await;
    let general = stage.team(ada).await.general;
    let sunk = Arc::new(Sunk { done: Notify::new(), never: Semaphore::new(0) });
    let (behind, draft) = (store.behind(sunk.clone()), stage.draft(ada, "1", "hello"));
    let task = tokio::spawn(async move { behind.append(general, vec![draft]).await });
    sunk.done.notified().await;
    task.abort();
    assert!(task.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(store.messages(general).len(), 1);
}

/// Other handles have their own weather, and another one replaces it.
#[tokio::test]
async fn a_handle_has_its_own_weather() {
    let store = MemoryStore::new();
    let ada = Stage::new(store.clone()).person("ada").await;
    let gale = Storm::new("snapshot", "before");
    let behind = store.behind(gale.clone());
    assert!(behind.snapshot(ada).await.is_err() && behind.clone().snapshot(ada).await.is_err());
    assert!(behind.changes(None).await.is_ok(), "another method");
    assert!(store.snapshot(ada).await.is_ok());
    assert!(behind.behind(Storm::new("", "")).snapshot(ada).await.is_ok());
    let seen = gale.seen.lock().expect("nobody panics").clone();
    let snapshot = ("snapshot", "before");
    assert_eq!(seen, [snapshot, snapshot, ("changes", "before"), ("changes", "after")]);
}
