//! Which nats-server to run.
//!
//! In this order: the one that `VOICEBUS_NATS_SERVER` names (it must be usable: who
//! names one wants that one), one on `PATH` that is new enough, the one in the cache,
//! else the pinned one is fetched into the cache.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{Error, fetch};
use crate::bus::version::{MINIMUM, PINNED, Version};

const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// A nats-server that runs and is new enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    pub path: PathBuf,
    pub version: Version,
}

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// A particular server.
    pub named: Option<PathBuf>,
    /// The search path for programs.
    pub search: Option<OsString>,
    /// Where fetched servers are kept; none if the user has no home.
    pub cache: Option<PathBuf>,
}

impl Places {
    /// From `VOICEBUS_NATS_SERVER`, `PATH`, and the first of `VOICEBUS_CACHE_DIR`,
    /// `XDG_CACHE_HOME` and `HOME`.
    pub fn from_env() -> Self {
        Self::from_lookup(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| lookup(name).map(PathBuf::from);
        let cache = path("VOICEBUS_CACHE_DIR")
            // The XDG convention: a relative path there is to be ignored.
            .or_else(|| {
                let xdg = path("XDG_CACHE_HOME").filter(|path| path.is_absolute())?;
                Some(xdg.join("voicebus"))
            })
            .or_else(|| Some(path("HOME")?.join(".cache/voicebus")));
        Self {
            named: path("VOICEBUS_NATS_SERVER"),
            search: lookup("PATH"),
            cache,
        }
    }
}

/// What was found in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Usable(Binary),
    TooOld { path: PathBuf, found: Version },
    Broken { path: PathBuf, reason: String },
}

/// What was found in all places.
#[derive(Debug, Default)]
struct Found {
    named: Option<Probe>,
    on_path: Option<Probe>,
    cached: Option<Probe>,
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Use(Binary),
    Fetch,
}

/// Finds a nats-server, or fetches one. `report` is told, in words for a person, what
/// takes time.
///
/// # Errors
/// When a server is named that cannot be used, or when there is none and none can be
/// fetched.
pub async fn locate(places: &Places, report: impl Fn(&str)) -> Result<Binary, Error> {
    match choose(look(places).await)? {
        Choice::Use(binary) => Ok(binary),
        Choice::Fetch => match &places.cache {
            Some(cache) => fetch::fetch(cache, &report).await,
            None => Err(Error::NoServer {
                reason: "there is no HOME and no VOICEBUS_CACHE_DIR to keep it in".to_owned(),
            }),
        },
    }
}

/// The decision, apart from the looking.
fn choose(found: Found) -> Result<Choice, Error> {
    match found.named {
        Some(Probe::Usable(binary)) => return Ok(Choice::Use(binary)),
        Some(Probe::TooOld { path, found }) => return Err(Error::NamedTooOld { path, found }),
        Some(Probe::Broken { path, reason }) => return Err(Error::Named { path, reason }),
        None => {}
    }
    for probe in [found.on_path, found.cached].into_iter().flatten() {
        match probe {
            Probe::Usable(binary) => return Ok(Choice::Use(binary)),
            Probe::TooOld { path, found } => {
                tracing::info!(path = %path.display(), %found, needed = %MINIMUM, "nats-server is too old; looking further");
            }
            Probe::Broken { path, reason } => {
                tracing::info!(path = %path.display(), reason, "nats-server does not run; looking further");
            }
        }
    }
    Ok(Choice::Fetch)
}

async fn look(places: &Places) -> Found {
    if let Some(named) = &places.named {
        return Found {
            named: Some(probe(named).await),
            ..Found::default()
        };
    }
    let mut found = Found::default();
    if let Some(path) = places.search.as_ref().and_then(|search| {
        env::split_paths(search)
            .map(|dir| dir.join("nats-server"))
            .find(|path| is_executable(path))
    }) {
        found.on_path = Some(probe(&path).await);
    }
    if let Some(path) = places.cache.as_deref().map(cached_path)
        && path.exists()
    {
        found.cached = Some(probe(&path).await);
    }
    found
}

/// The pinned server in the cache. The version is in the path: a new pin never meets
/// an old file.
pub(super) fn cached_path(cache: &Path) -> PathBuf {
    cache
        .join("nats-server")
        .join(PINNED.to_string())
        .join("nats-server")
}

/// Asks a program for its version.
pub(super) async fn probe(path: &Path) -> Probe {
    let path = path.to_owned();
    let broken = |reason: String, path: PathBuf| Probe::Broken { path, reason };
    let output = match tokio::time::timeout(PROBE_TIMEOUT, run_version(&path)).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return broken(error.to_string(), path),
        Err(_) => return broken("it does not tell its version".to_owned(), path),
    };
    match Version::parse_banner(&output) {
        Some(version) if version >= MINIMUM => Probe::Usable(Binary { path, version }),
        Some(found) => Probe::TooOld { path, found },
        None => broken("it does not tell its version".to_owned(), path),
    }
}

