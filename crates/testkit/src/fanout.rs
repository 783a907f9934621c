//! A fan-out that records, and waits for what a test expects.

use std::sync::Arc;

use async_trait::async_trait;
use parlance_application::{
    live::Frame,
    ports::{Close, ConnectionId, Delivery, Fanout, Urgency},
};
use serde_json::Value;
use tokio::sync::watch;

use crate::PATIENCE;

/// Records what would go to sockets. Clones share the record.
#[derive(Debug, Clone)]
pub struct RecordingFanout {
    records: Arc<watch::Sender<Vec<Record>>>,
    held: Arc<watch::Sender<bool>>,
}

/// One call of the fan-out.
#[derive(Debug, Clone)]
pub enum Record {
    /// A frame was delivered.
    Frame {
        /// The connections that got it.
        to: Arc<[ConnectionId]>,
        /// The JSON object.
        frame: Value,
        /// Whether it may be dropped.
        urgency: Urgency,
        /// The same for frames that came in one call.
        call: usize,
    },
    /// A connection was closed.
    Close {
        /// The connection that was closed.
        connection: ConnectionId,
        /// Why.
        close: Close,
    },
}

impl Default for RecordingFanout {
    fn default() -> Self {
        let records = Arc::new(watch::Sender::new(Vec::new()));
        Self { records, held: Arc::new(watch::Sender::new(false)) }
    }
}

impl RecordingFanout {
    /// Everything so far, in order.
    pub fn records(&self) -> Vec<Record> {
        self.records.borrow().clone()
    }

    /// The frames that one connection was sent, in order.
    pub fn frames(&self, connection: ConnectionId) -> Vec<Value> {
        frames(&self.records.borrow(), connection)
    }

    /// How many frames for a connection came together, for each call that brought any.
    pub fn together(&self, connection: ConnectionId) -> Vec<usize> {
        let records = self.records.borrow();
        let calls: Vec<_> = records
            .iter()
            .filter_map(|record| match record {
                Record::Frame { to, call, .. } if to.contains(&connection) => Some(*call),
                _ => None,
            })
            .collect();
        calls.chunk_by(|one, next| one == next).map(<[_]>::len).collect()
    }

    /// Their types, in order.
    pub fn types(&self, connection: ConnectionId) -> Vec<String> {
        self.frames(connection)
            .iter()
            .map(|f| f["type"].as_str().unwrap_or("?").to_owned())
            .collect()
    }

    /// Why a connection was closed, if it was.
    pub fn closed(&self, connection: ConnectionId) -> Option<Close> {
        self.records.borrow().iter().find_map(|record| match record {
            Record::Close { connection: c, close } if *c == connection => Some(*close),
            _ => None,
        })
    }

    /// Holds frames back, as if there were no room for them, until released.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Waits until a connection has been sent a frame of this type, and returns the first.
    pub async fn heard(&self, connection: ConnectionId, kind: &str) -> Value {
        let find = |records: &[Record]| {
            frames(records, connection).into_iter().find(|frame| frame["type"] == kind)
        };
        self.until(|records| find(records).is_some()).await;
        find(&self.records.borrow()).expect("has just been seen")
    }

    /// Waits until the record fulfils a condition.
    pub async fn until(&self, condition: impl Fn(&[Record]) -> bool) {
        let mut records = self.records.subscribe();
        let came =
            tokio::time::timeout(PATIENCE, records.wait_for(|records| condition(records))).await;
        assert!(matches!(came, Ok(Ok(_))), "it never came; the record is {:#?}", self.records());
    }
}

impl RecordingFanout {
    async fn record(&self, frames: Vec<(Arc<[ConnectionId]>, Frame)>, urgency: Urgency) {
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        self.records.send_modify(|records| {
            let call = records.len();
            for (to, frame) in frames {
                let frame = serde_json::from_slice(frame.bytes()).expect("a frame is JSON");
                records.push(Record::Frame { to, frame, urgency, call });
            }
        });
    }
}

fn frames(records: &[Record], connection: ConnectionId) -> Vec<Value> {
    records
        .iter()
        .filter_map(|record| match record {
            Record::Frame { to, frame, .. } if to.contains(&connection) => Some(frame.clone()),
            _ => None,
        })
        .collect()
}

#[async_trait]
impl Fanout for RecordingFanout {
    async fn deliver(&self, to: Arc<[ConnectionId]>, frame: Frame, urgency: Urgency) {
        self.record(vec![(to, frame)], urgency).await;
    }

    async fn deliver_all(&self, deliveries: Vec<Delivery>) {
        let each =
            |Delivery { to, frames }| frames.into_iter().map(move |frame| (Arc::clone(&to), frame));
        self.record(deliveries.into_iter().flat_map(each).collect(), Urgency::Reliable).await;
    }

    async fn close(&self, connection: ConnectionId, close: Close) {
        self.records.send_modify(|records| records.push(Record::Close { connection, close }));
    }
}
