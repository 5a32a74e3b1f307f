//! Logging to standard error: text for people, JSON for programs. A panic is one line like any
//! other error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::Log;

/// Starts logging for the process; a second call changes nothing.
pub fn start(log: &Log) {
    // The configuration has parsed this filter before.
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = if log.json {
        builder.json().try_init()
    } else {
        builder
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .try_init()
    };
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
