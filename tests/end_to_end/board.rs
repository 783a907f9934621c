//! The job board through its cookie, as a browser uses it. [`Browser`] serves `mail.rs`, too.

use reqwest::{Client, Method, StatusCode, header};
use serde_json::Value;

use crate::support::{Server, until};

/// An admin's browser, as far as it matters.
pub(crate) struct Browser {
    http: Client,
    url: String,
    cookie: String,
}

/// A server whose admin is Ada.
pub(crate) fn server_of_ada() -> Server {
    Server::start_with(&[("PARLANCE_SERVER_ADMINS", "ada@example.org")])
}

/// Signs in through the form; returns the answer's status and the cookie.
async fn sign_in(server: &Server, email: &str) -> (StatusCode, Option<Browser>) {
    let http =
        Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let form = format!("email={email}&password=correct%20horse").replace('@', "%40");
    let answer = http
        .post(format!("{}/admin/sign-in", server.url))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ORIGIN, &server.url)
        .body(form)
        .send()
        .await
        .expect("an answer");
    let cookie = answer.headers().get(header::SET_COOKIE).map(|cookie| {
        let whole = cookie.to_str().expect("a cookie of ASCII");
        assert!(whole.contains("HttpOnly") && whole.contains("SameSite=Strict"), "{whole}");
        whole.split(';').next().unwrap_or_default().to_owned()
    });
    let browser = cookie.map(|cookie| Browser { http, url: server.url.clone(), cookie });
    (answer.status(), browser)
}

impl Browser {
    /// Ada's.
    pub(crate) async fn at(server: &Server) -> Self {
        let (status, browser) = sign_in(server, "ada@example.org").await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        browser.expect("a cookie for the admin")
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        by_script: bool,
    ) -> (StatusCode, Value) {
        let url = format!("{}/admin/api{path}", self.url);
        let mut request = self.http.request(method, url).header(header::COOKIE, &self.cookie);
        if by_script {
            request = request.header("X-Requested-With", "parlance-board");
        }
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    pub(crate) async fn counts(&self, state: &str) -> u64 {
        let (status, overview) = self.call(Method::GET, "/overview", false).await;
        assert_eq!(status, StatusCode::OK, "{overview}");
        overview["counts"][state].as_u64().expect("a count")
    }

    pub(crate) async fn only(&self, state: &str) -> Value {
        let path = format!("/jobs?state={state}&offset=0&limit=10");
        let (_, list) = self.call(Method::GET, &path, false).await;
        list["items"][0].clone()
    }
}

#[tokio::test]
async fn the_board_is_for_admins_and_shows_what_was_done() {
    let server = server_of_ada();
    server.sign_up("ada").await;
    server.sign_up("bob").await;
    assert_eq!(sign_in(&server, "bob@example.org").await.0, StatusCode::UNAUTHORIZED);
    let board = Browser::at(&server).await;
    until("both mails", async || board.counts("done").await == 2).await;
    let job = board.only("done").await;
    assert_eq!((&job["kind"], &job["attempts"]), (&"welcome_mail".into(), &1.into()), "{job}");
    let path = format!("/jobs/{}", job["id"].as_str().expect("an id"));
    assert_eq!(
        board.call(Method::DELETE, &path, false).await.0,
        StatusCode::FORBIDDEN,
        "no script"
    );
    assert_eq!(board.call(Method::DELETE, &path, true).await.0, StatusCode::NO_CONTENT);
    assert_eq!(board.counts("done").await, 1);
    let page = board.http.get(format!("{}/admin/queues", server.url));
    let page = page.header(header::COOKIE, &board.cookie).send().await.expect("an answer");
    assert_eq!(page.status(), StatusCode::OK);
    assert!(page.headers().contains_key("content-security-policy"));
}

#[tokio::test]
async fn without_admins_there_is_no_board() {
    let server = Server::start();
    for path in ["/admin/queues", "/admin/sign-in", "/admin/api/overview"] {
        let answer = reqwest::get(format!("{}{path}", server.url)).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
}
