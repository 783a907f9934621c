//! What the operating system says of a process: its CPU time, all threads, ended ones included, and its memory.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    time::{ClockId, clock_getcpuclockid},
    unistd::Pid,
};

/// Of one process, or of several together.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    pids: Vec<Pid>,
}

impl Meter {
    pub(crate) fn new(pid: u32) -> Self {
        Self { pids: vec![Pid::from_raw(pid.cast_signed())] }
    }

    /// Of this program itself.
    pub(crate) fn own() -> Self {
        Self::new(std::process::id())
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.pids.extend(other.pids);
        self
    }

    /// By the process's own clock, in nanoseconds: `/proc` counts ticks of 10 ms, too coarse for a paced run.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let of = |pid: &Pid| {
            let time = clock_getcpuclockid(*pid).and_then(ClockId::now);
            time.map(Duration::from)
                .with_context(|| format!("the clock of process {pid} (has the server ended?)"))
        };
        self.pids.iter().map(of).sum()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> Result<u64> {
        let of = |pid: &Pid| {
            let path = format!("/proc/{pid}/status");
            let text = fs::read_to_string(&path)
                .with_context(|| format!("{path} (has the server ended?)"))?;
            resident(&text).with_context(|| format!("{path} says {text:?}"))
        };
        self.pids.iter().map(of).sum()
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const WHILE: Duration = Duration::from_millis(20);

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(resident("VmPeak:\t 9 kB\nVmRSS:\t  5120 kB\nX: 1\n"), Some(5120));
        assert_eq!(resident("VmPeak:\t 9 kB\n"), None);
    }

    #[test]
    fn this_process_has_used_some_of_both() {
        let meter = Meter::own();
        assert!(meter.resident().unwrap() > 100);
        while meter.cpu().unwrap() < WHILE {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_thread_counts_when_it_has_ended_too() {
        let (meter, before) = (Meter::own(), Meter::own().cpu().unwrap());
        let spinning = meter.clone();
        let thread = std::thread::spawn(move || {
            while spinning.cpu().unwrap() < before + WHILE {
                std::hint::spin_loop();
            }
        });
        thread.join().unwrap();
        assert!(meter.cpu().unwrap() >= before + WHILE);
    }

    #[test]
    fn another_process_is_measured_until_it_has_ended() {
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let meter = Meter::new(child.id());
        let both = meter.clone().and(Meter::own());
        while meter.cpu().unwrap() < WHILE {
            std::hint::spin_loop();
        }
        let before = meter.cpu().unwrap() + Meter::own().cpu().unwrap();
        assert!(both.cpu().unwrap() >= before);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(meter.cpu().is_err());
    }
}
