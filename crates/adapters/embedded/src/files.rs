//! The files of the database, and what may have been done to them behind its back.

use std::{
    fs::{File, metadata},
    io::{ErrorKind, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use parlance_application::{Error, Result};

/// Written at each opening, beside the database.
const OPENED: &str = "parlance.opened";
/// With less free space on the disk than this, in bytes, commits are about to fail.
const ROOM: u64 = 8 * 1024 * 1024;
/// Where a database says how large its pages are (<https://sqlite.org/fileformat2.html#the_database_header>).
const PAGE_SIZE_AT: usize = 16;

/// Where the database is, and the identity of the file that was opened.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    database: PathBuf,
    identity: String,
}

impl Files {
    /// Those of an opened database.
    pub(crate) fn of(database: &Path) -> Result<Self> {
        Ok(Self { database: database.to_owned(), identity: identity(database)? })
    }

    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    /// Whether the database at its path is still the one that was opened.
    pub(crate) fn check_place(&self) -> Result<()> {
        if identity(&self.database).ok().as_ref() == Some(&self.identity) {
            return Ok(());
        }
        Err(Error::unavailable(format_args!(
            "{} was removed or replaced under the running server: what is written now is lost with it",
            self.database.display()
        )))
    }

    /// Whether what is written now will be found at the next start, and there is room for it.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_place()?;
        let shown = self.database.display();
        let disk = rustix::fs::statvfs(&self.database).map_err(Error::unavailable)?;
        let room = disk.f_bavail.saturating_mul(disk.f_frsize);
        // Some file systems do not report their size.
        if disk.f_blocks > 0 && room < ROOM {
            return Err(Error::unavailable(format_args!("{room} bytes are left for {shown}")));
        }
        Ok(())
    }
}

/// Whether there is a database.
pub(crate) fn find(database: &Path) -> Result<()> {
    metadata(database).map(drop).map_err(|error| unavailable(database, &error))
}

/// Refuses what SQLite would silently accept: a database that ends mid-page, whose last texts it would pad with zeros;
/// a missing one where there was one before, which it would recreate; and a log beside a database other than its own,
/// which it would replay into that one. A replaced database is noted at once: from here on the log counts as its own,
/// even if this start dies before it notes the opening.
pub(crate) fn check_before_opening(database: &Path) -> Result<()> {
    check_end(database)?;
    let Some(opened) = last_opening(database) else { return Ok(()) };
    let shown = database.display();
    let length = match metadata(database) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(unavailable(database, &error)),
    };
    if length == 0 {
        return Err(Error::unavailable(format_args!(
            "{shown} is missing or empty, and there has been a database: put it back; or, to begin with an empty one, \
             remove {}",
            beside(database).display()
        )));
    }
    let log = log_of(database);
    // Without a birth time: the inode number may have been reused.
    let its = |then: Option<String>, path: &Path| {
        then.is_some_and(|then| !then.ends_with(" 0") && identity(path).is_ok_and(|it| it == then))
    };
    let replaced =
        opened.database.as_ref().is_some_and(|then| identity(database).ok().as_ref() != Some(then));
    let left_over = metadata(&log).is_ok_and(|log| log.len() > 0) && its(opened.log, &log);
    if left_over && !its(opened.database, database) {
        return Err(Error::unavailable(format_args!(
            "{shown} was replaced, and the log of the database before is still there: if the copy has no log of its own, move {} \
             away, and the -shm file beside it; otherwise put the copy's log in its place",
            log.display()
        )));
    }
    if replaced { note_opening(database, &opened.name) } else { Ok(()) }
}