async fn run_version(path: &Path) -> io::Result<String> {
    const TRIES: u32 = 20;
    let mut tries = 0;
    loop {
        let mut command = Command::new(path);
        command
            .arg("--version")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        match command.output().await {
            Ok(output) => return Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            // A file just written is "busy" while a child that another thread is
            // starting right then still holds a copy of its descriptor.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable(path: &str, version: Version) -> Probe {
        Probe::Usable(Binary {
            path: path.into(),
            version,
        })
    }

    fn too_old(path: &str) -> Probe {
        Probe::TooOld {
            path: path.into(),
            found: Version::new(2, 11, 4),
        }
    }

    fn broken(path: &str) -> Probe {
        Probe::Broken {
            path: path.into(),
            reason: "exec format error".to_owned(),
        }
    }

    fn chosen(found: Found) -> Option<String> {
        match choose(found).unwrap() {
            Choice::Use(binary) => Some(binary.path.display().to_string()),
            Choice::Fetch => None,
        }
    }

    #[test]
    fn the_named_one_comes_before_the_path_before_the_cache() {
        let all = || Found {
            named: Some(usable("named", MINIMUM)),
            on_path: Some(usable("path", PINNED)),
            cached: Some(usable("cache", PINNED)),
        };
        assert_eq!(chosen(all()).as_deref(), Some("named"));
        let unnamed = Found {
            named: None,
            ..all()
        };
        assert_eq!(chosen(unnamed).as_deref(), Some("path"));
        let cached = Found {
            named: None,
            on_path: None,
            ..all()
        };
        assert_eq!(chosen(cached).as_deref(), Some("cache"));
        assert_eq!(chosen(Found::default()), None);
    }

    #[test]
    fn an_old_or_broken_one_on_the_path_is_passed_over() {
        for on_path in [too_old("path"), broken("path")] {
            let found = |cached| Found {
                named: None,
                on_path: Some(on_path.clone()),
                cached,
            };
            let cached = Some(usable("cache", PINNED));
            assert_eq!(chosen(found(cached)).as_deref(), Some("cache"));
            assert_eq!(chosen(found(Some(broken("cache")))), None);
            assert_eq!(chosen(found(None)), None);
        }
    }

    #[test]
    fn a_named_one_that_cannot_be_used_is_an_error_and_not_replaced() {
        let found = |named| Found {
            named: Some(named),
            on_path: Some(usable("path", PINNED)),
            cached: None,
        };
        let error = choose(found(too_old("mine"))).unwrap_err();
        assert!(matches!(error, Error::NamedTooOld { .. }));
        assert!(error.to_string().contains("nats-server 2.11.4"));
        assert!(error.to_string().contains("2.12.0 or newer"));
        let error = choose(found(broken("mine"))).unwrap_err();
        assert!(matches!(error, Error::Named { .. }));
    }

    #[test]
    fn the_cache_is_where_the_user_says_or_where_caches_are() {
        let cache = |variables: &[(&str, &str)]| {
            let variables: std::collections::BTreeMap<String, OsString> = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.into()))
                .collect();
            Places::from_lookup(|name| variables.get(name).cloned()).cache
        };
        let home = ("HOME", "/home/ann");
        let xdg = ("XDG_CACHE_HOME", "/var/cache/ann");
        let own = ("VOICEBUS_CACHE_DIR", "/srv/cache");
        assert_eq!(cache(&[home]), Some("/home/ann/.cache/voicebus".into()));
        assert_eq!(cache(&[home, xdg]), Some("/var/cache/ann/voicebus".into()));
        assert_eq!(cache(&[home, xdg, own]), Some("/srv/cache".into()));
        let relative = ("XDG_CACHE_HOME", "cache");
        assert_eq!(
            cache(&[home, relative]),
            Some("/home/ann/.cache/voicebus".into())
        );
        assert_eq!(cache(&[]), None);
    }

    /// A stand-in for nats-server that tells a version.
    fn pretend(dir: &Path, banner: &str) -> PathBuf {
        let path = dir.join("nats-server");
        std::fs::write(&path, format!("#!/bin/sh\necho '{banner}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn programs_are_asked_for_their_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = pretend(dir.path(), "nats-server: v2.14.0");
        assert_eq!(
            probe(&path).await,
            Probe::Usable(Binary {
                path: path.clone(),
                version: Version::new(2, 14, 0)
            })
        );
        pretend(dir.path(), "nats-server: v2.11.9");
        assert!(matches!(probe(&path).await, Probe::TooOld { .. }));
        pretend(dir.path(), "something else 1.0");
        assert!(matches!(probe(&path).await, Probe::Broken { .. }));
        let missing = dir.path().join("missing");
        assert!(matches!(probe(&missing).await, Probe::Broken { .. }));
    }

    #[tokio::test]
    async fn a_server_on_the_path_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = pretend(dir.path(), "nats-server: v2.13.2");
        let places = Places {
            search: Some(format!("/nowhere:{}", dir.path().display()).into()),
            ..Places::default()
        };
        let binary = locate(&places, |_| {}).await.unwrap();
        assert_eq!(binary.path, path);
        assert_eq!(binary.version, Version::new(2, 13, 2));
    }

    #[tokio::test]
    async fn a_named_server_that_is_missing_is_an_error() {
        let places = Places {
            named: Some("/nowhere/nats-server".into()),
            ..Places::default()
        };
        let error = locate(&places, |_| {}).await.unwrap_err();
        assert!(matches!(error, Error::Named { .. }), "{error}");
    }

    #[tokio::test]
    async fn without_any_place_the_error_names_the_ways_out() {
        let error = locate(&Places::default(), |_| {}).await.unwrap_err();
        let message = error.to_string();
        for way in ["PATH", "VOICEBUS_NATS_SERVER", "pip"] {
            assert!(message.contains(way), "{message}");
        }
    }
}
