//! The directory that this process alone works in.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::config::{Secret, check_secret};

/// Holds the directory's lock until it is dropped; the system releases it when the process ends, however that happens.
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if it is missing (for its owner only), and locks it against a second process.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot create the data directory {shown}"))?;
        let file = path.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .with_context(|| format!("cannot write to {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!(
                "the data directory {shown} is in use by another parlance process; stop it, or choose another --data-dir"
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock the data directory {shown}"))
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The secret that this directory holds, made from `random` if it holds none yet.
    pub(crate) fn jwt_secret(&self, random: impl FnOnce() -> [u8; 32]) -> anyhow::Result<Secret> {
        let path = self.path.join("jwt.secret");
        let shown = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let secret = Secret::new(text.trim().to_owned());
                check_secret(&secret, &shown)?;
                return Ok(secret);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        }
        let text = hex::encode(random());
        self.write_secret(&path, &text).with_context(|| format!("cannot write {shown}"))?;
        tracing::info!(path = shown, "generated a JWT secret");
        Ok(Secret::new(text))
    }

    /// All or nothing: a crash leaves no half-written secret behind.
    fn write_secret(&self, path: &Path, text: &str) -> std::io::Result<()> {
        let new = self.path.join("jwt.secret.new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(&self.path)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/data");
        let first = DataDir::open(&path).unwrap();
        let refused = DataDir::open(&path).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("in use by another parlance process"), "{refused}");
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn the_secret_is_made_once_and_for_the_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        let secret = dir.jwt_secret(|| [0xab; 32]).unwrap();
        assert_eq!(secret.expose(), "ab".repeat(32));
        assert_eq!(dir.jwt_secret(|| unreachable!("made twice")).unwrap(), secret);

        let file = root.path().join("jwt.secret");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        std::fs::write(&file, "short").unwrap();
        assert!(dir.jwt_secret(|| [0; 32]).is_err());
    }
}
