//! aiosmtpd in a process of its own.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

pub(crate) struct Catcher {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) url: String,
}

impl Catcher {
    pub(crate) fn start() -> Self {
        let python = std::env::var("PARLANCE_TEST_PYTHON").expect(
            "PARLANCE_TEST_PYTHON names no Python with aiosmtpd: run this by `python3 tests/services.py -- …`",
        );
        let mut child = Command::new(python)
            .args(["-c", include_str!("catcher.py")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the Python of PARLANCE_TEST_PYTHON starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let mut catcher = Self { child, stdout, url: String::new() };
        catcher.url = format!("smtp://127.0.0.1:{}", catcher.line().trim());
        catcher
    }

    /// The next mail that has come.
    pub(crate) fn mail(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("JSON")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        assert!(!line.is_empty(), "the catcher has ended: is aiosmtpd there?");
        line
    }
}

impl Drop for Catcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
