//! The name of the database's history, to which clients' cursors belong.
//!
//! A database other than the one last written here is a copy put in its place. From then on its revs are assigned a
//! second time, so its history needs a new name. Two notes in `meta` detect this, each where the other does not:
//!
//! * `file`: the database file's inode number and birth time. A copy in the file's place has others. (The number alone
//!   is not enough: file systems reuse it.)
//! * `opened`: the contents of `parlance.opened`, a file that each opening writes, and when the file system last
//!   changed it, which no copying preserves. A copy written *into* the files, as `cp` does, has another.
//!
//! Neither detects a snapshot of the whole file system, nor a copy made of a running database and written into its file
//! before the next start: for these there is `parlance admin renew-epoch`. A directory moved to another file system, or
//! given another owner, is taken for a copy; that costs every client one reload, and a Redis queue, if any, must be
//! emptied, since it belongs to the other history.

use std::path::Path;

use parlance_application::{Error, Result};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{error::sql, files};

/// The name of the history of the database at `path`; it is `new` for a new one and for a copy.
pub(crate) fn open(conn: &Connection, path: &Path, new: String) -> Result<String> {
    let file = files::identity(path)?;
    let last = || files::last_opening(path).map(|opening| opening.mark);
    let replaced = meta(conn, "file")?.is_some_and(|then| then != file);
    let overwritten = meta(conn, "opened")?.is_some_and(|then| Some(then) != last());
    let before = meta(conn, "epoch")?;
    let kept = before.clone().filter(|_| !replaced && !overwritten);
    if kept.is_none() {
        if before.is_some() {
            check(conn)?;
        }
        renew(conn, &new)?;
    }
    if let (Some(before), None) = (before, &kept) {
        tracing::warn!(
            before,
            epoch = new,
            replaced,
            overwritten,
            "the database is not the one that was written here last, but a copy: its history gets a new name, and every \
             client loads anew"
        );
    }
    set_meta(conn, "file", &file)?;
    // If the process dies in between, the history is renewed once too often, which is safe.
    files::note_opening(path, &new)?;
    if let Some(opening) = last() {
        set_meta(conn, "opened", &opening)?;
    }
    Ok(kept.unwrap_or(new))
}

/// Gives the history another name.
pub(crate) fn renew(conn: &Connection, epoch: &str) -> Result<()> {
    set_meta(conn, "epoch", epoch)
}

fn meta(conn: &Connection, key: &str) -> Result<Option<String>> {
    conn.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
        .optional()
        .map_err(|error| sql(&error))
}

fn set_meta(conn: &Connection, key: &str, value: &str) -> Result<()> {
    conn.execute(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        params![key, value],
    )
    .map(drop)
    .map_err(|error| sql(&error))
}

