//! A copy of the data directory, put back: what `README.md` says of backups.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::support::{Person, Server, Socket, run, text};

/// A server that was backed up while it was stopped, and has gone on since; and a client that knows all of it.
struct Scene {
    server: Server,
    ada: Person,
    general: String,
    news: String,
    /// The client's `resume`: its cursor is 4 in both conversations, whose backup ends at 2.
    held: Value,
}

async fn scene() -> Scene {
    let mut server = Server::start();
    let ada = server.sign_up("ada").await;
    let (workspace, general, _) = ada.workspace().await;
    let news = json!({ "name": "news" });
    let news = text(&ada.post(&format!("/workspaces/{workspace}/channels"), news).await["id"]);
    let mut socket = ada.connect().await;
    say(&mut socket, [&general, &news], ["one", "two"]).await;
    let epoch = socket.hello["epoch"].clone();
    server.terminate();
    assert!(server.exit().await.success());
    copy(&server.home.data(0), &server.home.data(0).with_extension("backup"));

    let server = Server::start_in(server.home.clone(), 0, &[]);
    let ada = ada.at(&server);
    let mut socket = ada.connect().await;
    assert_eq!(socket.hello["epoch"], epoch, "the same history");
    say(&mut socket, [&general, &news], ["three", "four"]).await;
    let cursors = json!({ general.clone(): 4, news.clone(): 4 });
    Scene { server, ada, general, news, held: json!({ "epoch": epoch, "cursors": cursors }) }
}

async fn say(socket: &mut Socket, conversations: [&str; 2], texts: [&str; 2]) {
    for conversation in conversations {
        for text in texts {
            socket.say(conversation, text).await;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(copied.success());
}

/// The stopped server's directory is the backup's, however it got there; both conversations must be dropped: `general`,
/// whose rev has since overtaken the client's cursor, and `news`, whose rev has not.
async fn restored_in(scene: Scene) {
    let server = Server::start_in(scene.server.home.clone(), 0, &[]);
    let ada = scene.ada.at(&server);
    let mut writer = ada.connect().await;
    for text in ["third", "fourth", "fifth"] {
        writer.say(&scene.general, text).await;
    }
    let mut socket = ada.resume(scene.held.clone()).await;
    assert_ne!(socket.hello["epoch"], scene.held["epoch"]);
    let replays = socket.settled().await;
    let mut reset: Vec<_> = replays
        .iter()
        .filter(|event| event["type"] == "replay" && event["reset"] == true)
        .map(|event| (text(&event["conversation_id"]), event["to_rev"].as_u64()))
        .collect();
    reset.sort_by_key(|(_, rev)| *rev);
    assert_eq!(reset, [(scene.news, Some(2)), (scene.general.clone(), Some(5))], "{replays:?}");
    writer.say(&scene.general, "sixth").await;
    assert_eq!(socket.event("message.created").await["rev"], 6);
    let page = format!("/conversations/{}/messages?after_seq=0", scene.general);
    let page = ada.get(&page).await;
    let texts = page["items"].as_array().expect("items").iter().map(|m| text(&m["text"]));
    let texts: Vec<_> = texts.collect();
    assert_eq!(texts, ["one", "two", "third", "fourth", "fifth", "sixth"]);
}

#[tokio::test]
async fn a_directory_that_was_put_back_has_another_history() {
    let mut scene = scene().await;
    scene.server.kill();
    let data = scene.server.home.data(0);
    fs::remove_dir_all(&data).expect("removes");
    copy(&data.with_extension("backup"), &data);
    restored_in(scene).await;
}

#[tokio::test]
async fn a_directory_that_was_written_over_has_another_history() {
    let mut scene = scene().await;
    scene.server.kill();
    let data = scene.server.home.data(0);
    // A log that the backup does not include would be replayed into it.
    for log in ["parlance.db-wal", "parlance.db-shm"] {
        let _ = fs::remove_file(data.join(log));
    }
    // Into the existing files, which keep their inode numbers and birth times.
    copy(&data.with_extension("backup").join("."), &data);
    restored_in(scene).await;
}

#[tokio::test]
async fn a_history_is_not_renewed_under_a_running_server() {
    let server = Server::start();
    let (well, said) = run(&server.home, "admin renew-epoch", &[]);
    assert!(!well && said.contains("in use by another parlance process"), "{said}");
}
