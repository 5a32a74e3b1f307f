//! voicebus: the event router between a phone-call server and OpenClaw.

pub mod bus;
pub mod domain;
pub mod ingress;
pub mod simulate;