/// Refuses a copy that is incomplete, or that another database's log was written into.
fn check(conn: &Connection) -> Result<()> {
    tracing::warn!(
        "the database is a copy: it is read as a whole before it is served, which may take minutes"
    );
    // Not `quick_check`, which does not compare indexes with their tables: in a mixture that may be all that is wrong.
    let found: String = conn
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| sql(&error))?;
    if found == "ok" {
        return Ok(());
    }
    Err(Error::internal(format_args!(
        "the database was replaced, and the copy is damaged ({found}): was it copied without its log, or into the files of \
         another?"
    )))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use parlance_domain::Timestamp;

    use super::*;
    use crate::{db, files::identity, migrate};

    /// A directory with a database in it, and a place for copies of it.
    struct Scene {
        dir: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().expect("a directory") }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// Opens the database, closes it again, and returns the name of its history.
        fn opened(&self, new: &str) -> String {
            let path = self.path("parlance.db");
            let mut conn = db::connect(&path).expect("opens");
            migrate::run(&mut conn, Timestamp::from_millis(1)).expect("migrates");
            open(&conn, &path, new.to_owned()).expect("has a history")
        }
    }

    #[test]
    fn the_name_stays_while_the_file_does() {
        let scene = Scene::new();
        let names = ["first", "second", "third"].map(|new| scene.opened(new));
        assert_eq!(names, ["first"; 3]);
    }

    #[test]
    fn a_copy_in_the_files_place_has_another_history() {
        let scene = Scene::new();
        scene.opened("first");
        fs::copy(scene.path("parlance.db"), scene.path("backup")).expect("copies");
        fs::rename(scene.path("backup"), scene.path("parlance.db")).expect("renames");
        assert_eq!(scene.opened("second"), "second");
        assert_eq!(scene.opened("third"), "second");
    }

    /// The new file may well reuse the old one's number.
    #[test]
    fn a_copy_in_a_removed_files_place_has_another_history() {
        let scene = Scene::new();
        scene.opened("first");
        fs::copy(scene.path("parlance.db"), scene.path("backup")).expect("copies");
        fs::remove_file(scene.path("parlance.db")).expect("removes");
        fs::copy(scene.path("backup"), scene.path("parlance.db")).expect("copies");
        assert_eq!(scene.opened("second"), "second");
    }

    #[test]
    fn an_older_copy_written_into_the_file_has_another_history() {
        let scene = Scene::new();
        scene.opened("first");
        fs::copy(scene.path("parlance.db"), scene.path("backup")).expect("copies");
        assert_eq!(scene.opened("second"), "first");
        let identity = || identity(&scene.path("parlance.db")).expect("a file");
        let before = identity();
        fs::copy(scene.path("backup"), scene.path("parlance.db")).expect("copies");
        assert_eq!(identity(), before);
        assert_eq!(scene.opened("third"), "third");
    }

    #[test]
    fn a_copy_of_both_files_written_into_them_has_another_history() {
        let scene = Scene::new();
        scene.opened("first");
        for name in ["parlance.db", "parlance.opened"] {
            let backup = scene.path("backup");
            fs::copy(scene.path(name), &backup).expect("copies");
            fs::copy(&backup, scene.path(name)).expect("copies");
        }
        assert_eq!(scene.opened("second"), "second");
    }

    /// As when only part of it was copied.
    #[test]
    fn a_copy_that_is_not_whole_is_refused() {
        let scene = Scene::new();
        scene.opened("first");
        let (path, backup) = (scene.path("parlance.db"), scene.path("backup"));
        let mut bytes = fs::read(&path).expect("reads");
        let whole = bytes.len();
        bytes.truncate(whole - 8 * 4096);
        bytes.resize(whole, 0);
        fs::write(&backup, bytes).expect("writes");
        fs::rename(&backup, &path).expect("renames");
        let conn = db::connect(&path).expect("opens");
        let refused = open(&conn, &path, "second".to_owned());
        assert!(matches!(&refused, Err(Error::Internal { .. })), "{refused:?}");
    }

    /// The previous database's log was written into the copy. Here an index does not match its table, and nothing else
    /// is wrong.
    #[test]
    fn a_mixture_of_two_databases_is_refused() {
        let scene = Scene::new();
        scene.opened("first");
        let path = scene.path("parlance.db");
        let conn = db::connect(&path).expect("opens");
        conn.execute_batch(
            "CREATE TABLE it (a, b); CREATE INDEX its ON it (b); INSERT INTO it VALUES (1, 2);
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE INDEX its ON it (a)' WHERE name = 'its';
             PRAGMA writable_schema = RESET;",
        )
        .expect("mixes");
        drop(conn);
        fs::copy(&path, scene.path("backup")).expect("copies");
        fs::rename(scene.path("backup"), &path).expect("renames");
        let refused = open(&db::connect(&path).expect("opens"), &path, "second".to_owned());
        assert!(matches!(&refused, Err(Error::Internal { .. })), "{refused:?}");
    }

    #[test]
    fn a_database_from_before_the_notes_keeps_its_name() {
        let scene = Scene::new();
        scene.opened("first");
        let conn = db::connect(&scene.path("parlance.db")).expect("opens");
        conn.execute("DELETE FROM meta WHERE key IN ('file', 'opened')", []).expect("deletes");
        drop(conn);
        fs::remove_file(scene.path("parlance.opened")).expect("removes");
        assert_eq!(scene.opened("second"), "first");
    }
}
