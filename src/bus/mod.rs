//! The only module that knows NATS.

pub mod server;
pub mod streams;
