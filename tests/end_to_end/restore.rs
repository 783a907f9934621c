//! A store that was restored has another epoch, so clients drop what they hold. How a copy is noticed is in
//! `backup.rs`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{Server, home::Home, run};

/// The replay that a `hello` brought, if it brought one.
async fn replay(socket: &mut crate::support::Socket) -> Option<Value> {
    socket.settled().await.into_iter().find(|event| event["type"] == "replay")
}

#[tokio::test]
async fn a_renewed_history_makes_clients_drop_what_they_hold() {
    let mut server = Server::start();
    let home: Arc<Home> = server.home.clone();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let mut socket = ada.connect().await;
    for text in ["one", "two", "three"] {
        socket.say(&general, text).await;
    }
    let held = json!({ "epoch": socket.hello["epoch"], "cursors": { general.clone(): 3 } });
    assert_eq!(replay(&mut ada.resume(held.clone()).await).await, None, "the cache is good");

    server.kill();
    let (well, said) = run(&home, "admin renew-epoch", &[]);
    assert!(well, "{said}");
    let server = Server::start_in(home, 0, &[]);
    let ada = ada.at(&server);
    let mut socket = ada.resume(held).await;
    assert_eq!(socket.hello["epoch"], said.trim());
    let reset = replay(&mut socket).await.expect("a replay");
    assert_eq!((&reset["reset"], &reset["to_rev"]), (&json!(true), &json!(3)), "{reset}");
    // With the new name everything continues as before.
    socket.say(&general, "four").await;
    assert_eq!(socket.event("message.created").await["rev"], 4);
    let held = json!({ "epoch": socket.hello["epoch"], "cursors": { general: 3 } });
    let missed = replay(&mut ada.resume(held).await).await.expect("a replay");
    assert_eq!((&missed["reset"], &missed["from_rev"]), (&Value::Null, &json!(3)), "{missed}");
}
