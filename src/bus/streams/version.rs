//! Whether the server at the other end will do.

use super::Error;
use crate::bus::version::{MINIMUM, Version};

/// # Errors
///
/// When the server is older than [`MINIMUM`], or does not say what it is.
pub(super) fn require(found: &str) -> Result<(), Error> {
    match Version::parse(found) {
        Some(version) if version >= MINIMUM => Ok(()),
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