/// Whether the last page is whole. If there is a log, it holds what may not have reached the database yet.
fn check_end(database: &Path) -> Result<()> {
    let mut header = [0; PAGE_SIZE_AT + 2];
    let Ok(mut file) = File::open(database) else { return Ok(()) };
    // SQLite itself refuses anything shorter, or without this magic string.
    if file.read_exact(&mut header).is_err() || !header.starts_with(b"SQLite format 3\0") {
        return Ok(());
    }
    let page = match u16::from_be_bytes([header[PAGE_SIZE_AT], header[PAGE_SIZE_AT + 1]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let length = file.metadata().map_err(|error| unavailable(database, &error))?.len();
    let logged = metadata(log_of(database)).is_ok_and(|log| log.len() > 0);
    if logged || page == 0 || length.is_multiple_of(page) {
        return Ok(());
    }
    Err(Error::unavailable(format_args!(
        "{} is damaged: it ends in the middle of a page, as a copy does that was broken off",
        database.display()
    )))
}

/// Notes which files were opened.
pub(crate) fn note_opening(database: &Path, name: &str) -> Result<()> {
    let log = identity(&log_of(database)).unwrap_or_default();
    let text = format!("{name}\n{}\n{log}\n", identity(database)?);
    let beside = beside(database);
    std::fs::write(&beside, text).map_err(|error| unavailable(&beside, &error))
}

/// What the last opening left beside the database.
pub(crate) struct Opening {
    /// Unique to each opening: what was written, and when, according to the file system.
    pub(crate) mark: String,
    name: String,
    /// Which files these were; `None` if an earlier program did not note it.
    database: Option<String>,
    log: Option<String>,
}

/// The last opening of the database at this path.
pub(crate) fn last_opening(database: &Path) -> Option<Opening> {
    let beside = beside(database);
    let (says, found) = (std::fs::read_to_string(&beside).ok()?, metadata(&beside).ok()?);
    let mut lines = says.lines();
    let name = lines.next().unwrap_or_default();
    Some(Opening {
        mark: format!("{name} {}.{:09}", found.ctime(), found.ctime_nsec()),
        name: name.to_owned(),
        database: lines.next().map(str::to_owned),
        log: lines.next().map(str::to_owned),
    })
}

/// Distinguishes a file from another at the same path: its inode number and birth time. (The number alone is not
/// enough: file systems reuse it.)
pub(crate) fn identity(path: &Path) -> Result<String> {
    let found = metadata(path).map_err(|error| unavailable(path, &error))?;
    // Not every file system records it; then the number has to do.
    let born = found.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Ok(format!("{} {}", found.ino(), born.map_or(0, |at| at.as_nanos())))
}

fn beside(database: &Path) -> PathBuf {
    database.with_file_name(OPENED)
}

fn log_of(database: &Path) -> PathBuf {
    database.with_extension("db-wal")
}

fn unavailable(path: &Path, error: &std::io::Error) -> Error {
    Error::unavailable(format_args!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use parlance_domain::Timestamp;

    use super::*;
    use crate::EmbeddedStore;

    fn open(dir: &Path) -> Result<EmbeddedStore> {
        EmbeddedStore::open(dir, "epoch".to_owned(), Timestamp::from_millis(1))
    }

    #[track_caller]
    fn refused(opened: Result<EmbeddedStore>, why: &str) {
        match opened.map(drop) {
            Err(Error::Unavailable { cause, .. }) if cause.contains(why) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_database_that_is_missing_is_not_begun_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(open(dir.path()).expect("a new one opens"));
        let database = dir.path().join("parlance.db");
        for damage in [|path: &Path| fs::write(path, ""), |path: &Path| fs::remove_file(path)] {
            damage(&database).expect("done");
            refused(open(dir.path()), "is missing or empty");
        }
        fs::remove_file(dir.path().join(OPENED)).expect("removes");
        open(dir.path()).expect("begins anew");
    }

    /// Before, say, a migration writes whole pages there.
    #[tokio::test]
    async fn a_copy_that_ends_in_the_middle_of_a_page_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        open(dir.path()).expect("a new one opens").close().await.expect("closes");
        let database = dir.path().join("parlance.db");
        let whole = fs::read(&database).expect("reads");
        for beside in [true, false] {
            fs::write(&database, &whole[..whole.len() - 60]).expect("writes");
            if !beside {
                fs::remove_file(dir.path().join(OPENED)).expect("removes");
            }
            refused(open(dir.path()), "in the middle of a page");
            assert_eq!(metadata(&database).expect("there").len(), whole.len() as u64 - 60);
        }
        fs::write(&database, &whole).expect("writes");
        open(dir.path()).expect("opens");
    }

    #[tokio::test]
    async fn a_log_that_a_restore_has_left_over_is_not_written_into_the_copy() {
        let dir = tempfile::tempdir().expect("a directory");
        let (database, log) = (dir.path().join("parlance.db"), dir.path().join("parlance.db-wal"));
        let running = open(dir.path()).expect("opens");
        running.ping().await.expect("writes");
        let (backup, old_log) = (dir.path().join("backup"), dir.path().join("log"));
        let copy = rusqlite::Connection::open(&database).expect("opens");
        copy.execute("VACUUM INTO ?1", [backup.to_str()]).expect("copies");
        drop(copy);
        // As after a kill: a clean close would empty the log.
        fs::hard_link(&log, &old_log).expect("keeps it");
        running.ping().await.expect("writes");
        fs::rename(&backup, &database).expect("replaces");
        assert!(running.close().await.is_err(), "or the log would be written into the copy");
        refused(open(dir.path()), "was replaced");
        drop(running);

        fs::remove_file(&log)
            .or_else(|error| match error.kind() {
                ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
            .expect("removes");
        open(dir.path()).expect("opens the copy");
    }

    /// That start may have migrated the copy, and written to the previous database's empty log.
    #[test]
    fn a_copy_whose_first_start_was_interrupted_is_opened_by_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let (database, log, before) =
            (path("parlance.db"), path("parlance.db-wal"), path("before"));
        fs::write(&database, "a database").expect("writes");
        fs::write(&log, "").expect("writes");
        note_opening(&database, "first").expect("notes");
        fs::rename(&database, &before).expect("moves");
        fs::write(&database, "a copy").expect("writes");
        check_before_opening(&database).expect("opens");
        fs::write(&log, "of the copy").expect("writes");
        check_before_opening(&database).expect("opens");

        fs::rename(&before, &database).expect("puts it back");
        let refused = check_before_opening(&database);
        assert!(
            matches!(refused, Err(Error::Unavailable { .. })),
            "or it would get the copy's log"
        );
    }

    #[tokio::test]
    async fn a_server_whose_database_was_removed_is_not_ready() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(dir.path()).expect("opens");
        store.ping().await.expect("writes");
        fs::remove_file(dir.path().join("parlance.db")).expect("removes");
        let answer = store.ping().await;
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
        // Otherwise the next start would find an empty database.
        assert!(store.close().await.is_err());
        assert!(!dir.path().join("parlance.db").exists());
    }

    #[tokio::test]
    async fn who_closes_it_leaves_no_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(dir.path()).expect("opens");
        store.ping().await.expect("writes");
        let log = || metadata(dir.path().join("parlance.db-wal")).map_or(0, |log| log.len());
        assert!(log() > 0);
        store.close().await.expect("closes");
        assert_eq!(log(), 0);
    }
}
