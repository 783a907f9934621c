//! How many files the process may have open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this it is worth a warning: the store's files and its connections count, too.
const FEW: u64 = 4096;

/// Raises the limit to the most that the system allows the process. The default of shells and supervisors, often 1,024,
/// is meant for programs that wait with `select`, which can handle no more.
pub(crate) fn allow_most() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        tell(current);
    } else if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
        tell(current);
    } else {
        tell(maximum);
    }
}

/// `None` is unlimited.
fn tell(open_files: Option<u64>) {
    match open_files {
        Some(open_files) if open_files < FEW => tracing::warn!(
            open_files,
            "few connections can be open at a time; raise the process's limit of open files (ulimit -n, LimitNOFILE)"
        ),
        open_files => tracing::debug!(open_files, "open files are limited"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_system_lets_it_have() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum }).expect("lowered");
        allow_most();
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}
