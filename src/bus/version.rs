//! Versions of nats-server.

use std::fmt;

/// The oldest server that has everything voicebus needs: expected sequences over a
/// subject filter, atomic batches, message schedules.
pub const MINIMUM: Version = Version::new(2, 12, 0);
/// The server that is fetched when none is found.
pub const PINNED: Version = Version::new(2, 15, 1);

/// `major.minor.patch`; a pre-release counts as its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Reads what `nats-server --version` prints: `nats-server: v2.15.1`.
    pub fn parse_banner(banner: &str) -> Option<Self> {
        Self::parse(banner.trim().strip_prefix("nats-server: ")?)
    }

    /// Reads `2.15.1`, `v2.15.1` and `2.15.1-RC.2`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let release = text.split(['-', '+']).next()?;
        let mut parts = release.split('.').map(|part| part.parse().ok());
        let version = Self::new(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_of_a_server_is_read() {
        assert_eq!(
            Version::parse_banner("nats-server: v2.15.1\n"),
            Some(Version::new(2, 15, 1))
        );
        assert_eq!(
            Version::parse_banner("nats-server: v2.12.0-RC.3"),
            Some(Version::new(2, 12, 0))
        );
    }

    #[test]
    fn anything_else_is_not_a_version() {
        for banner in [
            "",
            "nats-server",
            "nats-server: v2",
            "nats-server: v2.15",
            "nats-server: v2.15.1.4",
            "nats-server: v2.x.1",
            "nats: v2.15.1",
            "python 3.12.1",
        ] {
            assert_eq!(Version::parse_banner(banner), None, "{banner:?}");
        }
    }

    #[test]
    fn versions_are_ordered_as_numbers() {
        assert!(Version::new(2, 9, 25) < MINIMUM);
        assert!(Version::new(2, 11, 99) < MINIMUM);
        assert!(PINNED >= MINIMUM);
        assert!(Version::new(3, 0, 0) > PINNED);
    }
}
