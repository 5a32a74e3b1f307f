//! HTTP plumbing that every role shares: listening within bounds, who may come in, and the routes
//! for operations.

pub mod auth;
pub mod document;
pub mod error;
pub mod measured;
pub mod operations;
pub mod path;
pub mod rate;
pub mod serve;
pub mod tls;

mod framing;

pub use error::Error;
