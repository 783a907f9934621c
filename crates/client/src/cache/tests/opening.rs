//! `hello`, and coming and going.

use super::*;

#[test]
fn without_a_cache_one_starts_at_the_rev_that_hello_tells() {
    let cache = welcomed();
    assert_eq!(cache.cursor("c"), Some(10));
    let resume = serde_json::to_value(cache.resume()).unwrap();
    assert_eq!(resume, json!({ "epoch": "one", "cursors": { "c": 10 } }));
}

#[test]
fn hello_moves_no_cursor_and_purges_what_is_absent() {
    let mut cache = welcomed();
    cache.apply(&created(11, &message(3, 11))).unwrap();
    let mut told = summary("c", 15, 7);
    told["unread_count"] = 4.into();
    let reply = hello("one", &[told, summary("d", 4, 1)], &[]);
    assert_eq!(cache.welcome(&reply), Ok(vec![]));
    assert_eq!((cache.cursor("c"), cache.cursor("d")), (Some(11), Some(4)));
    assert_eq!(held(&cache), [(3, 11)]);
    let c = cache.conversation("c").unwrap();
    assert_eq!((c.read().unread_count, c.last_seq(), c.rev()), (4, 7, 15));
    cache.welcome(&hello("one", &[summary("d", 4, 1)], &[])).unwrap();
    assert_eq!(cache.conversations().keys().collect::<Vec<_>>(), ["d"]);
    assert_eq!(cache.resume().unwrap().cursors.len(), 1);
}

#[test]
fn another_epoch_or_another_user_drops_all_caches() {
    for (epoch, user) in [("two", ME), ("one", "somebody else")] {
        let mut cache = welcomed();
        cache.apply(&created(11, &message(3, 11))).unwrap();
        let mut reply = hello(epoch, &[summary("c", 5, 1)], &[]);
        reply["user"]["id"] = user.into();
        cache.welcome(&reply).unwrap();
        assert_eq!((cache.cursor("c"), held(&cache)), (Some(5), vec![]));
        // The server repeats it for each cursor that it was given.
        let mut reset = replay(0, 5, &[]);
        reset["reset"] = true.into();
        let applied = cache.apply(&reset).unwrap();
        assert!(applied.reset && cache.cursor("c") == Some(5));
        assert_eq!(cache.resume().unwrap().epoch, epoch);
    }
}

#[test]
fn what_is_behind_or_was_not_named_is_synced() {
    let mut cache = welcomed();
    assert_eq!(cache.welcome(&hello("one", &[summary("c", 15, 7)], &["c"])), Ok(sync(10)));

    // More than fit: the most recently active are named, and what the server was not told of is asked for.
    let many =
        |rev| -> Vec<_> { (0..1_002).map(|n| summary(&format!("{n:04}"), rev, n)).collect() };
    let mut cache = Cache::default();
    cache.welcome(&hello("one", &many(3), &[])).unwrap();
    let cursors = cache.resume().unwrap().cursors;
    assert_eq!((cursors.len(), cursors.keys().next().map(String::as_str)), (1_000, Some("0002")));
    let mut told = many(3);
    told[0] = summary("0000", 4, 0);
    told[7] = summary("0007", 4, 7);
    let asked = cache.welcome(&hello("one", &told, &[])).unwrap();
    assert_eq!(asked, [SyncRequest { conversation_id: "0000".into(), from_rev: 3 }]);
}

#[test]
fn coming_and_going() {
    let mut cache = welcomed();
    let joined = |rev| json!({ "type": "conversation.joined", "conversation_id": "d", "data": { "conversation": summary("d", rev, 1) } });
    assert_eq!(cache.apply(&joined(5)).unwrap().joined, ["d"]);
    assert_eq!(cache.cursor("d"), Some(5));
    let again = cache.apply(&joined(7)).unwrap();
    assert_eq!((again.joined.len(), cache.cursor("d")), (0, Some(5)), "it is held");
    assert_eq!(again.syncs.len(), 1, "and two revs behind");

    for kind in ["conversation.left", "conversation.deleted"] {
        let mut cache = cache.clone();
        let gone =
            json!({ "type": kind, "conversation_id": "c", "data": { "conversation_id": "c" } });
        assert_eq!(cache.apply(&gone).unwrap().left, ["c"]);
        assert_eq!(cache.conversation("c"), None);
        let stray = cache.apply(&created(11, &message(3, 11))).unwrap();
        assert_eq!((stray.strays, stray.created.len(), cache.conversation("c")), (1, 0, None));
        assert_eq!(cache.synced(&page(10, 12, &[])).unwrap().strays, 1);
    }
    for gone in [
        json!({ "type": "workspace.deleted", "data": { "workspace_id": "w" } }),
        json!({ "type": "member.left", "data": { "workspace_id": "w", "user_id": ME } }),
    ] {
        let mut cache = cache.clone();
        assert_eq!(cache.apply(&gone).unwrap().left, ["c", "d"]);
        assert!(cache.conversations().is_empty() && cache.workspaces().is_empty());
    }
    cache
        .apply(
            &json!({ "type": "member.left", "data": { "workspace_id": "w", "user_id": "other" } }),
        )
        .unwrap();
    assert_eq!(cache.conversations().len(), 2);
    let renamed = json!({ "type": "workspace.updated", "data": { "workspace": { "id": "w", "name": "New" } } });
    cache.apply(&renamed).unwrap();
    assert_eq!(cache.workspaces()["w"], json!({ "id": "w", "name": "New", "role": "admin" }));
}

#[test]
fn a_frame_that_cannot_be_read_changes_nothing() {
    let mut half = message(3, 11);
    half["seq"] = "three".into();
    for frame in [
        json!({}),
        json!([]),
        json!({ "type": "replay", "conversation_id": "c" }),
        json!({ "type": "conversation.joined", "data": {} }),
        json!({ "type": "conversation.left", "data": {} }),
        json!({ "type": "server.draining" }),
        json!({ "type": "message.created", "conversation_id": "c", "rev": "11" }),
        created(11, &half),
        replay(10, 12, &[message(3, 11), half.clone()]),
    ] {
        let mut cache = welcomed();
        let before = cache.clone();
        assert!(cache.apply(&frame).is_err(), "{frame}");
        assert_eq!(cache, before, "{frame}");
    }
    let mut cache = welcomed();
    let before = cache.clone();
    for reply in [json!({}), hello("two", &[summary("c", 1, 1), json!({ "id": "d" })], &[])] {
        assert!(cache.welcome(&reply).is_err());
        assert_eq!(cache, before);
    }
}
