//! What is refused, and what every answer carries beside its body.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Person, Server, text};

/// Asserts a refusal, and that it is an RFC 9457 problem; returns it.
async fn refused(person: &Person, to: (Method, &str), body: Value, with: (u16, &str)) -> Value {
    let (method, path) = to;
    let answer = person.ask(method, path, body).await;
    let status = answer.status();
    let [kind, id] = ["content-type", "x-request-id"].map(|name| header(&answer, name));
    let problem: Value = answer.json().await.expect("a body of JSON");
    assert_eq!((status.as_u16(), &problem["code"]), (with.0, &json!(with.1)), "{path}: {problem}");
    assert_eq!(
        (&*kind, &problem["request_id"]),
        ("application/problem+json", &json!(id)),
        "{path}"
    );
    problem
}

/// Empty if it is missing.
fn header(answer: &Response, name: &str) -> String {
    let value = answer.headers().get(name).map(|value| value.to_str().expect("a header of ASCII"));
    value.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn errors_are_problems_everywhere() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    for (method, path, body, status, code) in [
        (Method::GET, "/nowhere", Value::Null, 404, "not_found"),
        (Method::DELETE, "/users/me", Value::Null, 405, "method_not_allowed"),
        (Method::POST, "/workspaces", json!({}), 400, "bad_request"),
        (Method::POST, "/workspaces", json!({ "name": "x", "more": 1 }), 400, "bad_request"),
        (Method::POST, "/workspaces", json!({ "name": " " }), 422, "validation_failed"),
        (
            Method::POST,
            "/workspaces",
            json!({ "name": "x".repeat(70_000) }),
            413,
            "payload_too_large",
        ),
        (Method::GET, "/workspaces/7", Value::Null, 400, "bad_request"),
        (Method::GET, "/workspaces?limit=0", Value::Null, 422, "validation_failed"),
    ] {
        refused(&ada, (method, path), body, (status, code)).await;
    }
}

#[tokio::test]
async fn what_is_malformed_or_out_of_bounds_is_refused() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let (workspace, general, _) = ada.workspace().await;
    let ids = |count: usize| format!("/users?ids={}", vec![ada.id.as_str(); count].join(","));
    assert_eq!(ada.get(&ids(100)).await["items"].as_array().map(Vec::len), Some(1));
    refused(&ada, (Method::GET, &ids(101)), Value::Null, (422, "validation_failed")).await;
    for list in ["/workspaces".to_owned(), format!("/conversations/{general}/messages")] {
        ada.get(&format!("{list}?limit=200")).await;
        for limit in [-1, 0, 201] {
            let path = format!("{list}?limit={limit}");
            let problem =
                refused(&ada, (Method::GET, &path), Value::Null, (422, "validation_failed")).await;
            assert_eq!(problem["errors"][0]["field"], "limit", "{problem}");
        }
    }
    let here = format!("/conversations/{general}");
    for (path, body) in [
        ("/workspaces?colour=red", Value::Null),
        ("/workspaces?cursor=7", Value::Null),
        ("/workspaces", json!(["Acme"])),
        ("/workspaces", json!({ "name": 7 })),
    ] {
        let method = if body.is_null() { Method::GET } else { Method::POST };
        refused(&ada, (method, path), body, (400, "bad_request")).await;
    }
    let members = format!("/workspaces/{workspace}/members");
    let member = format!("{members}/{}", ada.id);
    let views = format!("{here}/messages?view=some");
    for (method, path, body, field) in [
        (Method::POST, &members, json!({ "user_id": ada.id, "role": "owner" }), "role"),
        (Method::PATCH, &member, json!({ "role": "owner" }), "role"),
        (Method::GET, &views, Value::Null, "view"),
    ] {
        let problem = refused(&ada, (method, path), body, (422, "validation_failed")).await;
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    refused(&ada, (Method::PATCH, &member), json!({ "role": 7 }), (400, "bad_request")).await;
    let channel = format!("/channels/{general}");
    for field in ["name", "topic"] {
        let body = json!({ field: null });
        refused(&ada, (Method::PATCH, &channel), body, (400, "bad_request")).await;
    }
    let channels = format!("/workspaces/{workspace}/channels");
    ada.post(&channels, json!({ "name": "a".repeat(80), "topic": "b".repeat(250) })).await;
    let body = json!({ "name": "a".repeat(81), "topic": "b".repeat(251) });
    let problem = refused(&ada, (Method::POST, &channels), body, (422, "validation_failed")).await;
    let errors = problem["errors"].as_array().expect("errors");
    let fields: Vec<_> = errors.iter().map(|error| text(&error["field"])).collect();
    assert_eq!(fields, ["name", "topic"], "both at once: {problem}");
}

#[tokio::test]
async fn what_is_not_built_or_not_a_channel_is_refused() {
    let server = Server::start();
    let (ada, bob, workspace, general) = server.ada_and_bob().await;
    let dms = format!("/workspaces/{workspace}/dms");
    let dm = text(&ada.post(&dms, json!({ "user_id": bob.id })).await["id"]);
    assert_eq!(ada.get(&format!("/conversations/{dm}")).await["kind"], "dm");
    let as_channel = format!("/channels/{dm}");
    refused(&ada, (Method::GET, &as_channel), Value::Null, (404, "not_found")).await;
    let members = format!("{as_channel}/members");
    refused(&ada, (Method::GET, &members), Value::Null, (404, "not_found")).await;

    let body = json!({ "client_msg_id": "1", "text": "a reply", "thread_root_id": dm });
    let path = format!("/conversations/{general}/messages");
    let problem = refused(&ada, (Method::POST, &path), body, (422, "validation_failed")).await;
    assert_eq!(problem["errors"][0]["field"], "thread_root_id", "{problem}");
}

