//! Arrows point inward only: transport → application → domain ← adapters → application. This test reads the workspace's
//! manifests and fails on any other edge.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Crates of this workspace that a crate may be built from. The server is not listed: it may use all.
const INWARD: [(&str, &[&str]); 11] = [
    ("parlance-domain", &[]),
    ("parlance-application", &["parlance-domain"]),
    ("parlance-crypto", ADAPTER),
    ("parlance-embedded", ADAPTER),
    ("parlance-mongo", ADAPTER),
    ("parlance-redis", ADAPTER),
    ("parlance-smtp", ADAPTER),
    ("parlance-transport", &["parlance-application", "parlance-domain"]),
    ("parlance-testkit", &["parlance-application", "parlance-domain"]),
    // Knows the wire contract only.
    ("parlance-client", &[]),
    // Measures processes from outside; its Criterion benches take pieces of ours.
    ("parlance-bench", &["parlance-application", "parlance-domain", "parlance-embedded"]),
];

/// An adapter knows the ports that it implements, and no other adapter.
const ADAPTER: &[&str] = &["parlance-application", "parlance-domain"];

/// Crates from outside that the two inner rings may be built from: no I/O, no clock, no framework.
const OUTSIDE: [(&str, &[&str]); 2] = [
    ("parlance-domain", &["jiff", "serde", "thiserror", "utoipa", "uuid"]),
    (
        "parlance-application",
        &[
            "async-trait",
            "bytes",
            "futures",
            "mockall",
            "rustc-hash",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
            "uuid",
        ],
    ),
];

const SERVER: &str = "parlance-server";
const TESTKIT: &str = "parlance-testkit";
const CLIENT: &str = "parlance-client";

/// One dependency of one manifest.
#[derive(Debug, Clone)]
struct Edge {
    from: String,
    to: String,
    /// Only for tests.
    dev: bool,
}

/// What is wrong with these edges, one line each.
fn violations(edges: &[Edge]) -> Vec<String> {
    edges.iter().filter_map(violation).collect()
}

fn violation(Edge { from, to, dev }: &Edge) -> Option<String> {
    let rule = |table: &[(&str, &'static [&'static str])]| {
        table.iter().find(|(name, _)| name == from).map(|(_, allowed)| *allowed)
    };
    let ours = to.starts_with("parlance-");
    let allowed = match (ours, *dev) {
        // Tests may use anything from outside.
        (false, true) => true,
        (false, false) => rule(&OUTSIDE).is_none_or(|allowed| allowed.contains(&to.as_str())),
        (true, true) if to == TESTKIT || to == CLIENT => true,
        // Itself, with a feature that only its tests need.
        (true, true) if from == to => true,
        // The testkit is never shipped.
        (true, false) if to == TESTKIT => false,
        (true, _) if from == SERVER => true,
        (true, _) => match rule(&INWARD) {
            Some(allowed) => allowed.contains(&to.as_str()),
            None => {
                return Some(format!(
                    "{from} has no place in the architecture yet: add it to INWARD"
                ));
            }
        },
    };
    (!allowed)
        .then(|| format!("{from} must not use {to}{}", if *dev { " in its tests" } else { "" }))
}

fn edges(packages: &[Package]) -> Vec<Edge> {
    let of = |package: &Package| {
        let from = package.name.to_string();
        let edge = |it: &cargo_metadata::Dependency| Edge {
            from: from.clone(),
            to: it.name.clone(),
            dev: it.kind == DependencyKind::Development,
        };
        package.dependencies.iter().map(edge).collect::<Vec<_>>()
    };
    packages.iter().flat_map(of).collect()
}

#[test]
fn every_arrow_points_inward() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap();
    let edges = edges(&metadata.packages);
    // Guards the test itself: no edges would be no violations.
    assert!(edges.iter().any(|edge| edge.from == SERVER && edge.to == "parlance-application"));
    let found = violations(&edges);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));

    let members: BTreeSet<_> = metadata.packages.iter().map(|it| it.name.to_string()).collect();
    let stale: Vec<_> = INWARD.iter().filter(|(name, _)| !members.contains(*name)).collect();
    assert!(stale.is_empty(), "not in the workspace any more: {stale:?}");
}

#[test]
fn a_planted_arrow_is_reported() {
    for (from, to, dev) in [
        ("parlance-domain", "parlance-application", false),
        ("parlance-application", "parlance-embedded", false),
        ("parlance-embedded", "parlance-smtp", false),
        ("parlance-transport", "parlance-embedded", false),
        ("parlance-transport", "parlance-embedded", true),
        ("parlance-testkit", "parlance-crypto", false),
        ("parlance-server", "parlance-testkit", false),
        ("parlance-newcomer", "parlance-domain", false),
        ("parlance-domain", "tokio", false),
        ("parlance-application", "actix-web", false),
    ] {
        let planted = Edge { from: from.into(), to: to.into(), dev };
        let found = violations(&[planted]);
        assert!(matches!(&*found, [line] if line.starts_with(from)), "{from} → {to}: {found:?}");
    }
    for (from, to, dev) in [
        ("parlance-embedded", "parlance-testkit", true),
        ("parlance-embedded", "rusqlite", false),
        ("parlance-server", "parlance-embedded", false),
        ("parlance-domain", "proptest", true),
    ] {
        let fine = Edge { from: from.into(), to: to.into(), dev };
        assert!(violations(&[fine]).is_empty(), "{from} → {to}");
    }
}
