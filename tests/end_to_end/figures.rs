//! `/metrics`, for those who plot it and are paged by it.

use serde_json::json;

use crate::support::{Server, until};

#[tokio::test]
async fn the_readme_names_every_figure_and_each_is_there() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(readme).expect("a README");
    let mut named: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `parlance_")?.split_once(['`', '{']))
        .map(|(name, _)| name)
        .collect();
    named.sort_unstable();

    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let (_, general, _) = ada.workspace().await;
    let mut socket = ada.connect().await;
    socket.say(&general, "one").await;
    // A repeat: no message of its own.
    socket.say(&general, "one").await;
    let refused = socket.command("message.send", json!({})).await;
    assert_eq!(refused["error"]["code"], "bad_request");

    let page = async || {
        let answer = reqwest::get(format!("{}/metrics", server.url)).await.expect("an answer");
        answer.text().await.expect("text")
    };
    // The job queue is looked at now and then.
    until("the queue was looked at", async || page().await.contains("parlance_jobs{")).await;
    let page = page().await;
    let mut helped: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP parlance_")?.split_once(' '))
        .map(|(name, _)| name)
        .collect();
    helped.sort_unstable();
    assert_eq!(helped, named, "{page}");
    for sample in [
        "parlance_messages_total 1",
        "parlance_sockets 1",
        "parlance_slow_consumers_total 0",
        "parlance_errors_total{code=\"bad_request\"} 1",
        "parlance_send_seconds_bucket{le=\"+Inf\"} 3",
        "parlance_jobs{state=\"dead\"} 0",
        "parlance_http_requests_total{method=\"POST\",route=\"/api/v1/workspaces\",status=\"201\"} 1",
    ] {
        assert!(page.lines().any(|line| line == sample), "no {sample} in {page}");
    }
    assert!(page.contains("parlance_build_info{version="), "{page}");
    assert!(page.contains("parlance_http_request_seconds_bucket{route=\"/api/v1/workspaces\",le="));
}
