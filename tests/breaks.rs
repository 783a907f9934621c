//! Deliberate breaks of the code, each with the words that it replaces. The simulation has to find every one of them:
//! `make breaks` makes them one after another in a copy of the sources, and plays seeds until one fails.
//!
//! That the list still fits the sources is always tested.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "tests may")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// How many seeds a break has to be found within, unless `PARLANCE_SEEDS` says another number.
const SEEDS: &str = "3000";

struct Break {
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

macro_rules! breaks {
    ($($name:literal in $file:literal: $from:literal => $to:literal),* $(,)?) => {
        &[$(Break { name: $name, file: $file, from: $from, to: $to }),*]
    };
}

#[rustfmt::skip]
const BREAKS: &[Break] = breaks! {
    "an event beyond a hole is let through" in "crates/application/src/live/feed.rs":
        "if rev == self.position.next() {"
        => "if rev > self.position {",
    "a repeated event is let through" in "crates/application/src/live/feed.rs":
        "if rev == self.position.next() {"
        => "if rev == self.position.next() || rev == self.position {",
    "a hole is not bridged" in "crates/application/src/live/feed.rs":
        "let hole = (self.beyond > self.position).then_some(self.position);"
        => "let hole = (self.beyond.0 > u64::MAX - 1).then_some(self.position);",
    "a set of listeners takes the copy that was made for another" in "crates/application/src/live/listeners.rs":
        "copy.filter(|(of, _)| *of == connection)"
        => "copy.filter(|(of, _)| of.number < u32::MAX)",
    "a silent store is not asked again" in "crates/application/src/live/feed.rs":
        "    pub(super) fn unread(&mut self) {
        self.reading = false;"
        => "    pub(super) fn unread(&mut self) {",
    "who joins behind is taken for up to date" in "crates/application/src/live/feed.rs":
        "} else if have != self.position {"
        => "} else if have > self.position {",
    "a change after a change of access is let through" in "crates/application/src/live/feed.rs":
        "if access_rev > self.access_rev {
            return self.behind(rev, access_rev);"
        => "if access_rev.0 > u64::MAX - 1 {
            return self.behind(rev, access_rev);",
    "a replay after a change of access is let through" in "crates/application/src/live/feed.rs":
        "if access_rev > self.access_rev {
            self.page = Some(page);"
        => "if access_rev.0 > u64::MAX - 1 {
            self.page = Some(page);",
    "what nobody listened to is forgotten" in "crates/application/src/live/audiences.rs":
        "self.unheard.note(conversation_id, (rev, access_rev));"
        => "",
    "stale membership: a check removes nobody" in "crates/application/src/live/actor/peers.rs":
        "self.expel(conversation_id, user_id, readers.access_rev, &frame).await;"
        => "drop((user_id, frame));",
    "no look at the store" in "crates/application/src/live/node.rs":
        "if let Some(peers) = looked {"
        => "if let Some(peers) = looked.filter(|_| false) {",
    "a change after a session's end is let through" in "crates/application/src/live/ended.rs":
        "        count <= self.known
    }"
        => "        count.0 < u64::MAX
    }",
    "a state event is told to whoever listens" in "crates/application/src/live/actor/states/question.rs":
        "let inside = changes.workspace_members(id, users).await?.into_iter().collect();"
        => "let inside = Vec::into_iter(users).collect();",
    "a name that the bus lost is not looked for" in "crates/application/src/live/actor/states.rs":
        "        for subject in subjects {
            self.wait(Waiting::Subject(subject));
        }
        for workspace"
        => "        drop(subjects);
        for workspace",
    "a state event does not wait for what has ended" in "crates/application/src/live/actor/states.rs":
        "if !self.knows_sessions(session_rev) {"
        => "if session_rev.0 == u64::MAX {",
    "a state event is told as it came" in "crates/application/src/live/actor/states.rs":
        "} else if let Some(subject) = event.hint() {"
        => "} else if let Some(subject) = event.hint().filter(|_| false) {",
    "who leaves a workspace stays in its conversations" in "crates/application/src/live/actor/events.rs":
        "let home = |of: &ConversationId| self.audiences.is_of(*of, workspace);"
        => "let home = |_: &ConversationId| user.0.is_nil();",
    "who left is told on" in "crates/application/src/live/actor/events.rs":
        "        for connection in told.await {
            self.leave(connection, conversation);
        }"
        => "        drop(told.await);",
    "attach after the snapshot: joined where the others are" in "crates/application/src/live/feed.rs":
        "} else {
                self.place(connection, have, &mut steps);"
        => "} else {
                self.place(connection, have.max(self.position), &mut steps);",
    "who lost access in the middle of a replay is not told" in "crates/application/src/hello.rs":
        "self.live.lost_access(connection, conversation).await;"
        => "let _ = conversation;",
    "a conversation's live events come before its replay" in "crates/application/src/hello.rs":
        "conversations.retain(|head| !later.contains(&head.conversation_id));"
        => "conversations.retain(|head| later.len() < usize::MAX || head.rev.0 == 0);",
    "`to_rev` is a head read after the messages" in "crates/application/src/ports/store/replay.rs":
        "to_rev: messages.last().filter(|_| !complete).map_or(head, |last| last.rev),"
        => "to_rev: messages.last().filter(|_| !complete).map_or(head.next(), |last| last.rev),",
    "what was sent is left out beside what was changed" in "crates/adapters/embedded/src/replay.rs":
        "changed.next().transpose()?.map(Some)"
        => "{ sent.next(); changed.next().transpose()?.map(Some) }",
    "no dedupe in the store" in "crates/adapters/embedded/src/append.rs":
        "if inserted == 0 {
            let (first"
        => "if inserted == 2 {
            let (first",
    "acknowledged and not committed" in "crates/adapters/embedded/src/simulation.rs":
        r#"let outcome = self.run(job, "COMMIT");"#
        => r#"static WRITES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let lost = WRITES.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 100 == 99;
        let outcome = self.run(job, if lost { "ROLLBACK" } else { "COMMIT" });"#,
    "a cursor moved by `ok`" in "crates/client/src/cache.rs":
        r#""ok" | "error" => return Ok(out),"#
        => r#""ok" if data["message"]["rev"].is_u64() => {
                let message = &data["message"];
                let (id, rev) = (message["conversation_id"].as_str(), number(message, "rev")?);
                self.on(id, &mut out, |it, user, out| it.event(rev.min(it.cursor() + 1), None, None, user, out))?;
                return Ok(out);
            }
            "ok" | "error" => return Ok(out),"#,
    "another id at each attempt" in "crates/client/src/outbox.rs":
        "client_msg_id: head.client_msg_id.clone(),"
        => r#"client_msg_id: format!("{}.{}", head.client_msg_id, head.attempts),"#,
    "what was in flight is not sent again" in "crates/client/src/outbox.rs":
        "                head.state = State::Waiting { until: None };
            }"
        => "                head.state = State::InFlight;
            }",
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().expect("the workspace")
}