#[tokio::test]
async fn a_body_is_json_and_of_a_bounded_length() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let address = server.url.trim_start_matches("http://");
    let post = |headers: &str, body: &[u8]| {
        let mut socket = TcpStream::connect(address).expect("connects");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let head = format!(
            "POST /api/v1/workspaces HTTP/1.1\r\nHost: parlance\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\n{headers}\r\n\r\n",
            ada.token
        );
        // A server that refuses may hang up before it has everything.
        let _ = socket.write_all(&[head.as_bytes(), body].concat());
        let mut answer = vec![];
        // What it leaves unread may reset the connection after its answer.
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let name = br#"{"name":"Acme"}"#;
    let length = format!("Content-Length: {}", name.len());
    let json = "Content-Type: application/json";
    assert!(post(&format!("{json}; charset=utf-8\r\n{length}"), name).starts_with("HTTP/1.1 201"));
    for other in ["Content-Type: text/plain", "Accept: */*"] {
        let answer = post(&format!("{other}\r\n{length}"), name);
        assert!(answer.starts_with("HTTP/1.1 415"), "{other}: {answer}");
        assert!(answer.contains(r#""code":"unsupported_media_type""#), "{answer}");
    }
    // Even without a length, no more than 64 KiB are accepted.
    let chunk = [&b"10000\r\n"[..], &vec![b' '; 0x1_0000], b"\r\n"].concat();
    let chunked = [&chunk[..], b"f\r\n", name, b"\r\n0\r\n\r\n"].concat();
    let answer = post(&format!("{json}\r\nTransfer-Encoding: chunked"), &chunked);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn every_answer_has_what_protects_it_and_a_refusal_says_how_to_do_better() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    for (method, path, token, status, better) in [
        (Method::GET, "/api/v1/users/me", &*ada.token, 200, None),
        (Method::GET, "/livez", "", 200, None),
        (Method::GET, "/api/v1/nowhere", &ada.token, 404, None),
        (Method::DELETE, "/api/v1/users/me", &ada.token, 405, Some(("allow", "GET, HEAD, PATCH"))),
        (Method::GET, "/api/v1/users/me", "", 401, Some(("www-authenticate", "Bearer"))),
        (
            Method::GET,
            "/api/v1/users/me",
            "nonsense",
            401,
            Some(("www-authenticate", r#"error="invalid_token""#)),
        ),
    ] {
        let mut request = reqwest::Client::new().request(method, format!("{}{path}", server.url));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(header(&answer, name), value, "{name} of {path}, {status}");
        }
        assert_ne!(header(&answer, "x-request-id"), "", "{path}, {status}");
        if let Some((name, hint)) = better {
            let said = header(&answer, name);
            assert!(said.contains(hint), "{name} of {path}, {status}: {said}");
        }
    }
}

#[tokio::test]
async fn who_sends_too_much_is_told_when_to_go_on() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let mut socket = ada.connect().await;
    let (mut sent, mut taken, mut refused) = (0, 0, vec![]);
    while refused.is_empty() && sent < 5_000 {
        for _ in 0..50 {
            sent += 1;
            let key = sent.to_string();
            let data = json!({ "conversation_id": general, "client_msg_id": key, "text": "x" });
            socket.begin("message.send", data).await;
        }
        // A refusal overtakes writes in progress.
        while taken + refused.len() < sent {
            let frame = socket.frame().await;
            match frame["type"].as_str() {
                Some("ok") => taken += 1,
                Some("error") => refused.push(frame["error"].clone()),
                _ => {}
            }
        }
    }
    assert!(taken >= 1_000, "only {taken}, then: {refused:?}");
    let told = |error: &Value| {
        error["code"] == "rate_limited" && error["retry_after_ms"].as_u64() > Some(0)
    };
    assert!(!refused.is_empty() && refused.iter().all(told), "{taken}, then: {refused:?}");
}

#[tokio::test]
async fn only_listed_origins_may_read_answers() {
    let listed = "https://app.example.org";
    let server = Server::start_with(&[("PARLANCE_ALLOWED_ORIGINS", listed)]);
    for (origin, allowed) in [
        (listed, true),
        (server.url.as_str(), true),
        ("https://app.example.org.evil.net", false),
        ("null", false),
    ] {
        let request = reqwest::Client::new().get(format!("{}/api/v1/users/me", server.url));
        let answer = request.header("origin", origin).send().await.expect("an answer");
        let told = header(&answer, "access-control-allow-origin");
        assert_eq!(told == origin, allowed, "{origin}: {told}");
        let exposed = header(&answer, "access-control-expose-headers").to_lowercase();
        for name in ["retry-after", "x-request-id", "ratelimit-remaining"] {
            assert!(!allowed || exposed.contains(name), "{name} is not in {exposed}");
        }
    }
}
