//! One integration binary, on a real nats-server.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on says where, and says what it waits for"
)]

mod any_request;
mod architecture;
mod auth;
mod bad_input;
mod bench;
mod commands;
mod container;
mod conversation;
mod dead_letters;
mod durability;
mod end_to_end;
mod fault_verdict;
mod fixtures;
mod flood;
mod guards;
mod harness;
mod https;
mod limits;
mod links;
mod metrics;
mod model;
mod network;
mod outbound;
mod outgoing;
mod permissions;
mod provision;
mod rotation;
mod scale_out;
mod server;
mod signing;
mod timers;
mod tools;
mod up;
mod vectors;
mod watch;
mod webhooks;
