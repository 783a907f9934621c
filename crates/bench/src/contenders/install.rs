//! What is not Rust is installed here, once, below the build directory: npm's packages, Debian's nats-server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

/// A directory with these files in which npm has installed what `package.json` names, in exactly these versions.
pub(super) fn npm(target: &Path, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let directory = target.join("bench").join(name);
    let package = files.iter().find(|(file, _)| *file == "package.json").context("package.json")?.1;
    let stamp = directory.join("installed");
    let installed = fs::read_to_string(&stamp).is_ok_and(|of| of == package);
    fs::create_dir_all(&directory)?;
    for (file, text) in files {
        fs::write(directory.join(file), text)?;
    }
    if !installed {
        let status = Command::new("npm")
            .args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&directory)
            .stdout(Stdio::null())
            .status()
            .context("npm, with which contenders are installed (Debian: apt-get install npm)")?;
        ensure!(status.success(), "npm could not install what {name} needs: {status}");
        fs::write(stamp, package)?;
    }
    Ok(directory)
}

/// A program of a Debian package, which is installed if it is missing and root asks.
pub(super) fn debian(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = || {
        // Debian puts servers where not everybody's PATH leads.
        let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        places.map(|place| place.join(program)).find(|place| place.is_file())
    };
    if let Some(place) = found() {
        return Ok(place);
    }
    let apt = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let all = ["install", "--yes", "--no-install-recommends", program];
    if !rustix::process::geteuid().is_root() || !(apt(&all) || apt(&["update"]) && apt(&all)) {
        bail!("{program} is missing; install it (Debian: apt-get install {program})");
    }
    found().with_context(|| format!("{program} was installed and is nowhere"))
}
