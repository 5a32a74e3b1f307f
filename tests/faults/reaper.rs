//! Nothing outlives the suite, however it ends: a second process holds the other end of a pipe and
//! cleans up when the pipe closes.

use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use rustix::process::{Signal, kill_process};

use crate::process::as_pid;

/// The hidden argument that makes this executable the second process.
pub const COMMAND: &str = "__reaper";

/// The way to tell it what is ours.
pub struct Reaper {
    pipe: Mutex<ChildStdin>,
}

impl Reaper {
    pub fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A Ctrl-C must end the suite, not the one that cleans up after it.
            .process_group(0)
            .spawn()
            .context("the reaper cannot be started")?;
        let pipe = child.stdin.take().context("the reaper has no pipe")?;
        Ok(Self {
            pipe: Mutex::new(pipe),
        })
    }

    pub fn owns(&self, pid: u32) {
        self.say(&format!("+p {pid}"));
    }

    pub fn gone(&self, pid: u32) {
        self.say(&format!("-p {pid}"));
    }

    pub fn mounted(&self, at: &Path) {
        self.say(&format!("+m {}", at.display()));
    }

    pub fn unmounted(&self, at: &Path) {
        self.say(&format!("-m {}", at.display()));
    }

    /// The folder of the whole run, which goes when everything else is gone.
    pub fn folder(&self, at: &Path) {
        self.say(&format!("+z {}", at.display()));
    }

    fn say(&self, line: &str) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a reaper the suite still cleans up after itself when it ends as it should.
        writeln!(pipe, "{line}").ok();
    }
}

/// The second process: remembers what it is told until the pipe closes.
pub fn run() {
    let mut owned: Vec<String> = Vec::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_at_checked(1) {
            Some(("+", what)) => owned.push(what.to_owned()),
            Some(("-", what)) => owned.retain(|known| known != what),
            _ => {}
        }
    }
    // Processes first: a file system in use cannot be unmounted. The folder last.
    owned.sort_by_key(|what| (!what.starts_with("p "), what.starts_with("z ")));
    for what in owned {
        match what.split_once(' ') {
            Some(("p", pid)) => {
                if let Some(pid) = pid.parse().ok().and_then(as_pid) {
                    kill_process(pid, Signal::KILL).ok();
                }
            }
            Some(("m", path)) => {
                Command::new("umount").arg("--lazy").arg(path).status().ok();
            }
            Some(("z", path)) => {
                std::fs::remove_dir_all(path).ok();
            }
            _ => {}
        }
    }
}
