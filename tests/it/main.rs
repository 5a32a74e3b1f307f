//! One integration binary, on a real nats-server.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on says where, and says what it waits for"
)]

mod dead_letters;
mod harness;
mod permissions;
mod provision;
mod server;
mod tools;
