//! Events and replays: cursor, messages, read state.

use super::*;

#[test]
fn live_events_by_their_rev() {
    for (rev, cursor, duplicates, asks) in
        [(9, 10, 1, vec![]), (10, 10, 1, vec![]), (11, 11, 0, vec![]), (12, 10, 0, sync(10))]
    {
        let mut cache = welcomed();
        let applied = cache.apply(&created(rev, &message(3, rev))).unwrap();
        assert_eq!(cache.cursor("c"), Some(cursor), "event {rev}");
        assert_eq!((applied.duplicates, &applied.syncs), (duplicates, &asks), "event {rev}");
        assert_eq!(seqs(&applied.created), if cursor == 11 { vec![3] } else { vec![] });
        assert_eq!(held(&cache).len(), applied.created.len());
    }
}

#[test]
fn replays_by_their_range() {
    for (from, to, cursor, duplicates, asks) in [
        (8, 10, 10, 1, vec![]),
        (8, 12, 12, 0, vec![]),
        (10, 12, 12, 0, vec![]),
        (11, 12, 10, 0, sync(10)),
    ] {
        let mut cache = welcomed();
        let applied = cache.apply(&replay(from, to, &[message(3, to)])).unwrap();
        assert_eq!(cache.cursor("c"), Some(cursor), "replay {from}–{to}");
        assert_eq!((applied.duplicates, &applied.syncs), (duplicates, &asks), "{from}–{to}");
        assert_eq!(held(&cache).len(), usize::from(cursor == 12), "replay {from}–{to}");
    }
}

#[test]
fn a_message_is_replaced_by_a_later_rev_only() {
    let mut cache = welcomed();
    // An edit that a replay has brought already.
    cache.apply(&replay(10, 12, &[message(3, 12)])).unwrap();
    for (rev, of, expected) in [(13, 11, 12), (14, 12, 12), (15, 15, 15)] {
        let applied = cache.apply(&created(rev, &message(3, of))).unwrap();
        assert_eq!(cache.cursor("c"), Some(rev));
        assert_eq!(held(&cache), [(3, expected)], "rev {of}");
        assert_eq!(seqs(&applied.changed), if of == 15 { vec![3] } else { vec![] });
        assert_eq!(applied.created, []);
    }
    let text = cache.conversation("c").unwrap().message("m3").unwrap().text("text");
    assert_eq!(text, Some("3 at 15"));
}

#[test]
fn what_is_older_than_the_oldest_loaded_is_ignored() {
    let mut cache = welcomed();
    let edit = cache.apply(&created(11, &message(2, 11))).unwrap();
    assert_eq!((seqs(&edit.created), seqs(&edit.changed)), (vec![], vec![]));
    assert_eq!((cache.cursor("c"), held(&cache)), (Some(11), vec![]));
    cache.history("c", &json!({ "items": [message(2, 11), message(1, 4)], "rev": 30 })).unwrap();
    assert_eq!((cache.cursor("c"), held(&cache)), (Some(11), vec![(1, 4), (2, 11)]));
    let edit = cache.apply(&created(12, &message(1, 12))).unwrap();
    assert_eq!((seqs(&edit.created), seqs(&edit.changed)), (vec![], vec![1]));
    // What was evicted is no longer loaded.
    let mut small = Cache::with_room(2);
    small.welcome(&hello("one", &[summary("c", 0, 0)], &[])).unwrap();
    for seq in 1..=3 {
        small.apply(&created(seq, &message(seq, seq))).unwrap();
    }
    assert_eq!(small.apply(&created(4, &message(1, 4))).unwrap().created, []);
    assert_eq!((small.cursor("c"), held(&small)), (Some(4), vec![(2, 2), (3, 3)]));
}

#[test]
fn a_replay_in_rev_order_brings_new_messages_out_of_the_order_of_their_places() {
    let mut cache = welcomed();
    let applied = cache.apply(&replay(10, 13, &[message(4, 12), message(3, 13)])).unwrap();
    assert_eq!(seqs(&applied.created), [4, 3]);
    assert_eq!(held(&cache), [(3, 13), (4, 12)]);
}

