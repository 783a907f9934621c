//! What all answers have in common, whatever gives them.

use std::io::ErrorKind;

use actix_service::Service as _;
use actix_web::{
    http::{Method, StatusCode, Version, header},
    test::TestRequest,
};
use parlance_application::ports::{Ambient as _, Claims, TokenIssuer as _};
use parlance_domain::ConversationId;
use parlance_testkit::{MemoryStore, PATIENCE, PlainTokens, Stage, TestNode, mocks::MockStore};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{self, TcpStream},
    sync::watch,
    time::{self, Instant, timeout},
};

use super::*;
use crate::testing::{Answer, StoppedClock, answers, node};

/// A server without accounts.
fn empty() -> Serve {
    let app = Data::new(TestNode::start(MockStore::new()).app(MockStore::new()));
    let (node, draining) = (Data::new(node()), watch::channel(false).1);
    Serve { app, admin: None, node, hub: Hub::new(1), draining }
}

async fn answer(request: TestRequest) -> Answer {
    answers(empty(), vec![request]).await.remove(0)
}

/// A client's end of a connection that the server serves on this thread.
async fn connected() -> TcpStream {
    let service = empty().connections().new_service(()).await.expect("a service");
    let listener = net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let theirs = TcpStream::connect(listener.local_addr().expect("an address")).await;
    let (ours, _) = listener.accept().await.expect("a connection");
    actix_web::rt::spawn(service.call(ours));
    theirs.expect("connects")
}

/// Sends this on a new connection and waits; returns everything that comes.
async fn heard(says: &[u8]) -> String {
    let mut client = connected().await;
    client.write_all(says).await.expect("written");
    let mut heard = String::new();
    let whole = timeout(PATIENCE, client.read_to_string(&mut heard)).await;
    whole.unwrap_or_else(|_| panic!("no end after {heard:?}")).expect("read");
    heard
}

/// A connection on which this many requests have been answered.
async fn kept(requests: usize) -> TcpStream {
    let mut client = connected().await;
    for _ in 0..requests {
        client.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
        let read = timeout(PATIENCE, client.read(&mut [0; 4096])).await;
        assert!(read.expect("in time").expect("read") > 0);
    }
    client
}

/// Sends `requests` whole requests and lets another, beginning with `begins`, drip in; returns how long the client is
/// served, and what it hears.
async fn drips(requests: usize, begins: &str) -> (Duration, String) {
    let mut client = kept(requests).await;
    client.write_all(begins.as_bytes()).await.expect("written");
    lasts(&client, b"G").await
}

/// How long the connection of a client that keeps sending this lasts, and what the client hears.
async fn lasts(client: &TcpStream, drop: &[u8]) -> (Duration, String) {
    let _clock = StoppedClock::new();
    let (begun, mut heard, mut chunk) = (Instant::now(), Vec::new(), [0; 4096]);
    while begun.elapsed() < Duration::from_mins(5) {
        match client.try_read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => heard.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() != ErrorKind::WouldBlock => break,
            Err(_) => {}
        }
        // The server may have closed it, which the next read finds.
        let _ = client.try_write(drop);
        // In small steps: the runtime polls its sockets only now and then.
        time::advance(Duration::from_millis(10)).await;
    }
    (begun.elapsed(), String::from_utf8(heard).expect("text"))
}

/// A proxy that keeps it longer than the server would now and then send a request just as it closes.
#[actix_web::test]
async fn an_idle_connection_is_kept_for_longer_than_a_proxy_keeps_it() {
    let (lasted, heard) = lasts(&kept(1).await, b"").await;
    assert!(lasted.abs_diff(KEEP_ALIVE) < Duration::from_secs(2), "{lasted:?}");
    assert_eq!(heard, "");
}

/// Otherwise clients with requests that never complete would exhaust the server's connections.
#[actix_web::test]
async fn a_first_request_that_drips_in_ends_its_connection() {
    let (lasted, _) = drips(0, "").await;
    assert!(lasted.abs_diff(REQUEST_TIMEOUT) < Duration::from_secs(2), "{lasted:?}");
}

#[actix_web::test]
async fn a_later_request_that_drips_in_ends_its_connection() {
    let (lasted, _) = drips(2, "").await;
    assert!(lasted.abs_diff(super::PATIENCE) < Duration::from_secs(2), "{lasted:?}");
}

/// As the contract requires, before the connection ends.
#[actix_web::test]
async fn a_body_that_drips_in_is_refused() {
    let head = "POST /api/v1/auth/signin HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        content-length: 60000\r\n\r\n";
    let (lasted, heard) = drips(1, head).await;
    assert!(
        heard.starts_with("HTTP/1.1 400 ") && heard.contains("did not come in time"),
        "{heard}"
    );
    assert!(lasted < super::PATIENCE, "{lasted:?}");
}

