//! What people in a conversation see of each other: one order, nothing twice, nothing after they were removed.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Server, text};

#[tokio::test]
async fn three_people_talk_in_general_and_see_one_order() {
    let server = Server::start();
    let (ada, bob, cy) =
        (server.sign_up("ada").await, server.sign_up("bob").await, server.sign_up("cy").await);
    let (_, general, code) = ada.workspace().await;
    for person in [&bob, &cy] {
        person.join(&code).await;
    }
    let mut sockets = [ada.connect().await, bob.connect().await, cy.connect().await];
    for n in 0..5 {
        for (who, socket) in sockets.iter_mut().enumerate() {
            let key = format!("{who}-{n}");
            let data = json!({ "conversation_id": general, "client_msg_id": key, "text": key });
            socket.begin("message.send", data).await;
        }
    }
    let mut seen: Vec<Vec<(u64, String)>> = vec![];
    for socket in &mut sockets {
        let mut mine = vec![];
        for _ in 0..15 {
            let event = socket.event("message.created").await;
            let message = &event["data"]["message"];
            assert_eq!(event["rev"], message["rev"]);
            mine.push((message["seq"].as_u64().expect("a seq"), text(&message["text"])));
        }
        seen.push(mine);
    }
    assert_eq!(
        seen[0].iter().map(|(seq, _)| *seq).collect::<Vec<_>>(),
        (1..=15).collect::<Vec<_>>()
    );
    assert!(seen.iter().all(|others| *others == seen[0]));

    let page = bob.get(&format!("/conversations/{general}/messages?limit=10")).await;
    assert_eq!(
        (page["items"][0]["seq"].as_u64(), page["next_cursor"].as_u64()),
        (Some(15), Some(6))
    );
    let rest = bob.get(&format!("/conversations/{general}/messages?limit=10&before_seq=6")).await;
    assert_eq!(
        (rest["items"].as_array().map(Vec::len), &rest["next_cursor"]),
        (Some(5), &Value::Null)
    );
}

#[tokio::test]
async fn a_dm_reaches_sockets_opened_before_it_existed_and_nobody_else() {
    let server = Server::start();
    let (ada, bob, eve) =
        (server.sign_up("ada").await, server.sign_up("bob").await, server.sign_up("eve").await);
    let (workspace, _, code) = ada.workspace().await;
    for person in [&bob, &eve] {
        person.join(&code).await;
    }
    let (mut bobs, mut eves, mut adas) =
        (bob.connect().await, eve.connect().await, ada.connect().await);
    let dm = ada.post(&format!("/workspaces/{workspace}/dms"), json!({ "user_id": bob.id })).await;
    let id = text(&dm["id"]);
    for socket in [&mut bobs, &mut adas] {
        let joined = socket.event("conversation.joined").await;
        assert_eq!(joined["data"]["conversation"]["id"], id, "{joined}");
    }
    adas.say(&id, "psst").await;
    assert_eq!(adas.event("message.created").await["data"]["message"]["text"], "psst");
    assert_eq!(bobs.event("message.created").await["data"]["message"]["text"], "psst");
    assert_eq!(eves.settled().await, Vec::<Value>::new());
    let (status, problem) =
        eve.call(Method::GET, &format!("/conversations/{id}/messages"), Value::Null).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    let again = bob
        .call(Method::POST, &format!("/workspaces/{workspace}/dms"), json!({ "user_id": ada.id }))
        .await;
    assert_eq!((again.0, &again.1["id"]), (StatusCode::OK, &json!(id)));
}

#[tokio::test]
async fn typing_ends_by_itself_on_a_message_and_with_the_connection() {
    let server = Server::start();
    let (ada, bob, _, general) = server.ada_and_bob().await;
    let (mut adas, mut bobs) = (ada.connect().await, bob.connect().await);
    let place = json!({ "conversation_id": general });

    assert_eq!(adas.command("typing.start", place.clone()).await["type"], "ok");
    let started = bobs.event("typing.started").await;
    assert_eq!(
        (&started["data"]["user_id"], &started["data"]["expires_in_ms"]),
        (&json!(ada.id), &json!(6000))
    );
    assert_eq!(bobs.event("typing.stopped").await["data"]["user_id"], ada.id);

    adas.command("typing.start", place.clone()).await;
    adas.say(&general, "done").await;
    bobs.event("typing.started").await;
    bobs.event("typing.stopped").await;
    bobs.event("message.created").await;

    adas.command("typing.start", place).await;
    bobs.event("typing.started").await;
    drop(adas);
    bobs.event("typing.stopped").await;
}

