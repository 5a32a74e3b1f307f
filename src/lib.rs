//! voicebus: the event router between a phone-call server and OpenClaw.

pub mod bus;
pub mod simulate;
