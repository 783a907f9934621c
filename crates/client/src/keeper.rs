//! Keeps one connection alive: comes back after the wait that backoff, close code and the server's hints ask for.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use crate::{
    backoff::{AfterClose, Backoff},
    config::{Config, NoToken},
    connection::{Connection, End},
    error::{CommandError, Stopped},
    shared::{Order, Shared},
};

pub(crate) struct Keeper {
    config: Config,
    shared: Arc<Shared>,
    backoff: Backoff,
    /// The index of the next node.
    node: usize,
    /// A token that the server no longer accepts.
    stale: Option<String>,
}

impl Keeper {
    pub(crate) fn new(config: Config, shared: Arc<Shared>) -> Self {
        Self { config, shared, backoff: Backoff::default(), node: 0, stale: None }
    }

    pub(crate) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let why = loop {
            match self.turn(&mut orders).await {
                Ok(wait) => {
                    if let Err(why) = meanwhile(&mut orders, sleep(wait)).await {
                        break why;
                    }
                }
                Err(why) => break why,
            }
        };
        self.shared.stop(&why);
        orders.close();
        while let Some(order) = orders.recv().await {
            refuse(order, &why.clone().into());
        }
    }

    /// One connection, or one attempt; returns how long to wait before the next.
    async fn turn(&mut self, orders: &mut mpsc::Receiver<Order>) -> Result<Duration, Stopped> {
        let asked = self.config.token.token(self.stale.clone());
        let token = match meanwhile(orders, asked).await? {
            Ok(token) if self.stale.as_ref() == Some(&token) => return Err(Stopped::NoToken),
            Ok(token) => token,
            Err(NoToken::ForNow) => return Ok(self.backoff.next(None, &*self.config.random)),
            Err(NoToken::ForGood) => return Err(Stopped::NoToken),
        };
        let urls = &self.config.urls;
        let url = urls.get(self.node % urls.len().max(1)).cloned().unwrap_or_default();
        let opening = Connection::open(&self.config, &self.shared, &url, token);
        let end = match meanwhile(orders, opening).await? {
            Ok((connection, welcome)) => self.live(connection, &welcome, &url, orders).await?,
            Err(end) => {
                self.shared.disconnected(end.code, false, Instant::now());
                end
            }
        };
        self.node = self.node.wrapping_add(1);
        match AfterClose::of(end.code) {
            AfterClose::StayAway => return Err(Stopped::SentAway(end.code)),
            AfterClose::NewToken => self.stale = Some(end.token),
            AfterClose::ComeBack => self.stale = None,
        }
        Ok(self.backoff.next(end.hint, &*self.config.random))
    }

    async fn live(
        &mut self,
        mut connection: Connection,
        welcome: &Value,
        url: &str,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<End, Stopped> {
        let since = Instant::now();
        let end = if connection.welcome(welcome) {
            self.shared.connected(url, since);
            connection.serve(orders).await
        } else {
            Some(connection.give_up().await)
        };
        let now = Instant::now();
        self.backoff.lived(now - since);
        // Callers that still wait for a reply learn that it will not come.
        drop(connection);
        let end = end.ok_or(Stopped::Closed)?;
        self.shared.disconnected(end.code, true, now);
        Ok(end)
    }
}

/// Does `work` while there is no connection. Commands are refused meanwhile; closing the client ends it.
async fn meanwhile<T>(
    orders: &mut mpsc::Receiver<Order>,
    work: impl Future<Output = T>,
) -> Result<T, Stopped> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                None | Some(Order::Close) => return Err(Stopped::Closed),
                Some(order) => refuse(order, &CommandError::NotConnected),
            },
            done = &mut work => return Ok(done),
        }
    }
}

fn refuse(order: Order, why: &CommandError) {
    if let Order::Command { reply, .. } = order {
        // The caller may be gone.
        let _ = reply.send(Err(why.clone()));
    }
}
