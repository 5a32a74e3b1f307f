//! voicebus: the event router between a phone-call server and OpenClaw.

pub mod bus;
pub mod cli;
pub mod domain;
pub mod error_chain;
pub mod ingress;
pub mod router;
pub mod simulate;
pub mod supervise;
