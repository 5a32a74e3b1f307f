//! The door for events: verify, parse, normalise, publish, answer. No state, no business rule.

pub mod source;
