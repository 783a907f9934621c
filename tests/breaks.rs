//! Deliberate breaks of the code, each with the words that it replaces. Every one of them has to turn the simulation red:
//! `make breaks` makes them one after another in a copy of the sources, and plays seeds until one finds it.
//!
//! That the list still fits the sources is tested always.
#![expect(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests may")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// How many seeds have to find a break.
const SEEDS: &str = "300";

struct Break {
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

macro_rules! breaks {
    ($($name:literal in $file:literal: $from:literal => $to:literal),* $(,)?) => {
        &[$(Break { name: $name, file: $file, from: $from, to: $to }),*]
    };
}

const FEED: &str = "crates/application/src/live/feed.rs";

const BREAKS: &[Break] = breaks! {
    // The feed.
    "an event beyond a hole is let through" in "crates/application/src/live/feed.rs":
        "if rev == self.position + 1 {" => "if rev > self.position {",
    "a repeated event is let through" in "crates/application/src/live/feed.rs":
        "if rev == self.position + 1 {" => "if rev == self.position + 1 || rev == self.position {",
    "a hole is not bridged" in "crates/application/src/live/feed.rs":
        "let hole = (self.beyond > self.position)" => "let hole = (self.beyond > u64::MAX - 1)",
    "who joins behind is not caught up" in "crates/application/src/live/feed.rs":
        "} else if have != self.position {" => "} else if have > self.position {",
    "a silent store is not asked again" in "crates/application/src/live/feed.rs":
        "    pub(super) fn unread(&mut self) {\n        self.reading = false;" => "    pub(super) fn unread(&mut self) {",
    "an event of a later count of changes of access is let through" in "crates/application/src/live/feed.rs":
        "if access_rev > self.access_rev {\n            return self.behind(rev, access_rev);" => "if access_rev > u64::MAX - 1 {\n            return self.behind(rev, access_rev);",
    "a replay of a later count of changes of access is let through" in "crates/application/src/live/feed.rs":
        "if access_rev > self.access_rev {\n            return self.behind(to_rev, access_rev);" => "if access_rev > u64::MAX - 1 {\n            return self.behind(to_rev, access_rev);",
    // Around it.
    "stale membership: a check removes nobody" in "crates/application/src/live/actor/peers.rs":
        "asked.into_iter().filter(|user| !still.contains(user)) {\n            let frame = Frame::left" => "asked.into_iter().filter(|user| !still.contains(user)).take(0) {\n            let frame = Frame::left",
    "no look at the store" in "crates/application/src/live/node.rs":
        "if let Some(peers) = looked {" => "if let Some(peers) = looked.filter(|_| false) {",
    "heads are not read when a topic is heard" in "crates/application/src/live/actor/peers.rs":
        "fn ask_heads(&self, conversations: &[ConversationId]) {" => "fn ask_heads(&self, conversations: &[ConversationId]) {\n        let conversations = &conversations[..0];",
    "who left is still told" in "crates/application/src/live/actor/events.rs":
        "                for connection in told.await {\n                    self.leave(connection, *conversation_id);" => "                for connection in told.await {\n                    self.leave(connection, *conversation_id);\n                    self.join(connection, Head { conversation_id: *conversation_id, rev: u64::MAX, access_rev: u64::MAX }).await;",
    "a revoked session's connections stay" in "crates/application/src/live/actor/events.rs":
        "let connections = self.connections.of_session(*session_id);" => "let connections: Vec<crate::ports::ConnectionId> = vec![];",
    // The opening.
    "attach after the snapshot" in "crates/application/src/hello.rs":
        "        let opened = self.read(claims, resume).await;" => "        self.live.unregister(connection).await;\n        let opened = self.read(claims, resume).await;\n        self.live.register(connection, claims.user_id, claims.session_id, Arc::default()).await;",
    "a session is not looked at after its connection is registered" in "crates/application/src/hello.rs":
        "        self.live.register(connection, claims.user_id, claims.session_id, heard_at).await;\n        let opened = self.read(claims, resume).await;" => "        let opened = self.read(claims, resume).await;\n        self.live.register(connection, claims.user_id, claims.session_id, heard_at).await;",
    "a replay is told though access has ended" in "crates/application/src/live/actor.rs":
        "self.pending.get(&conversation).is_some_and(|ids| ids.contains(&id));" => "self.pending.get(&conversation).is_none_or(|_| true);",
    "a replay goes on from where it began" in "crates/application/src/live/resume.rs":
        "replay.from_rev = page.to_rev;" => "let _ = &replay;",
    "a conversation is joined behind its first page" in "crates/application/src/live/resume.rs":
        "then: page.complete.then_some(then)," => "then: Some(then),",
    // The writes.
    "published before it is committed" in "crates/testkit/src/memory/messages.rs": "" => "",
    // The client.
    "no dedupe" in "crates/client/src/cache/conversation.rs":
        "if rev <= self.cursor {" => "if rev < self.cursor {",
    "a cursor moved by `ok`" in "crates/client/src/cache.rs":
        "" => "",
    "another id at each attempt" in "crates/client/src/outbox.rs":
        "" => "",
    "a later send overtakes one that is repeated" in "crates/client/src/outbox.rs":
        "" => "",
};
