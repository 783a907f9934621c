//! A bus between simulated nodes, which loses, repeats, delays and reorders, and can be cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use parlance_application::{
    Error, Result,
    live::Event,
    ports::{Bus, Heard, Subscription, Topic},
};
use parlance_domain::NodeId;
use tokio::sync::mpsc;

use crate::chance::{Chance, Climate};

#[derive(Clone)]
pub(crate) struct SimBus {
    chance: Chance,
    climate: Climate,
    ends: Arc<Mutex<BTreeMap<NodeId, End>>>,
}

struct End {
    inbox: mpsc::UnboundedSender<Heard>,
    topics: BTreeSet<String>,
    wanted: Vec<Topic>,
    cut: bool,
}

impl SimBus {
    pub(crate) fn new(chance: Chance, climate: Climate) -> Self {
        Self { chance, climate, ends: Arc::default() }
    }

    /// Cuts a node off, or lets it hear again.
    pub(crate) fn cut(&self, node: NodeId, cut: bool) {
        let mut ends = self.ends.lock().expect("no panic");
        let Some(end) = ends.get_mut(&node).filter(|end| end.cut != cut) else { return };
        end.cut = cut;
        let heard = if cut { Heard::Lost } else { Heard::Listening(end.wanted.clone()) };
        let _ = end.inbox.send(heard);
    }

    /// A node that died hears nothing more.
    pub(crate) fn forget(&self, node: NodeId) {
        self.ends.lock().expect("no panic").remove(&node);
    }

    fn carry(&self, to: NodeId, events: Vec<Arc<Event>>) {
        let (bus, after) = (self.clone(), self.chance.millis(self.climate.bus_delay));
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let ends = bus.ends.lock().expect("no panic");
            if let Some(end) = ends.get(&to).filter(|end| !end.cut) {
                for event in events {
                    let _ = end.inbox.send(Heard::Event(event));
                }
            }
        });
    }
}

impl End {
    fn listens_to(&self, event: &Event) -> bool {
        let topic = event.topic();
        topic == Topic::Everybody || self.topics.contains(&name(&topic))
    }
}

/// Topics have no order of their own.
fn name(topic: &Topic) -> String {
    format!("{topic:?}")
}

#[async_trait]
impl Bus for SimBus {
    fn is_remote(&self) -> bool {
        true
    }

    async fn publish(&self, from: NodeId, events: Vec<Arc<Event>>) -> Result<()> {
        // So that a node can die between its acknowledgement and its publication.
        self.chance.pause(2).await;
        let to: Vec<(NodeId, Vec<_>)> = {
            let ends = self.ends.lock().expect("no panic");
            if ends.get(&from).is_none_or(|end| end.cut) {
                return Err(Error::unavailable("the bus is cut"));
            }
            let others = ends.iter().filter(|(node, _)| **node != from);
            let heard =
                |end: &End| events.iter().filter(|it| end.listens_to(it)).cloned().collect();
            others.map(|(node, end)| (*node, heard(end))).collect()
        };
        for (node, events) in to {
            let (mut together, apart) = (Vec::new(), self.chance.percent(30));
            for event in events {
                if self.chance.percent(self.climate.bus_repeats) {
                    self.carry(node, vec![event.clone()]);
                }
                if self.chance.percent(self.climate.bus_loses) {
                    continue;
                }
                if apart {
                    self.carry(node, vec![event]);
                } else {
                    together.push(event);
                }
            }
            if !together.is_empty() {
                self.carry(node, together);
            }
        }
        Ok(())
    }

    async fn subscribe(&self, node: NodeId) -> Result<Box<dyn Subscription>> {
        let (inbox, heard) = mpsc::unbounded_channel();
        let end = End { inbox, topics: BTreeSet::new(), wanted: vec![], cut: false };
        self.ends.lock().expect("no panic").insert(node, end);
        Ok(Box::new(Ear(heard)))
    }

    fn listen(&self, node: NodeId, topics: Vec<Topic>) {
        let (bus, after) = (self.clone(), self.chance.millis(self.climate.bus_delay));
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let mut ends = bus.ends.lock().expect("no panic");
            if let Some(end) = ends.get_mut(&node) {
                end.topics.extend(topics.iter().map(name));
                end.wanted.extend(&topics);
                if !end.cut {
                    let _ = end.inbox.send(Heard::Listening(topics));
                }
            }
        });
    }

    fn ignore(&self, _node: NodeId, _topics: Vec<Topic>) {
        // It may still hear them.
    }
}

struct Ear(mpsc::UnboundedReceiver<Heard>);

#[async_trait]
impl Subscription for Ear {
    async fn next(&mut self) -> Option<Heard> {
        self.0.recv().await
    }
}
