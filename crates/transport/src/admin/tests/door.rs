//! Who is let in, and the headers that pages are sent with.

use std::time::Duration;

use actix_web::{
    http::{Method, StatusCode, header},
    test,
};
use parlance_application::{
    Error,
    ports::{
        JobCounts, PasswordHash,
        store::{Credentials, Rotation},
    },
};
use parlance_domain::{Account, SessionRev};

use super::{JOB, SESSION, SITE, Scene};

fn form(email: &str, password: &str) -> test::TestRequest {
    test::TestRequest::post()
        .uri("/admin/sign-in")
        .insert_header((header::ORIGIN, SITE))
        .set_form([("email", email), ("password", password)])
}

#[actix_web::test]
async fn nothing_answers_without_admins() {
    for path in [
        "/admin",
        "/admin/queues",
        "/admin/sign-in",
        "/admin/assets/board.js",
        "/admin/api/overview",
    ] {
        let mut scene = Scene::new();
        scene.admins.clear();
        let request = scene.get(path);
        scene.answer(request).await.refused(StatusCode::NOT_FOUND, "not_found");
    }
}

#[actix_web::test]
async fn strangers_are_shown_the_door() {
    let [overview, queues, home] =
        ["/admin/api/overview", "/admin/queues", "/admin"].map(test::TestRequest::with_uri);
    let answers = Scene::new().answers([overview, queues, home]).await;
    answers[0].refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    assert_eq!(answers[1].status, StatusCode::SEE_OTHER);
    assert_eq!(answers[1].header(header::LOCATION), "/admin/sign-in");
    assert_eq!(answers[2].header(header::LOCATION), "/admin/queues");
}

#[actix_web::test]
async fn a_session_that_has_ended_is_shown_the_door() {
    let mut scene = Scene::new();
    scene.store.checkpoint();
    scene.store.expect_session_owner().returning(|_, _| Ok(None));
    let requests = ["/admin/api/overview", "/admin/queues"].map(|path| scene.get(path));
    let answers = scene.answers(requests).await;
    answers[0].refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    assert_eq!(answers[1].status, StatusCode::SEE_OTHER);
}

#[actix_web::test]
async fn who_is_no_admin_is_refused() {
    let mut scene = Scene::new();
    scene.admins = vec!["eve"];
    let requests = ["/admin/api/overview", "/admin/queues"].map(|path| scene.get(path));
    let answers = scene.answers(requests).await;
    answers[0].refused(StatusCode::FORBIDDEN, "forbidden");
    assert_eq!(answers[1].status, StatusCode::SEE_OTHER);
}

#[actix_web::test]
async fn pages_are_guarded_by_headers() {
    let scene = Scene::new();
    let paths =
        ["/admin/queues", "/admin/sign-in", "/admin/assets/board.js", "/admin/assets/none.js"];
    let requests = paths.map(|path| scene.get(path));
    let answers = scene.answers(requests).await;
    assert_eq!(answers[0].status, StatusCode::OK);
    // Whoever is signed in is redirected.
    assert_eq!(answers[1].status, StatusCode::SEE_OTHER);
    for answer in &answers[..3] {
        let policy = answer.header(header::CONTENT_SECURITY_POLICY);
        assert!(
            policy.starts_with("default-src 'self';") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.header(header::X_FRAME_OPTIONS), "DENY");
        assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
        assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert_eq!(answer.header(header::REFERRER_POLICY), "same-origin");
    }
    assert_eq!(answers[2].header(header::CONTENT_TYPE), "text/javascript; charset=utf-8");
    answers[3].refused(StatusCode::NOT_FOUND, "not_found");
}

