//! Logging to standard error: text for people, JSON for programs. A panic is one line like any
//! other error.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Log;

/// What is logged below this target holds what callers say or who they are. It is dropped unless
/// the log was made unsafe on purpose.
pub const PRIVATE: &str = "voicebus::private";

/// The crate's own targets begin so. The libraries below it know nothing of privacy: the NATS client
/// logs whole messages at its finer levels, the HTTP client whole addresses.
const OWN: &str = "voicebus";

const NATS_CLIENT: &str = "async_nats";

/// Starts logging for the process; a second call changes nothing.
pub fn start(log: &Log) {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if log.json {
        lines.json().boxed()
    } else {
        lines
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .boxed()
    };
    let is_unsafe = log.is_unsafe;
    let started = tracing_subscriber::registry()
        .with(levels(&log.filter))
        .with(filter_fn(move |metadata| {
            is_unsafe || may_be_seen(metadata.target(), *metadata.level())
        }))
        .with(lines)
        .try_init();
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic
                .location()
                .map(ToString::to_string)
                .unwrap_or_default();
            // The message may hold a value of a caller; the place is enough to find the mistake.
            tracing::error!(place, "a task panicked; this is a mistake in voicebus");
        }));
    }
    if is_unsafe {
        tracing::warn!(
            "--log-unsafe: this log may hold phone numbers, words of callers and tokens from here on; keep it as you would keep a recording"
        );
    }
}

/// What is asked for; about the NATS client warnings only, unless it is named.
fn levels(filter: &str) -> EnvFilter {
    let filter = if filter.contains(NATS_CLIENT) {
        filter.to_owned()
    } else {
        format!("{filter},{NATS_CLIENT}=warn")
    };
    // The configuration has parsed this filter before.
    EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Whatever level is asked for, nothing of a call gets into the log: no library speaks of what it
/// carries, and neither do we.
fn may_be_seen(target: &str, level: Level) -> bool {
    if target.starts_with(PRIVATE) {
        return false;
    }
    let is_own = target
        .strip_prefix(OWN)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    is_own || level <= Level::INFO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nats_client_speaks_of_trouble_only_unless_it_is_named() {
        let of = |filter| levels(filter).to_string();
        assert!(of("debug").contains("async_nats=warn"));
        assert_eq!(of("async_nats=info"), "async_nats=info");
    }

    #[test]
    fn libraries_never_show_what_they_carry_and_neither_do_we() {
        assert!(may_be_seen("voicebus::router", Level::TRACE));
        assert!(may_be_seen("voicebus", Level::TRACE));
        assert!(may_be_seen("async_nats::connector", Level::INFO));
        for target in [
            "async_nats::connection",
            "hyper_util::client",
            "reqwest",
            "voicebuster",
        ] {
            assert!(!may_be_seen(target, Level::DEBUG), "{target}");
        }
        assert!(!may_be_seen(PRIVATE, Level::ERROR));
    }
}
