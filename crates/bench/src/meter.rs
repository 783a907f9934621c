//! What the operating system says of a process: its CPU time, all threads, ended ones included, and its memory.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// Of one process, or of several together.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    pids: Vec<String>,
}

impl Meter {
    pub(crate) fn new(pid: u32) -> Self {
        Self { pids: vec![pid.to_string()] }
    }

    /// Of this program itself.
    pub(crate) fn own() -> Self {
        Self { pids: vec!["self".to_owned()] }
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.pids.extend(other.pids);
        self
    }

    pub(crate) fn cpu(&self) -> Result<Duration> {
        let all = self.each("stat", ticks)?;
        let second = rustix::param::clock_ticks_per_second() as f64;
        Ok(Duration::from_secs(1).mul_f64(all as f64 / second))
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.each("status", resident)
    }

    fn each(&self, file: &str, find: impl Fn(&str) -> Option<u64>) -> Result<u64> {
        let of = |pid: &String| {
            let path = format!("/proc/{pid}/{file}");
            let text = fs::read_to_string(&path)
                .with_context(|| format!("{path} (has the server ended?)"))?;
            find(&text).with_context(|| format!("{path} says {text:?}"))
        };
        self.pids.iter().map(of).sum()
    }
}

/// `utime` and `stime`, fields 14 and 15; the name before them may hold spaces and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0 5 0 100";
        assert_eq!(ticks(stat), Some(150));
        assert_eq!(ticks("7 (a) R 1"), None);
    }

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(resident("VmPeak:\t 9 kB\nVmRSS:\t  5120 kB\nX: 1\n"), Some(5120));
        assert_eq!(resident("VmPeak:\t 9 kB\n"), None);
    }

    #[test]
    fn this_process_has_used_some_of_both() {
        let meter = Meter::own();
        assert!(meter.resident().unwrap() > 100);
        while meter.cpu().unwrap() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
    }
}
