//! The only module that knows NATS.

pub mod envelope;
pub mod server;
pub mod streams;
pub mod subjects;