#[tokio::test]
async fn a_removed_member_hears_nothing_from_the_moment_that_it_is_acknowledged() {
    let server = Server::start();
    let (ada, bob, workspace, _) = server.ada_and_bob().await;
    let (mut adas, mut bobs) = (ada.connect().await, bob.connect().await);
    let body = json!({ "name": "secret", "private": true });
    let secret = text(&ada.post(&format!("/workspaces/{workspace}/channels"), body).await["id"]);
    let (status, _) = bob.call(Method::GET, &format!("/channels/{secret}"), Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    ada.post(&format!("/channels/{secret}/members"), json!({ "user_id": bob.id })).await;
    assert_eq!(bobs.event("conversation.joined").await["data"]["conversation"]["name"], "secret");
    adas.say(&secret, "welcome").await;
    bobs.event("message.created").await;

    let (status, _) = ada
        .call(Method::DELETE, &format!("/channels/{secret}/members/{}", bob.id), Value::Null)
        .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    adas.say(&secret, "he is gone").await;
    let heard = bobs.settled().await;
    assert!(heard.iter().any(|event| event["type"] == "conversation.left"), "{heard:?}");
    assert!(!heard.iter().any(|event| event["type"] == "message.created"), "{heard:?}");
    let data = json!({ "conversation_id": secret, "client_msg_id": "x", "text": "x" });
    assert_eq!(bobs.command("message.send", data).await["error"]["code"], "not_found");
}

#[tokio::test]
async fn a_send_is_kept_once_under_its_client_msg_id() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let mut socket = ada.connect().await;
    let first = socket.say(&general, "once").await;
    let data = json!({ "conversation_id": general, "client_msg_id": "once", "text": "once" });
    let again = socket.command("message.send", data).await;
    assert_eq!(
        (&again["data"]["duplicate"], &again["data"]["message"]["id"]),
        (&json!(true), &first["id"])
    );
    for other in ["twice", ""] {
        let body = json!({ "client_msg_id": "once", "text": other });
        let (status, problem) =
            ada.call(Method::POST, &format!("/conversations/{general}/messages"), body).await;
        assert_eq!((status, &problem["message_id"]), (StatusCode::CONFLICT, &first["id"]));
    }
    let path = format!("/conversations/{general}/messages");
    for (key, status) in [("once", StatusCode::OK), ("again", StatusCode::CREATED)] {
        let body = json!({ "client_msg_id": key, "text": key });
        let (got, sent) = ada.call(Method::POST, &path, body).await;
        assert_eq!((got, &sent["duplicate"]), (status, &json!(status == StatusCode::OK)), "{sent}");
    }
    assert_eq!(ada.get(&format!("/conversations/{general}")).await["last_seq"], 2);
}

#[tokio::test]
async fn who_was_away_gets_the_current_state_of_what_changed() {
    let server = Server::start();
    let (ada, bob, _, general) = server.ada_and_bob().await;
    let (mut adas, mut bobs) = (ada.connect().await, bob.connect().await);
    let kept = adas.say(&general, "kept").await;
    let gone = adas.say(&general, "gone").await;
    let cursor = loop {
        let event = bobs.event("message.created").await;
        if event["data"]["message"]["id"] == gone["id"] {
            break event["rev"].as_u64().expect("a rev");
        }
    };
    let epoch = bobs.hello["epoch"].clone();
    drop(bobs);
    adas.command("message.edit", json!({ "message_id": kept["id"], "text": "edited" })).await;
    adas.command("message.delete", json!({ "message_id": gone["id"] })).await;
    adas.command("reaction.add", json!({ "message_id": kept["id"], "emoji": "👍" })).await;
    adas.say(&general, "new").await;

    let mut bobs =
        bob.resume(json!({ "epoch": epoch, "cursors": { general.clone(): cursor } })).await;
    let replay = bobs.event("replay").await;
    assert_eq!(
        (replay["from_rev"].as_u64(), replay["to_rev"].as_u64()),
        (Some(cursor), Some(cursor + 4))
    );
    let messages = replay["data"]["messages"].as_array().expect("messages");
    let state: Vec<_> = messages
        .iter()
        .map(|m| (m["text"].as_str(), m["reactions"].as_array().map(Vec::len)))
        .collect();
    assert_eq!(state, [(Some(""), Some(0)), (Some("edited"), Some(1)), (Some("new"), Some(0))]);
    adas.say(&general, "live").await;
    assert_eq!(bobs.event("message.created").await["rev"].as_u64(), Some(cursor + 5));

    let mut lost = bob.resume(json!({ "epoch": "another", "cursors": { general: 1 } })).await;
    assert_eq!(lost.event("replay").await["reset"], true);
}

#[tokio::test]
async fn who_stays_hears_who_goes_and_who_is_back_hears_their_dms() {
    let server = Server::start();
    let (ada, bob) = (server.sign_up("ada").await, server.sign_up("bob").await);
    let (workspace, general, code) = ada.workspace().await;
    bob.join(&code).await;
    let dms = format!("/workspaces/{workspace}/dms");
    let dm = text(&ada.post(&dms, json!({ "user_id": bob.id })).await["id"]);
    let (mut adas, mut bobs) = (ada.connect().await, bob.connect().await);

    let member = format!("/workspaces/{workspace}/members/{}", bob.id);
    ada.call(Method::PATCH, &member, json!({ "role": "admin" })).await;
    for socket in [&mut adas, &mut bobs] {
        let told = socket.event("member.updated").await;
        assert_eq!(told["data"]["member"]["role"], "admin", "{told}");
    }
    assert_eq!(ada.call(Method::DELETE, &member, Value::Null).await.0, StatusCode::NO_CONTENT);
    let left = adas.event("conversation.member_left").await;
    assert_eq!(
        (&left["conversation_id"], &left["data"]["user_id"]),
        (&json!(general), &json!(bob.id))
    );
    assert_eq!(adas.event("member.left").await["data"]["user_id"], bob.id.as_str());

    bob.join(&code).await;
    // Ada hears that the DM has its other side again; otherwise she would not know that she may write.
    loop {
        let back = adas.event("conversation.member_joined").await;
        assert_eq!(back["data"]["user_id"], bob.id.as_str(), "{back}");
        if back["conversation_id"] == dm.as_str() {
            break;
        }
    }
    adas.say(&dm, "welcome back").await;
    let mut joined = vec![];
    while joined.len() < 2 {
        let told = bobs.event_of(&["conversation.joined", "message.created"]).await;
        assert_eq!(told["type"], "conversation.joined", "{told}");
        joined.push(told["conversation_id"].clone());
    }
    assert!(joined.contains(&json!(general)) && joined.contains(&json!(dm)), "{joined:?}");
    assert_eq!(bobs.event("message.created").await["data"]["message"]["text"], "welcome back");
}