/// The file with its break in it.
fn broken(root: &Path, it: &Break) -> String {
    let source = fs::read_to_string(root.join(it.file)).expect("a source file");
    let found = source.matches(it.from).count();
    assert_eq!(found, 1, "{}: {} has its words {found} times", it.name, it.file);
    source.replace(it.from, it.to)
}

/// The tracked files of the workspace, somewhere else.
fn copy(root: &Path, to: &Path) {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let listed = listed.expect("git runs").stdout;
    for file in listed.split(|byte| *byte == 0).filter(|file| !file.is_empty()) {
        let file = std::str::from_utf8(file).expect("a path");
        let copy = to.join(file);
        fs::create_dir_all(copy.parent().expect("a directory")).expect("a directory is made");
        fs::copy(root.join(file), copy).expect("a file is copied");
    }
}

fn simulate(copy: &Path, more: &[&str]) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Command::new(cargo)
        .args(["test", "--package", "parlance-embedded", "--test", "simulation"])
        .args(more)
        // Its own: packages of both workspaces have the same names, and the next ordinary run would take broken ones
        // for fresh.
        .env("CARGO_TARGET_DIR", copy.join("target"))
        .env("PARLANCE_SEEDS", std::env::var("PARLANCE_SEEDS").as_deref().unwrap_or(SEEDS))
        .current_dir(copy)
        .output()
        .expect("cargo runs")
}

/// Makes all breaks, or those whose name contains an argument.
fn main() {
    let which = std::env::args().nth(1).unwrap_or_default();
    let root = root();
    let place = root.join("target/breaks");
    copy(&root, &place);
    let mut missed = Vec::new();
    for it in BREAKS.iter().filter(|it| it.name.contains(&which)) {
        let whole = fs::read_to_string(root.join(it.file)).expect("a source file");
        fs::write(place.join(it.file), broken(&root, it)).expect("a file is broken");
        let built = simulate(&place, &["--no-run"]);
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        assert!(built.status.success(), "{} does not compile:\n{said}", it.name);
        let played = simulate(&place, &["nothing_is_lost"]);
        let said = [played.stdout, played.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let how = ["is broken", "panicked"]
            .iter()
            .find_map(|words| said.lines().find(|line| line.contains(words)));
        if played.status.success() {
            println!("NOT FOUND: {}", it.name);
            missed.push(it.name);
        } else {
            // Otherwise it failed for another reason, such as a full disk.
            let how = how.expect("the simulation says what it has found");
            println!("found: {}: {how}", it.name);
        }
        fs::write(place.join(it.file), whole).expect("a file is mended");
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_break_fits_the_sources() {
        let root = root();
        for it in BREAKS {
            assert_ne!(
                broken(&root, it),
                fs::read_to_string(root.join(it.file)).expect("a source")
            );
        }
    }
}
