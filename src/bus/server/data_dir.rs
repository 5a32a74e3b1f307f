//! The data directory of `up`: its lock, and the configuration in it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::Error;

const SERVER_CONF: &str = include_str!("../../../nats/nats-server.conf");
const ACCOUNTS_CONF: &str = include_str!("../../../nats/accounts.conf");

/// The server's log is cut into pieces of this size, and this many old ones are kept.
const LOG_LIMIT: &str = "4MB";
const LOG_PIECES: u32 = 3;

/// A data directory that this process holds, without a server in it. The lock goes with
/// it, also when the process is killed.
#[derive(Debug)]
pub struct Held {
    _lock: File,
}

impl Held {
    /// Makes the directory if needed, with mode 0700, and takes it.
    ///
    /// # Errors
    /// When another instance holds it, or it cannot be used.
    pub fn take(path: &Path) -> Result<Self, Error> {
        make_private(path)?;
        let root = fs::canonicalize(path).map_err(Error::io("resolve", path))?;
        Ok(Self {
            _lock: lock(&root)?,
        })
    }
}

/// A data directory that this process holds. The lock goes with it, also when the
/// process is killed.
#[derive(Debug)]
pub(super) struct DataDir {
    root: PathBuf,
    nats: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if needed, and takes it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        make_private(path)?;
        // Absolute and without links: a left-over server is recognised by this path.
        let root = fs::canonicalize(path).map_err(Error::io("resolve", path))?;
        if root.to_str().is_none() {
            return Err(Error::Path { path: root });
        }
        let lock = lock(&root)?;
        let nats = root.join("nats");
        make_private(&nats)?;
        // The directory may be an old one, or a shared one; this part is not.
        fs::set_permissions(&nats, fs::Permissions::from_mode(0o700))
            .map_err(Error::io("restrict the mode of", &nats))?;
        Ok(Self {
            root,
            nats,
            _lock: lock,
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the server takes as `store_dir`; it makes `jetstream/` in there.
    pub fn store(&self) -> &Path {
        &self.nats
    }

    /// The file that the server is started with.
    pub fn conf(&self) -> PathBuf {
        self.nats.join("up.conf")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.nats.join("nats-server.pid")
    }

    pub fn log(&self) -> PathBuf {
        self.nats.join("nats-server.log")
    }

    /// What the server says before it has opened its log, and when it crashes.
    pub fn stderr(&self) -> PathBuf {
        self.nats.join("nats-server.stderr")
    }

    /// Writes the configuration as this version of voicebus wants it.
    pub fn write_conf(&self) -> Result<(), Error> {
        let up = format!(
            "# Written by `voicebus up` at every start. The settings are in nats-server.conf.\n\
             include \"nats-server.conf\"\n\
             pid_file: {pid}\n\
             ports_file_dir: {dir}\n\
             log_file: {log}\n\
             logfile_size_limit: {LOG_LIMIT}\n\
             logfile_max_num: {LOG_PIECES}\n",
            pid = quoted(&self.pid_file()),
            dir = quoted(&self.nats),
            log = quoted(&self.log()),
        );
        for (path, text) in [
            (self.nats.join("nats-server.conf"), SERVER_CONF),
            (self.nats.join("accounts.conf"), ACCOUNTS_CONF),
            (self.conf(), &up),
        ] {
            fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }

    /// Removes what an earlier server said about its ports, and its last words.
    pub fn clear_traces(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.nats).map_err(Error::io("list", &self.nats))? {
            let path = entry.map_err(Error::io("list", &self.nats))?.path();
            if path.extension().is_some_and(|e| e == "ports" || e == "pid") {
                remove(&path)?;
            }
        }
        remove(&self.stderr())
    }

    /// The file in which the server with this process id tells its ports.
    pub fn ports_file(&self, pid: u32) -> Option<PathBuf> {
        let end = format!("_{pid}.ports");
        let entries = fs::read_dir(&self.nats).ok()?;
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().ends_with(&end))
    }

    /// The end of what the server wrote, for a person to read.
    pub fn log_tail(&self) -> String {
        const BYTES: u64 = 8 * 1024;
        const LINES: usize = 20;
        let mut text = String::new();
        for path in [self.log(), self.stderr()] {
            match tail(&path, BYTES) {
                Ok(part) => text.push_str(&part),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => text.push_str(&format!("({}: {error})\n", path.display())),
            }
        }
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return "(it wrote nothing)".to_owned();
        }
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

/// A path as a string of nats-server's configuration language, where an unquoted one
/// ends at the first space, and digits alone are a number.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn make_private(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io("make the directory", path))
}

/// The lock is the kernel's and ends with the process. The text in the file only
/// tells who has it.
fn lock(root: &Path) -> Result<File, Error> {
    let path = root.join("lock");
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(Error::io("lock", &path)(error.into()));
        }
        let mut holder = String::new();
        file.read_to_string(&mut holder)
            .map_err(Error::io("read", &path))?;
        let holder = match holder.trim() {
            // Locked, but not yet signed.
            "" => "(unknown)".to_owned(),
            pid => pid.to_owned(),
        };
        return Err(Error::Locked {
            path: root.to_owned(),
            holder,
        });
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(Error::io("write", &path))?;
    Ok(file)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn tail(path: &Path, bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(len.saturating_sub(bytes)))?;
    let mut tail = Vec::new();
    file.take(bytes).read_to_end(&mut tail)?;
    Ok(String::from_utf8_lossy(&tail).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let held = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err();
        let me = std::process::id().to_string();
        assert!(matches!(&error, Error::Locked { holder, .. } if *holder == me));
        assert!(error.to_string().contains(&format!("process {me};")));

        drop(held);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_new_directory_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some/data");
        let held = DataDir::open(&path).unwrap();
        for path in [held.root(), held.store()] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn paths_are_quoted_for_the_configuration_language() {
        assert_eq!(quoted(Path::new("/srv/voice bus")), "\"/srv/voice bus\"");
        assert_eq!(quoted(Path::new("/a\"b\\c")), r#""/a\"b\\c""#);
    }

    #[test]
    fn the_tail_of_a_long_log_is_short() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        assert_eq!(held.log_tail(), "(it wrote nothing)");
        let lines: String = (0..5000).map(|n| format!("line {n}\n")).collect();
        fs::write(held.log(), lines).unwrap();
        fs::write(held.stderr(), "last words\n").unwrap();
        let tail = held.log_tail();
        assert!(tail.ends_with("line 4999\nlast words"));
        assert_eq!(tail.lines().count(), 20);
    }
}
