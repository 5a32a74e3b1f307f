//! The oldest server that will do.

use std::fmt;

use super::Error;

/// A nats-server release. What follows the third number (`-RC.1`, `-dev`) does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// Concurrency filters, atomic batches and message schedules came together in this release.
    pub const FLOOR: Self = Self {
        major: 2,
        minor: 12,
        patch: 0,
    };

    /// `2.15.1`, `v2.12.0-RC.1`; `None` for anything that does not start with three numbers.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let release = text.split(['-', '+']).next().unwrap_or(text);
        let mut numbers = release.split('.').map(str::parse::<u32>);
        let version = Self {
            major: numbers.next()?.ok()?,
            minor: numbers.next()?.ok()?,
            patch: numbers.next()?.ok()?,
        };
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// # Errors
///
/// When the server is older than [`Version::FLOOR`], or does not say what it is.
pub(super) fn require(found: &str) -> Result<(), Error> {
    match Version::parse(found) {
        Some(version) if version >= Version::FLOOR => Ok(()),
        Some(_) => Err(Error::ServerTooOld {
            found: found.to_owned(),
        }),
        None => Err(Error::ServerTooOld {
            found: format!("`{found}`"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_server_is_refused_by_name() {
        for old in ["2.11.9", "2.9.25", "1.99.99", "2.11.99-RC.1"] {
            let error = require(old).expect_err(old);
            assert_eq!(
                error.to_string(),
                format!("nats-server is too old: found {old}, needed 2.12.0 or later")
            );
        }
    }

    #[test]
    fn the_floor_and_all_later_servers_will_do() {
        for good in [
            "2.12.0",
            "2.12.0-RC.3",
            "2.15.1",
            "v2.15.0-dev",
            "2.100.0",
            "3.0.0+x",
        ] {
            assert!(require(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_server_that_does_not_say_what_it_is_will_not_do() {
        for odd in ["", "2.12", "2.12.0.1", "two", "2.-1.0"] {
            assert!(require(odd).is_err(), "{odd}");
        }
    }
}
