//! Faults of the disk under a single nats-server. They need root: the disk is one of our own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::fault::Done;
use crate::one_node::away_since;
use crate::reaper::Reaper;
use crate::unavailable::Unavailable;
use crate::world::World;

/// The streams reserve what they may grow to, so the disk must be large when they are made; a
/// tmpfs takes memory only for what is in it.
const ROOMY: &str = "size=8g";
/// Room that is left when the disk is made small: full within seconds.
const ROOM_LEFT: u64 = 1 << 20;
/// How long it stays full.
const FULL: Duration = Duration::from_secs(10);
/// Size of the disk that loses power: the streams reserve what they may grow to. Sparse.
const LOOP_DISK: &str = "16G";

/// A file system of our own, gone with the value.
pub struct Disk {
    pub at: PathBuf,
    image: Option<PathBuf>,
    reaper: Arc<Reaper>,
}

impl Disk {
    /// Memory as a disk.
    pub async fn small(folder: &Path, reaper: &Arc<Reaper>) -> anyhow::Result<Self> {
        let at = folder.join("disk");
        std::fs::create_dir_all(&at)?;
        let mount = ["mount", "-t", "tmpfs", "-o", ROOMY, "tmpfs", text(&at)?];
        run_if_possible(&mount).await?;
        Ok(Self::new(at, None, reaper))
    }

    /// A file as a disk: what was not flushed to it is in the page cache above it.
    pub async fn in_file(folder: &Path, reaper: &Arc<Reaper>) -> anyhow::Result<Self> {
        let (at, image) = (folder.join("disk"), folder.join("disk.img"));
        std::fs::create_dir_all(&at)?;
        run_if_possible(&["truncate", "-s", LOOP_DISK, text(&image)?]).await?;
        run_if_possible(&["mkfs.ext4", "-q", "-F", text(&image)?]).await?;
        run_if_possible(&["mount", "-o", "loop", text(&image)?, text(&at)?]).await?;
        Ok(Self::new(at, Some(image), reaper))
    }

    fn new(at: PathBuf, image: Option<PathBuf>, reaper: &Arc<Reaper>) -> Self {
        reaper.mounted(&at);
        let reaper = Arc::clone(reaper);
        Self { at, image, reaper }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The servers on it are being killed at this moment.
        let umount = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(&self.at)
            .status();
        if umount.is_ok_and(|status| status.success()) {
            self.reaper.unmounted(&self.at);
        }
    }
}

/// The disk fills up, is made larger, and nats-server is started again: it refuses until then.
pub async fn full(world: &mut World) -> anyhow::Result<Done> {
    let disk = world.disk.as_ref().context("there is no disk")?;
    let at = text(&disk.at)?.to_owned();
    let began = Instant::now();
    let used = run(&["df", "--output=used", "-B1", &at]).await?;
    let used: u64 = used.lines().last().unwrap_or_default().trim().parse()?;
    let small = format!("remount,size={}", used + ROOM_LEFT);
    run(&["mount", "-o", &small, &at]).await?;
    sleep(FULL).await;
    run(&["mount", "-o", &format!("remount,{ROOMY}"), &at]).await?;
    world.nodes[0].kill().await?;
    world.nodes[0].start().await?;
    Ok(away_since(began))
}

/// What is on the disk at one moment, without what was only in memory, is all that is left.
pub async fn power_cut(world: &mut World) -> anyhow::Result<Done> {
    let began = Instant::now();
    // From here on nothing is acknowledged any more.
    world.nodes[0].signal(Signal::STOP)?;
    let disk = world.disk.as_mut().context("there is no disk")?;
    let image = disk.image.clone().context("the disk is not a file")?;
    let left = image.with_extension("left");
    run(&["cp", "--sparse=always", text(&image)?, text(&left)?]).await?;
    world.nodes[0].kill().await?;
    let at = text(&disk.at)?;
    run(&["umount", at]).await?;
    std::fs::rename(&left, &image)?;
    // Mounting plays the journal back, as after a real power cut.
    run(&["mount", "-o", "loop", text(&image)?, at]).await?;
    world.nodes[0].start().await?;
    Ok(away_since(began))
}

async fn run_if_possible(words: &[&str]) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Unavailable("it needs root".to_owned()).into());
    }
    match run(words).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Unavailable(format!("{error:#}")).into()),
    }
}

async fn run(words: &[&str]) -> anyhow::Result<String> {
    let (program, args) = words.split_first().context("a command has a name")?;
    let command = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = command.await.with_context(|| format!("no {program}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", told.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path of our own is text")
}
