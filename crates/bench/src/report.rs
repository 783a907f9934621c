//! What is said to whoever watches: progress to standard error, results to standard output.

use std::io::Write as _;

/// Progress.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A result.
pub(crate) fn result(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
