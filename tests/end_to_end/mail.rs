//! Mails through outages of the mail server, of Redis and of workers: each is delivered at least once. Needs the
//! services of `services.py`.

use std::{collections::HashSet, time::Duration};

use reqwest::{Method, StatusCode};
use tokio::time::sleep;

use crate::{
    board::{Browser, server_of_ada},
    support::{Server, Worker, run, until},
};

/// Ids of all mails that were delivered, each as often as it came.
fn message_ids(server: &Server) -> Vec<String> {
    let id = |mail: &String| {
        let line = mail.lines().find_map(|line| line.strip_prefix("Message-ID: "));
        line.expect("a Message-ID").trim().to_owned()
    };
    server.home.mails().iter().map(id).collect()
}

/// Signs somebody up whose mail is deferred once, and waits for it: a second at least.
async fn sign_up_with_a_late_mail(server: &Server, name: &str) {
    let mail = &server.home.services().mail;
    let before = mail.attempts();
    mail.answer("451");
    server.sign_up(name).await;
    until("a first attempt", async || mail.attempts() > before).await;
    mail.answer("ok");
    let theirs = format!("To: {name}@example.org");
    until("the mail", async || server.home.mails().iter().any(|it| it.contains(&theirs))).await;
}

#[tokio::test]
async fn a_mail_that_is_put_off_is_delivered_once() {
    let server = Server::start();
    sign_up_with_a_late_mail(&server, "ada").await;
    let [text] = &server.home.mails()[..] else { panic!("one mail") };
    assert!(text.contains("multipart/alternative") && text.contains("text/html"), "{text}");
    assert_eq!(server.home.services().mail.attempts(), 2);
}

#[tokio::test]
async fn a_mail_that_is_refused_is_not_tried_again() {
    let server = Server::start();
    let mail = &server.home.services().mail;
    mail.answer("550");
    server.sign_up("ada").await;
    until("an attempt", async || mail.attempts() >= 1).await;
    // A deferred mail waits for one to two seconds: these two, one after the other, for longer than ada's would have.
    for name in ["bob", "eve"] {
        sign_up_with_a_late_mail(&server, name).await;
    }
    assert_eq!((mail.attempts(), server.home.mails().len()), (5, 2));
}

#[tokio::test]
async fn a_mail_server_that_was_away_gets_every_mail() {
    let server = server_of_ada();
    let mail = &server.home.services().mail;
    mail.kill();
    server.sign_up("ada").await;
    let board = Browser::at(&server).await;
    until("an attempt in vain", async || {
        board.only("delayed").await["attempts"].as_u64() >= Some(1)
    })
    .await;
    mail.start_again();
    until("the mail", async || server.home.mails().len() == 1).await;
}

#[tokio::test]
async fn a_redis_that_lost_its_memory_loses_no_mail() {
    let server = Server::start();
    let services = server.home.services();
    services.mail.answer("451");
    for name in ["ada", "bob", "eve"] {
        server.sign_up(name).await;
    }
    until("attempts", async || services.mail.attempts() >= 3).await;
    services.redis.kill();
    server.sign_up("joe").await;
    services.mail.answer("ok");
    services.redis.start_again();
    until("four mails", async || server.home.mails().len() >= 4).await;
    let ids = message_ids(&server);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 4, "{ids:?}");
}

#[tokio::test]
async fn a_redis_that_is_back_at_once_without_its_memory_loses_no_mail() {
    let server = Server::start();
    let services = server.home.services();
    services.mail.answer("451");
    server.sign_up("ada").await;
    until("an attempt", async || services.mail.attempts() >= 1).await;
    services.redis.kill();
    services.redis.start_again();
    services.mail.answer("ok");
    until("the mail", async || !server.home.mails().is_empty()).await;
}

/// Its jobs are of sign-ups that a restored store may know nothing of, or not the outcome.
#[tokio::test]
async fn a_store_with_another_history_waits_for_an_empty_queue() {
    let mut server = Server::start();
    let home = server.home.clone();
    server.sign_up("ada").await;
    until("her mail", async || home.mails().len() == 1).await;
    server.kill();
    let (well, said) = run(&home, "admin renew-epoch", &[]);
    assert!(well, "{said}");

    let server = Server::start_in(home.clone(), 0, &[]);
    server.sign_up("bob").await;
    let his = || home.mails().iter().any(|mail| mail.contains("To: bob@example.org"));
    until("degraded", async || server.ready().await["status"] == "degraded").await;
    // Nothing happens, for longer than a job takes: there is no condition to wait for.
    sleep(Duration::from_secs(2)).await;
    assert!(!his());
    let redis = &home.services().redis;
    redis.kill();
    redis.start_again();
    until("his mail", async || his()).await;
    until("all well", async || server.ready().await["status"] == "ok").await;
}

#[tokio::test]
async fn workers_that_are_killed_lose_no_mail() {
    let first = Server::start();
    let server = Server::start_in(first.home.clone(), 1, &[("PARLANCE_RUN_JOBS", "off")]);
    drop(first);
    for n in 0..40 {
        server.sign_up(&format!("person-{n}")).await;
    }
    assert!(server.home.mails().is_empty(), "nobody runs jobs");
    for kill in 1..=2 {
        let worker = Worker::start(&server.home);
        until("some mails", async || server.home.mails().len() >= 5 * kill).await;
        drop(worker);
    }
    let _last = Worker::start(&server.home);
    let distinct = || message_ids(&server).into_iter().collect::<HashSet<_>>().len();
    until("all mails", async || distinct() == 40).await;
    let repeated = message_ids(&server).len() - 40;
    assert!(repeated <= 2 * 8, "{repeated} mails came again");
}

#[tokio::test]
async fn a_dead_mail_is_delivered_once_it_is_retried() {
    let server = server_of_ada();
    let mail = &server.home.services().mail;
    mail.answer("550");
    server.sign_up("ada").await;
    let board = Browser::at(&server).await;
    until("a dead job", async || board.counts("dead").await == 1).await;
    let job = board.only("dead").await;
    assert!(job["errors"].to_string().contains("no such mailbox"), "{job}");
    mail.answer("ok");
    let path = format!("/jobs/{}/retry", job["id"].as_str().expect("an id"));
    assert_eq!(board.call(Method::POST, &path, true).await.0, StatusCode::NO_CONTENT);
    until("the mail", async || server.home.mails().len() == 1).await;
    until("the job's end", async || board.counts("done").await == 1).await;
    assert_eq!(board.counts("dead").await, 0);
}
