//! `voicebus simulate`: a stand-in for the phone-call server, and a generator of calls. It dials nobody.
//!
//! Two halves which share nothing but the way to send an event:
//!
//! - [`StandIn`] answers as the real Python server does (`POST /call` and the rest), and as v2 sends the events which
//!   follow from a call it was asked to place;
//! - [`Generator`] plans calls from a seed, and [`sender`] posts their events to the ingress of voicebus.
//!
//! The demo, the tests and the benches all use it, so that what they meet is one and the same server, measured once.
//! `random`, `event`, `people` and `generator` are pure; `emitter`, `sender`, `record` and the stand-in are not.
//!
//! What is deliberately absent: a way to reach a telephone, an account with anyone, and any number that could belong
//! to somebody.

pub mod args;
pub mod emitter;
pub mod event;
pub mod generator;
pub mod people;
pub mod random;
pub mod record;
mod run;
mod schedule;
pub mod sender;
pub mod stand_in;

pub use args::{Args, Token, Version};
pub use emitter::{Emitter, Retry};
pub use generator::{Generator, PlannedEvent, plan};
pub use record::Recorder;
pub use run::{Summary, run, run_with};
pub use stand_in::{Dial, Fault, Race, Route, Setup, StandIn, StandInConfig, Told, Twilio};