/// Otherwise a proxy that keeps its connections would go on using a node that is shutting down.
#[actix_web::test]
async fn a_kept_connection_is_closed_when_the_node_is_to_end() {
    let (drain, draining) = watch::channel(false);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = Serve { draining, ..empty() }.on(listener, Duration::ZERO).expect("serves");
    let (handle, serving) = (server.handle(), actix_web::rt::spawn(server));
    let mut kept = TcpStream::connect(address).await.expect("connects");
    kept.write_all(b"GET /livez HTTP/1.1\r\nhost: here\r\n\r\n").await.expect("written");
    let mut heard = vec![0; 4096];
    let read = timeout(PATIENCE, kept.read(&mut heard)).await.expect("in time").expect("read");
    assert!(heard[..read].starts_with(b"HTTP/1.1 200"), "{heard:?}");
    drain.send_replace(true);
    let end = timeout(PATIENCE, kept.read_to_end(&mut heard)).await;
    end.expect("no end").expect("an orderly end");
    handle.stop(false).await;
    serving.await.expect("no panic").expect("served");
}

#[actix_web::test]
async fn a_panic_is_answered_like_all_else() {
    let node = Node { ready: Box::new(|| panic!("of a defect")), ..node() };
    let serve = Serve { node: Data::new(node), ..empty() };
    let origin = "https://other.example.org";
    let request = TestRequest::with_uri("/readyz").insert_header((header::ORIGIN, origin));
    let answer = answers(serve, vec![request]).await.remove(0);
    answer.refused(StatusCode::INTERNAL_SERVER_ERROR, "internal");
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
    assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), origin);
    assert_eq!(answer.json()["request_id"], answer.header("x-request-id"));
}

/// Otherwise a client that leaves a body unfinished would keep the connection forever.
#[actix_web::test]
async fn a_body_that_nobody_reads_ends_its_connection() {
    for (path, status) in [("/api/v1/auth/signin", 415), ("/livez", 405), ("/nowhere", 404)] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n");
        let begun = format!("{head}Content-Type: text/plain\r\n\r\n5\r\nhello\r\n");
        let heard = heard(begun.as_bytes()).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status}")), "{heard}");
        assert!(heard.contains("connection: close\r\n"), "{heard}");
        assert!(heard.ends_with('}'), "{heard}");
    }
}

