//! Each rule of "What a client does", by itself.

mod changes;
mod opening;
mod syncs;

use serde_json::{Value, json};

use super::*;

const ME: &str = "me";

fn summary(id: &str, rev: u64, last_seq: u64) -> Value {
    json!({
        "id": id, "workspace_id": "w", "kind": "channel", "name": id, "rev": rev, "last_seq": last_seq,
        "last_message_at": format!("2026-01-01T00:00:{:02}.{:03}Z", last_seq / 1_000, last_seq % 1_000),
        "read_seq": last_seq, "unread_count": 0, "mention_count": 0, "can_post": true, "later": "field",
    })
}

/// What everybody sees: a summary without the read state.
fn conversation(id: &str, rev: u64, last_seq: u64) -> Value {
    json!({ "id": id, "workspace_id": "w", "name": format!("{id} at {rev}"), "rev": rev, "last_seq": last_seq })
}

fn hello(epoch: &str, conversations: &[Value], behind: &[&str]) -> Value {
    json!({
        "epoch": epoch, "user": { "id": ME }, "workspaces": [{ "id": "w", "name": "Acme", "role": "admin" }],
        "conversations": conversations, "behind": behind,
    })
}

fn message(seq: u64, rev: u64) -> Value {
    json!({
        "id": format!("m{seq}"), "seq": seq, "rev": rev, "author_id": "other", "text": format!("{seq} at {rev}"),
        "thread_root_id": null, "mentions": { "user_ids": [], "everyone": false }, "created_at": null, "deleted_at": null,
    })
}

fn created(rev: u64, message: &Value) -> Value {
    json!({
        "type": "message.created", "conversation_id": "c", "rev": rev,
        "data": { "message": message, "change": { "kind": "created" } },
    })
}

fn page(from_rev: u64, to_rev: u64, messages: &[Value]) -> Value {
    json!({
        "conversation_id": "c", "from_rev": from_rev, "to_rev": to_rev, "complete": true,
        "messages": messages, "conversation": conversation("c", to_rev, 9),
    })
}

fn replay(from_rev: u64, to_rev: u64, messages: &[Value]) -> Value {
    json!({
        "type": "replay", "conversation_id": "c", "from_rev": from_rev, "to_rev": to_rev, "complete": true,
        "data": { "messages": messages, "conversation": conversation("c", to_rev, 9) },
    })
}

/// One conversation, `c`, at rev 10 with two messages that were not loaded.
fn welcomed() -> Cache {
    let mut cache = Cache::default();
    assert_eq!(cache.resume(), None);
    assert_eq!(cache.welcome(&hello("one", &[summary("c", 10, 2)], &[])), Ok(vec![]));
    cache
}

fn held(cache: &Cache) -> Vec<(u64, u64)> {
    cache.messages("c").map(|message| (message.seq, message.rev)).collect()
}

fn seqs(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

fn sync(from_rev: u64) -> Vec<SyncRequest> {
    vec![SyncRequest { conversation_id: "c".into(), from_rev }]
}
