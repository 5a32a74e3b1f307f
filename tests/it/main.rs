//! Tests against a real nats-server.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may panic like the tests themselves"
)]

mod harness;
mod provision;
mod tools;
