//! Logging to standard error: text for people, JSON for programs. A panic is one line like any
//! other error.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Log;

/// The NATS client logs whole messages at its finer levels, numbers and words of callers included.
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
    let started = tracing_subscriber::registry()
        .with(levels(&log.filter))
        .with(filter_fn(|metadata| {
            may_be_seen(metadata.target(), *metadata.level())
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

/// Whatever is asked for, no message of a call gets into the log.
fn may_be_seen(target: &str, level: Level) -> bool {
    !target.starts_with(NATS_CLIENT) || level <= Level::INFO
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
    fn the_nats_client_never_shows_what_it_carries() {
        assert!(may_be_seen("voicebus::router", Level::TRACE));
        assert!(may_be_seen("async_nats::connector", Level::INFO));
        assert!(!may_be_seen("async_nats::connection", Level::TRACE));
        assert!(!may_be_seen("async_nats::jetstream::context", Level::DEBUG));
    }
}