#[actix_web::test]
async fn an_expired_token_is_renewed() {
    let mut scene = Scene::new();
    scene.board.expect_counts().return_once(|_| Ok(JobCounts { dead: 2, ..JobCounts::default() }));
    scene.board.expect_workers().return_once(|_| Ok(vec![]));
    scene
        .board
        .expect_throughput()
        .withf(|minutes, _| *minutes == 60)
        .return_once(|_, _| Ok(vec![]));
    let account = scene.ada.clone();
    scene
        .store
        .expect_rotate_refresh()
        .return_once(move |_| Ok(Rotation::Rotated { account, session_id: SESSION }));
    let cookie = scene.cookie(Duration::ZERO);
    let request =
        test::TestRequest::with_uri("/admin/api/overview").insert_header((header::COOKIE, cookie));
    let answer = scene.answer(request).await;
    assert_eq!((answer.status, &answer.json()["counts"]["dead"]), (StatusCode::OK, &2.into()));
    let cookie = answer.header(header::SET_COOKIE);
    assert!(
        cookie.starts_with("parlance_board=")
            && cookie.contains(&format!("~08{}", "07".repeat(31)))
    );
    assert!(cookie.ends_with("; Path=/admin; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
}

#[actix_web::test]
async fn only_admins_sign_in() {
    let mut scene = Scene::new();
    let ada = scene.ada.clone();
    scene.store.expect_credentials().returning(move |email| {
        Ok(Some(Credentials {
            account: Account { email: email.as_str().to_owned(), ..ada.clone() },
            password: PasswordHash("plain:right".to_owned()),
        }))
    });
    scene.store.expect_open_session().times(1).returning(|_, _| Ok(()));
    let elsewhere = form("ada@example.org", "right").insert_header((header::ORIGIN, "null"));
    let requests = [
        form("Ada@Example.org", "right"),
        form("ada@example.org", "wrong"),
        form("eve@example.org", "right"),
        elsewhere,
    ];
    let answers = scene.answers(requests).await;
    assert_eq!(answers[0].status, StatusCode::SEE_OTHER);
    assert_eq!(answers[0].header(header::LOCATION), "/admin/queues");
    assert!(answers[0].header(header::SET_COOKIE).contains("; HttpOnly; SameSite=Strict; Secure"));
    for refused in &answers[1..3] {
        assert_eq!(
            (refused.status, refused.header(header::SET_COOKIE)),
            (StatusCode::UNAUTHORIZED, "")
        );
        assert_eq!(refused.body, answers[1].body);
    }
    assert!(String::from_utf8_lossy(&answers[1].body).contains("Wrong e-mail address or password"));
    answers[3].refused(StatusCode::FORBIDDEN, "forbidden");
}

#[actix_web::test]
async fn a_form_is_a_form_and_of_a_bounded_length() {
    let json = test::TestRequest::post().uri("/admin/sign-in").set_json("{}");
    let requests = [json, form("ada@example.org", &"x".repeat(65_536))];
    let answers = Scene::new().answers(requests).await;
    answers[0].refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type");
    answers[1].refused(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large");
    assert_eq!(answers[1].json()["detail"], "the body is larger than 65536 bytes");
}

#[actix_web::test]
async fn guessing_is_slowed_down() {
    let requests = [(); 6].map(|()| form("eve@example.org", "guess"));
    let mut scene = Scene::new();
    scene.store.expect_credentials().returning(|_| Ok(None));
    let answers = scene.answers(requests).await;
    assert!(answers[..5].iter().all(|answer| answer.status == StatusCode::UNAUTHORIZED));
    assert_eq!(answers[5].status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answers[5].header(header::RETRY_AFTER), "60");
}

/// Twenty in all, at whichever sign-in; and that reveals nobody as an admin.
#[actix_web::test]
async fn a_guess_at_the_board_is_one_at_every_door() {
    for email in ["ada@example.org", "eve@example.org"] {
        let mut scene = Scene::new();
        scene.store.expect_credentials().returning(|_| Ok(None));
        let elsewhere = || {
            let guess = serde_json::json!({ "email": email, "password": "guess" });
            test::TestRequest::post().uri("/api/v1/auth/signin").set_json(guess)
        };
        let mut requests: Vec<_> = (0..5).map(|_| form(email, "guess")).collect();
        requests.extend((0..16).map(|_| elsewhere()));
        let statuses: Vec<_> = scene.answers(requests).await.iter().map(|it| it.status).collect();
        assert!(statuses[..20].iter().all(|it| *it == StatusCode::UNAUTHORIZED), "{statuses:?}");
        assert_eq!(statuses[20], StatusCode::TOO_MANY_REQUESTS, "{email}");
    }
}

#[actix_web::test]
async fn guesses_at_the_api_are_not_gone_on_with_at_the_board() {
    let mut scene = Scene::new();
    scene.store.expect_credentials().returning(|_| Ok(None));
    let guess = serde_json::json!({ "email": "ada@example.org", "password": "guess" });
    let elsewhere = || test::TestRequest::post().uri("/api/v1/auth/signin").set_json(&guess);
    let mut requests: Vec<_> = (0..20).map(|_| elsewhere()).collect();
    requests.push(form("Ada@example.org", "guess"));
    let answers = scene.answers(requests).await;
    assert_eq!(answers[19].status, StatusCode::UNAUTHORIZED);
    assert_eq!(answers[20].status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answers[20].header(header::RETRY_AFTER), "60");
}

#[actix_web::test]
async fn guessing_slows_nobody_else_down_behind_a_trusted_proxy() {
    let mut scene = Scene::new();
    scene.behind_proxy = true;
    scene.store.expect_credentials().returning(|_| Ok(None));
    let from = |address: &str| {
        form("eve@example.org", "guess").insert_header((header::X_FORWARDED_FOR, address))
    };
    let mut requests: Vec<_> = (0..6).map(|_| from("203.0.113.7")).collect();
    requests.push(from("203.0.113.8"));
    let answers = scene.answers(requests).await;
    assert_eq!(answers[5].status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answers[6].status, StatusCode::UNAUTHORIZED);
}

/// For example by another tab at the same time.
#[actix_web::test]
async fn who_is_signed_out_already_loses_the_cookie_too() {
    let mut scene = Scene::new();
    scene.store.expect_revoke_session().return_once(|_, _, _| Err(Error::NotFound("session")));
    let request = scene.change(Method::POST, "/admin/sign-out");
    let answer = scene.answer(request).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(answer.header(header::SET_COOKIE).starts_with("parlance_board=; Max-Age=0;"));
}

#[actix_web::test]
async fn signing_out_ends_the_session() {
    let mut scene = Scene::new();
    scene
        .store
        .expect_revoke_session()
        .times(1)
        .withf(|_, session, _| *session == SESSION)
        .return_once(|_, _, _| Ok(SessionRev(1)));
    let bare = scene.get("/admin/sign-out").method(Method::POST);
    let requests = [bare, scene.change(Method::POST, "/admin/sign-out")];
    let answers = scene.answers(requests).await;
    answers[0].refused(StatusCode::FORBIDDEN, "forbidden");
    assert_eq!(answers[1].status, StatusCode::NO_CONTENT);
    assert!(
        answers[1]
            .header(header::SET_COOKIE)
            .starts_with("parlance_board=; Max-Age=0; Path=/admin")
    );
}

#[actix_web::test]
async fn changes_come_from_the_boards_own_page() {
    let scene = Scene::new();
    let path = format!("/admin/api/jobs/{JOB}/retry");
    let requests = [
        scene.get(&path).method(Method::POST),
        scene
            .change(Method::POST, &path)
            .insert_header((header::ORIGIN, "https://other.example.org")),
        scene
            .change(Method::DELETE, &format!("/admin/api/jobs/{JOB}"))
            .insert_header((header::ORIGIN, "null")),
        scene.get("/admin/api/retry-all").method(Method::POST),
    ];
    for answer in scene.answers(requests).await {
        answer.refused(StatusCode::FORBIDDEN, "forbidden");
    }
}