#[actix_web::test]
async fn head_is_answered_like_get_without_a_body() {
    let heard = heard(b"HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(heard.starts_with("HTTP/1.1 200") && heard.ends_with("\r\n\r\n"), "{heard}");
    assert!(heard.contains("content-length: 15\r\n"), "{heard}");
    let request = TestRequest::with_uri("/api/v1/users/me").method(Method::DELETE);
    let answer = answer(request).await;
    answer.refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    assert_eq!(answer.header(header::ALLOW), "GET, HEAD, PATCH");
}

#[actix_web::test]
async fn a_handshake_of_another_version_is_told_which_is_spoken() {
    let handshake = |version| {
        TestRequest::with_uri("/api/v1/ws")
            .insert_header((header::UPGRADE, "websocket"))
            .insert_header((header::CONNECTION, "upgrade"))
            .insert_header((header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="))
            .insert_header((header::SEC_WEBSOCKET_VERSION, version))
    };
    let answer = answer(handshake("8")).await;
    answer.refused(StatusCode::BAD_REQUEST, "bad_request");
    assert_eq!(answer.header(header::SEC_WEBSOCKET_VERSION), "13");
}

/// RFC 6455, 4.2.1 and 11.3.1.
#[actix_web::test]
async fn a_handshake_has_one_key_and_is_http_1_1() {
    let handshake = || {
        TestRequest::with_uri("/api/v1/ws")
            .insert_header((header::UPGRADE, "websocket"))
            .insert_header((header::CONNECTION, "upgrade"))
            .insert_header((header::SEC_WEBSOCKET_VERSION, "13"))
            .insert_header((header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="))
    };
    let twice = handshake().append_header((header::SEC_WEBSOCKET_KEY, "AAAAAAAAAAAAAAAAAAAAAA=="));
    let old = handshake().version(Version::HTTP_10);
    for (request, why) in [(twice, "only once"), (old, "HTTP/1.1")] {
        let answer = answer(request).await;
        answer.refused(StatusCode::BAD_REQUEST, "bad_request");
        assert!(answer.json()["detail"].as_str().is_some_and(|told| told.contains(why)));
    }
}

/// Including those of libraries, and of what precedes the routes.
#[actix_web::test]
async fn every_refusal_is_a_problem() {
    let preflight = |origin, method| {
        TestRequest::with_uri("/api/v1/users/me")
            .method(Method::OPTIONS)
            .insert_header((header::ORIGIN, origin))
            .insert_header((header::ACCESS_CONTROL_REQUEST_METHOD, method))
    };
    let (ours, foreign) = ("https://other.example.org", "https://evil.example.org");
    for (request, status, code) in [
        (TestRequest::with_uri("/docs/nope"), StatusCode::NOT_FOUND, "not_found"),
        (
            TestRequest::with_uri("/docs/").method(Method::POST),
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
        ),
        (
            TestRequest::with_uri("/docs").method(Method::POST),
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
        ),
        (
            TestRequest::with_uri("/api/v1/ws").method(Method::HEAD),
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
        ),
        (preflight(foreign, "GET"), StatusCode::BAD_REQUEST, "bad_request"),
        (preflight(ours, "FOO"), StatusCode::BAD_REQUEST, "bad_request"),
    ] {
        let answer = answer(request).await;
        answer.refused(status, code);
        assert_eq!(answer.json()["request_id"], answer.header("x-request-id"));
        assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
    }
    let allowed = answer(preflight(ours, "GET")).await;
    assert_eq!(allowed.status, StatusCode::OK);
    assert_eq!(allowed.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), ours);
}

/// Its scripts are all files; its styles are not.
#[actix_web::test]
async fn the_explorer_runs_no_inline_script_and_reads_the_one_document() {
    let paths = ["/docs/", "/docs/swagger-initializer.js", "/openapi.json", "/docsx"];
    let answers = answers(empty(), paths.map(TestRequest::with_uri).into()).await;
    let policy = answers[0].header(header::CONTENT_SECURITY_POLICY);
    assert!(policy.starts_with("default-src 'self'; style-src"), "{policy}");
    assert!(!policy.contains("script-src"), "{policy}");
    let page = String::from_utf8_lossy(&answers[0].body);
    assert_eq!(page.matches("<script").count(), page.matches("<script src=").count(), "{page}");
    let initializer = String::from_utf8_lossy(&answers[1].body);
    assert!(initializer.contains(r#""url": "/openapi.json""#), "{initializer}");
    assert_eq!(answers[2].body, openapi_json());
    answers[3].refused(StatusCode::NOT_FOUND, "not_found");
    let policy = answers[3].header(header::CONTENT_SECURITY_POLICY);
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
}

#[actix_web::test]
async fn the_socket_is_described_too() {
    let answer = answer(TestRequest::with_uri("/asyncapi.json")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, crate::asyncapi_json());
}

/// Well typed, but out of bounds.
#[actix_web::test]
async fn a_number_out_of_bounds_is_refused_by_its_name() {
    let store = MemoryStore::new();
    let (account, session) = Stage::new(store.clone()).sign_up("ada").await;
    let node = TestNode::start(store.clone());
    let expires_at = node.ambient.now() + Duration::from_mins(1);
    let claims = Claims { user_id: account.id, session_id: session.id, expires_at };
    let bearer = format!("Bearer {}", PlainTokens.issue(claims).expect("a token").0);
    let serve = Serve { app: Data::new(node.app(store)), ..empty() };
    let here = ConversationId(node.ambient.next_uuid());
    let at = |path: &str| {
        TestRequest::with_uri(&format!("/api/v1/conversations/{here}/{path}"))
            .insert_header((header::AUTHORIZATION, &*bearer))
    };
    let read = |seq: serde_json::Value| {
        at("read").method(Method::PUT).set_json(serde_json::json!({ "seq": seq }))
    };
    let most = (1_u64 << 53) - 1;
    let out = [
        ("before_seq", at("messages?before_seq=-1")),
        ("after_seq", at(&format!("messages?after_seq={}", most + 1))),
        ("from_rev", at("sync?from_rev=-1")),
        ("from_rev", at("sync?from_rev=9223372036854775808")),
        ("seq", read((-1).into())),
        ("seq", read((most + 1).into())),
    ];
    let fields = out.iter().map(|(field, _)| *field).collect::<Vec<_>>();
    let refused = answers(serve.clone(), out.into_iter().map(|(_, request)| request).collect());
    for (answer, field) in refused.await.iter().zip(fields) {
        answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed");
        assert_eq!(answer.json()["errors"][0]["field"], field);
    }
    let strange = at("messages?limit=99999999999999999999");
    answers(serve.clone(), vec![strange]).await[0]
        .refused(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed");
    let unread = TestRequest::with_uri(&format!("/api/v1/messages/{here}/reactions/%FF"))
        .insert_header((header::AUTHORIZATION, &*bearer))
        .method(Method::PUT);
    answers(serve.clone(), vec![unread]).await[0].refused(StatusCode::BAD_REQUEST, "bad_request");
    let others = vec![read(1.5.into()), read("1".into()), at("sync?from_rev=x"), read(most.into())];
    let others = answers(serve, others).await;
    for answer in &others[..3] {
        answer.refused(StatusCode::BAD_REQUEST, "bad_request");
    }
    others[3].refused(StatusCode::NOT_FOUND, "not_found");
}