#[test]
fn unknown_events_and_fields_advance_the_cursor_all_the_same() {
    let mut cache = welcomed();
    let unknown = json!({ "type": "poll.closed", "conversation_id": "c", "rev": 11, "data": { "x": 1 }, "y": 2 });
    cache.apply(&unknown).unwrap();
    assert_eq!(cache.cursor("c"), Some(11));
    // And so does one with a message in it.
    let mut unknown = created(12, &message(3, 12));
    unknown["type"] = "message.starred".into();
    assert_eq!(seqs(&cache.apply(&unknown).unwrap().created), [3]);
    assert_eq!(cache.cursor("c"), Some(12));
    for frame in
        [json!({ "type": "news" }), json!({ "type": "news", "conversation_id": "c", "data": 1 })]
    {
        assert!(cache.apply(&frame).unwrap().notice.is_some());
    }
    assert_eq!(cache.cursor("c"), Some(12));
}

#[test]
fn replies_move_no_cursor() {
    let mut cache = welcomed();
    let before = cache.clone();
    cache.apply(&json!({ "type": "ok", "id": 3, "conversation_id": "c", "rev": 11, "data": { "message": message(3, 11) } })).unwrap();
    assert_eq!(cache, before);
}

#[test]
fn the_read_state_follows_what_comes() {
    let mut cache = welcomed();
    let read = |cache: &Cache| {
        let ReadState { read_seq, unread_count, mention_count } =
            cache.conversation("c").unwrap().read();
        (read_seq, unread_count, mention_count)
    };
    let mut mention = message(3, 11);
    mention["mentions"]["user_ids"] = json!(["x", ME]);
    cache.apply(&created(11, &mention)).unwrap();
    assert_eq!(read(&cache), (2, 1, 1));
    let mut reply = message(4, 12);
    reply["thread_root_id"] = "m3".into();
    cache.apply(&created(12, &reply)).unwrap();
    assert_eq!(read(&cache), (2, 1, 1));
    let told = json!({ "type": "read.updated", "conversation_id": "c", "data": { "conversation_id": "c", "read_seq": 3, "unread_count": 0, "mention_count": 0 } });
    assert!(cache.apply(&told).unwrap().conversation_changed);
    assert_eq!(read(&cache), (3, 0, 0));
    cache.apply(&created(13, &message(5, 13))).unwrap();
    assert_eq!(read(&cache), (3, 1, 0));
    let mut mine = message(6, 14);
    mine["author_id"] = ME.into();
    cache.apply(&created(14, &mine)).unwrap();
    assert_eq!(read(&cache), (6, 0, 0));
    // A mark from before the user's own last send, which arrives late.
    cache.apply(&told).unwrap();
    assert_eq!(read(&cache), (6, 0, 0));
    assert_eq!(cache.conversation("c").unwrap().last_seq(), 6);
    // Messages that hello has counted are not counted again when its replay brings them.
    let mut told = summary("c", 16, 8);
    (told["read_seq"], told["unread_count"]) = (6.into(), 2.into());
    cache.welcome(&hello("one", &[told], &[])).unwrap();
    cache.apply(&replay(14, 17, &[message(7, 15), message(8, 16), message(9, 17)])).unwrap();
    assert_eq!(read(&cache), (6, 3, 0));
}

#[test]
fn a_conversation_is_told_anew() {
    let mut cache = welcomed();
    let renamed = json!({ "type": "conversation.updated", "conversation_id": "c", "rev": 11, "data": { "conversation": conversation("c", 11, 2) } });
    assert!(cache.apply(&renamed).unwrap().conversation_changed);
    let c = cache.conversation("c").unwrap();
    assert_eq!(
        (c.cursor(), &c.facts()["name"], &c.facts()["can_post"]),
        (11, &json!("c at 11"), &json!(true))
    );
}

#[test]
fn draining_tells_when_to_come_back() {
    let draining = json!({ "type": "server.draining", "data": { "reconnect_after_ms": 700 } });
    let applied = welcomed().apply(&draining).unwrap();
    assert_eq!(applied.reconnect_after, Some(Duration::from_millis(700)));
}
