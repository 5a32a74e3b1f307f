//! What this machine does not have.

/// Why a fault cannot be done here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);
