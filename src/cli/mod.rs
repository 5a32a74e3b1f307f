//! The tools for people: look at calls, place one, see whether all is well.
//!
//! A tool takes its parsed arguments and the places it writes to, and says how it went. It is a
//! client of NATS like any other and holds no state: everything that it shows is in the public
//! feed, and everything that it does is a command.
//!
//! What callers say, and what the phone-call server says about them, is other people's text. It
//! reaches the screen through `text::clean` only, so that nobody on the phone can move the
//! operator's cursor. Phone numbers are masked unless the operator asks for them.

pub mod call;
pub mod calls;
pub mod doctor;
pub mod hangup;
pub mod paint;
pub mod tail;
pub mod target;

mod outcome;
mod table;
mod text;
mod when;

use std::io;
use std::process::ExitCode;

use crate::domain::ids::{AgentId, SessionKey};

/// How a tool went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As asked: 0.
    Fine,
    /// Not as asked, and said so: 1.
    Wrong,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Fine => Self::SUCCESS,
            Exit::Wrong => Self::FAILURE,
        }
    }
}

/// A reader that went away (`voicebus tail | head`) has seen enough, which is no failure.
fn unless_reader_left(result: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    match result {
        Err(error)
            if error
                .chain()
                .filter_map(|cause| cause.downcast_ref::<io::Error>())
                .any(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            Ok(Exit::Fine)
        }
        other => other,
    }
}

/// Reads a session as people write it: the whole key, or what follows `agent:main:`.
fn parse_session(text: &str) -> Result<SessionKey, String> {
    let agent = AgentId::parse("main").map_err(|error| error.to_string())?;
    SessionKey::parse(text, &agent).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_who_left_is_no_failure_and_everything_else_is() {
        let broken = |kind| Err(anyhow::Error::from(io::Error::from(kind)).context("writing"));
        assert_eq!(
            unless_reader_left(broken(io::ErrorKind::BrokenPipe)).unwrap(),
            Exit::Fine
        );
        assert!(unless_reader_left(broken(io::ErrorKind::StorageFull)).is_err());
    }

    #[test]
    fn a_session_may_be_written_without_its_agent() {
        let key = |text| parse_session(text).unwrap().to_string();
        assert_eq!(key("voice:777"), "agent:main:voice:777");
        assert_eq!(key("agent:bob:x"), "agent:bob:x");
        assert!(parse_session("a b").is_err());
    }
}
