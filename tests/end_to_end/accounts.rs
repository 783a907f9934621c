//! Sessions and passwords, end to end: what a session's end does at once, and what a stranger may learn.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Server, until};

#[tokio::test]
async fn a_revoked_session_ends_at_once_on_rest_and_on_its_socket() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let mut socket = ada.connect().await;
    let (status, _) = ada.call(Method::POST, "/auth/signout", Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(
        socket.event("session.revoked").await["data"]["session_id"],
        socket.hello["session_id"]
    );
    assert_eq!(socket.closed().await, 4502);
    let (status, problem) = ada.call(Method::GET, "/users/me", Value::Null).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("unauthenticated")));
}

#[tokio::test]
async fn refresh_tokens_rotate_and_an_old_one_ends_the_session() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let refresh =
        |token: Value| ada.call(Method::POST, "/auth/refresh", json!({ "refresh_token": token }));
    let (status, second) = refresh(json!(ada.refresh)).await;
    assert_eq!(status, StatusCode::OK);
    let (_, tab) = refresh(json!(ada.refresh)).await;
    assert_eq!(tab["refresh_token"], second["refresh_token"], "two tabs get the same successor");
    assert_eq!(refresh(second["refresh_token"].clone()).await.0, StatusCode::OK);
    assert_eq!(
        refresh(json!(ada.refresh)).await.0,
        StatusCode::UNAUTHORIZED,
        "older than the preceding one"
    );
    assert_eq!(
        refresh(second["refresh_token"].clone()).await.0,
        StatusCode::UNAUTHORIZED,
        "the session has ended"
    );
    assert_eq!(ada.call(Method::GET, "/users/me", Value::Null).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn sign_in_does_not_tell_which_half_was_wrong() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let sign_in = |email: &str, password: &str| {
        ada.call(Method::POST, "/auth/signin", json!({ "email": email, "password": password }))
    };
    assert_eq!(sign_in("ADA@example.org", "correct horse").await.0, StatusCode::OK);
    let (wrong_status, wrong) = sign_in("ada@example.org", "wrong horse").await;
    let (nobody_status, nobody) = sign_in("nobody@example.org", "correct horse").await;
    assert_eq!((wrong_status, &wrong["detail"]), (nobody_status, &nobody["detail"]));
    assert_eq!(wrong_status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn whoever_guesses_on_has_to_pause_and_nobody_else() {
    let server = Server::start();
    let (ada, bob) = (server.sign_up("ada").await, server.sign_up("bob").await);
    let sign_in = |name: &str, password: &str| {
        let email = format!("{name}@example.org");
        ada.call(Method::POST, "/auth/signin", json!({ "email": email, "password": password }))
    };
    assert_eq!(sign_in("ada", "wrong horse").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(sign_in("ada", "correct horse").await.0, StatusCode::OK, "and begins anew");
    for _ in 0..20 {
        assert_eq!(sign_in("ada", "wrong horse").await.0, StatusCode::UNAUTHORIZED);
    }
    let (status, refused) = sign_in("ada", "correct horse").await;
    assert_eq!((status.as_u16(), &refused["code"]), (429, &json!("rate_limited")), "{refused}");
    assert_eq!(sign_in("bob", "correct horse").await.0, StatusCode::OK);
    assert_eq!(bob.call(Method::GET, "/users/me", Value::Null).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_welcome_mail_is_written_for_who_signs_up() {
    let server = Server::start();
    server.sign_up("ada").await;
    until("a mail", async || !server.home.mails().is_empty()).await;
    let mail = server.home.mails().remove(0);
    assert!(mail.contains("To: ada@example.org") && mail.contains("Hello ada"), "{mail}");
}
