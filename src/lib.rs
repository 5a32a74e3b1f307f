//! voicebus: the event router between a phone-call server and OpenClaw.

pub mod app;
pub mod bench;
pub mod bus;
pub mod cli;
pub mod config;
pub mod crash_point;
pub mod domain;
pub mod egress;
pub mod error_chain;
pub mod http;
pub mod ingress;
pub mod metrics;
pub mod pem;
pub mod router;
pub mod simulate;
pub mod supervise;
pub mod telemetry;

/// Chooses the cryptography for TLS, once for the process.
pub fn install_crypto() {
    // The only error is that it was chosen before, which is fine.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
}

/// A new intent id, for a command whose sender gave none. Version 7 sorts by time, which makes
/// lists of commands readable.
#[must_use]
pub fn fresh_intent() -> domain::ids::IntentId {
    let id = format!("i-{}", uuid::Uuid::now_v7().simple());
    domain::ids::IntentId::parse(&id).expect("hex digits and a dash are an id")
}
