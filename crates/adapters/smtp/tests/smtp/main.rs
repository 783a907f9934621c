//! The SMTP adapter against a real mail server, and against one that misbehaves.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by a panic")]

mod catcher;
mod peer;

use std::time::Duration;

use parlance_application::ports::{Mail, MailError, Mailer as _};
use parlance_smtp::SmtpMailer;
use tokio::{net::TcpListener, time::timeout};

use self::{
    catcher::Catcher,
    peer::{Act, Peer},
};

/// Far longer than anything here takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(20);

fn mail() -> Mail {
    Mail {
        message_id: "<0190f3a0@parlance>".into(),
        to: "ada@example.com".into(),
        subject: "Grüße an Ada".into(),
        text: "Grüße!\n.\n..\nA line after two with dots.".into(),
        html: "<p>Grüße! <b>…</b></p>".into(),
    }
}

fn mailer(url: &str) -> SmtpMailer {
    SmtpMailer::new(url, "Parlance <parlance@example.org>").unwrap()
}

async fn refusal(url: &str) -> MailError {
    timeout(PATIENCE, mailer(url).send(&mail())).await.expect("in time").unwrap_err()
}

#[tokio::test]
async fn a_mail_arrives_with_both_its_parts() {
    let mut catcher = Catcher::start();
    let mailer = mailer(&catcher.url);
    mailer.send(&mail()).await.unwrap();
    mailer.send(&Mail { to: "bob@example.com".into(), ..mail() }).await.unwrap();

    let caught = catcher.mail();
    assert_eq!(caught["sender"], "parlance@example.org");
    assert_eq!(caught["receivers"], serde_json::json!(["ada@example.com"]));
    assert_eq!(caught["headers"]["from"], "Parlance <parlance@example.org>");
    assert_eq!(caught["headers"]["to"], "ada@example.com");
    assert_eq!(caught["headers"]["subject"], "Grüße an Ada");
    assert_eq!(caught["headers"]["message-id"], "<0190f3a0@parlance>");
    assert!(caught["headers"]["date"].is_string(), "{caught}");
    assert_eq!(caught["type"], "multipart/alternative");
    assert_eq!(caught["defects"], serde_json::json!([]));
    let parts = caught["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2);
    for (part, kind, content) in
        [(&parts[0], "text/plain", mail().text), (&parts[1], "text/html", mail().html)]
    {
        assert_eq!(part[0], kind);
        assert_eq!(part[1].as_str().unwrap().trim_end().replace("\r\n", "\n"), content);
    }
    assert_eq!(catcher.mail()["receivers"], serde_json::json!(["bob@example.com"]));
}

#[tokio::test]
async fn what_the_server_says_of_a_mail_decides_whether_it_is_tried_again() {
    for point in ["MAIL", "RCPT", "DATA", "."] {
        for reply in ["421 closing", "451 try again later", "452-full\r\n452 for now"] {
            let peer = Peer::at(point, Act::Say(reply)).await;
            let error = refusal(&peer.url()).await;
            assert!(matches!(error, MailError::Temporary(_)), "{reply:?} to {point}: {error:?}");
        }
        for reply in ["550 no such user", "554 5.7.1 spam"] {
            let peer = Peer::at(point, Act::Say(reply)).await;
            match refusal(&peer.url()).await {
                MailError::Permanent(error) => assert!(error.contains(&reply[4..]), "{error}"),
                error @ MailError::Temporary(_) => panic!("{reply:?} to {point}: {error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_address_that_the_server_cannot_take_is_not_tried_again() {
    let peer = Peer::at("none", Act::Usual).await;
    let beyond_ascii = Mail { to: "grüße@example.com".into(), ..mail() };
    let error = mailer(&peer.url()).send(&beyond_ascii).await.unwrap_err();
    assert!(matches!(error, MailError::Permanent(_)), "{error:?}");
    assert_eq!(peer.words(), ["EHLO"]);
}

#[tokio::test]
async fn what_the_server_says_before_there_is_a_mail_is_not_about_the_mail() {
    for (point, reply) in [
        ("", "421 too busy"),
        ("", "554 no mail from you"),
        ("EHLO", "550 who are you?"),
        ("AUTH", "535 wrong password"),
        ("AUTH", "454 the accounts are away"),
        ("EHLO", "250 no sign-in here"),
    ] {
        let peer = Peer::at(point, Act::Say(reply)).await;
        let error = refusal(&format!("smtp://ada:hunter2@{}", peer.address)).await;
        assert!(matches!(error, MailError::Temporary(_)), "{reply:?} to {point:?}: {error:?}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_lost_connection_may_work_later() {
    for point in ["", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let peer = Peer::at(point, Act::Cut).await;
        let error = refusal(&peer.url()).await;
        assert!(matches!(error, MailError::Temporary(_)), "cut at {point:?}: {error:?}");
    }
}

#[tokio::test]
async fn no_server_may_be_one_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = refusal(&format!("smtp://{address}")).await;
    assert!(matches!(error, MailError::Temporary(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_hangs_costs_no_more_than_the_timeout() {
    for point in ["", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "."] {
        let peer = Peer::at(point, Act::Hang).await;
        let mailer = mailer(&format!("smtp://ada:hunter2@{}", peer.address))
            .with_timeout(Duration::from_millis(100));
        let error = timeout(PATIENCE, mailer.send(&mail())).await.expect("in time").unwrap_err();
        assert!(matches!(error, MailError::Temporary(_)), "hung at {point:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_mail() {
    let peer = Peer::at("none", Act::Usual).await;
    let mailer = mailer(&peer.url());
    for _ in 0..3 {
        mailer.send(&mail()).await.unwrap();
    }
    let one = ["MAIL", "RCPT", "DATA", "."];
    assert_eq!(peer.words(), [&["EHLO"][..], &one, &["NOOP"], &one, &["NOOP"], &one].concat());
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_replaced() {
    let peer = Peer::at("NOOP", Act::Cut).await;
    let mailer = mailer(&peer.url());
    for _ in 0..3 {
        mailer.send(&mail()).await.unwrap();
    }
    assert_eq!(peer.words().iter().filter(|word| *word == "EHLO").count(), 3);
}

#[tokio::test]
async fn nothing_is_said_on_a_connection_whose_mail_was_given_up() {
    let peer =
        Peer::start(|number, word| if (number, word) == (1, ".") { Act::Hang } else { Act::Usual })
            .await;
    let mailer = mailer(&peer.url()).with_timeout(Duration::from_secs(1));
    mailer.send(&mail()).await.unwrap_err();
    mailer.send(&mail()).await.unwrap();
    let one = ["EHLO", "MAIL", "RCPT", "DATA", "."];
    assert_eq!(peer.words(), [one, one].concat());
}

#[tokio::test]
async fn kept_connections_that_hang_cost_one_attempt_only() {
    // Both mails are on their way at once, so that two connections are kept; after that nothing is answered on them.
    let peer = Peer::start(
        |number, word| {
            if number <= 2 && word == "NOOP" { Act::Hang } else { Act::Usual }
        },
    )
    .await;
    let mailer = mailer(&peer.url()).with_timeout(Duration::from_secs(1));
    let (first, second) = (mail(), mail());
    let (first, second) = tokio::join!(mailer.send(&first), mailer.send(&second));
    first.and(second).unwrap();
    mailer.send(&mail()).await.unwrap_err();
    mailer.send(&mail()).await.unwrap();
}

#[tokio::test]
async fn the_account_is_the_one_of_the_url() {
    let peer = Peer::at("none", Act::Usual).await;
    mailer(&format!("smtp://ada:s%2Fcret@{}/app.example.org", peer.address))
        .send(&mail())
        .await
        .unwrap();
    let heard = peer.heard();
    assert_eq!(heard[0], "EHLO app.example.org");
    // What PLAIN is made of: a zero byte, `ada`, a zero byte, `s/cret`; in base64.
    assert_eq!(heard[1], "AUTH PLAIN AGFkYQBzL2NyZXQ=");
}

#[tokio::test]
async fn where_encryption_is_required_nothing_goes_without() {
    let peer = Peer::at("none", Act::Usual).await;
    let address = &peer.address;
    for url in [
        format!("smtp://ada:hunter2@{address}?tls=required"),
        format!("smtps://ada:hunter2@{address}"),
    ] {
        let mailer = mailer(&url).with_timeout(Duration::from_secs(1));
        let error = mailer.send(&mail()).await.unwrap_err();
        assert!(matches!(error, MailError::Temporary(_)), "{error:?}");
    }
    let words = peer.words();
    assert!(!words.iter().any(|word| word == "AUTH" || word == "MAIL"), "{words:?}");

    mailer(&format!("smtp://{address}?tls=opportunistic")).send(&mail()).await.unwrap();
}

#[test]
fn settings_that_can_never_work_are_refused_at_once() {
    let from = "parlance@example.org";
    match SmtpMailer::new("smtp://ada:hunter2@mail.example.org:x", from).map(drop) {
        Err(MailError::Permanent(error)) => {
            assert!(error.contains("mail.example.org") && !error.contains("hunter2"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let nobody = SmtpMailer::new("smtp://mail.example.org", "nobody").map(drop);
    assert!(matches!(nobody, Err(MailError::Permanent(_))), "{nobody:?}");
}
