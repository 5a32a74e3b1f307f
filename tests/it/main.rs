//! One integration binary, on a real nats-server.

mod harness;
mod permissions;
mod server;
