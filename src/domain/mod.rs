//! What a call is, and what can happen to it. Nothing here knows NATS, HTTP, a clock or a thread.
//!
//! A **call** is a conversation on the phone. The phone-call server names each *leg* of it with an
//! id of its own; one outbound call has two (Twilio's `CA…` and OpenAI's `rtc_…`), so voicebus
//! keeps one log per id and joins the two by putting them into the same **session**: the OpenClaw
//! conversation that the call belongs to.
//!
//! The life of a call goes forward only:
//!
//! ```text
//! unknown → initiated → ringing → active → ended
//! ```
//!
//! Any later state may be heard of first, because the real emitter sends each event from a thread
//! of its own. The end is final; what is said after it is still taken.
//!
//! An [`input::Input`] is what arrived. [`fn@apply`] holds it against what is known of the call and
//! says what happened: at most one [`event::Event`]. Doing it again with the same input changes
//! nothing, whenever and wherever that is. What must happen later (the transcript of the whole
//! call, a look after a call that went silent) is a [`timer`], which comes back as an input of its
//! own. A wish to dial is a **command**; its log is kept under
//! its own id, because a refused wish never gets a call. What may be done about a wish, so that it
//! rings a phone once, is in [`dial`].

pub mod call;
pub mod command;
pub mod dial;
pub mod event;
pub mod guard;
pub mod ids;
pub mod input;
pub mod phone;
pub mod redact;
pub mod session;
pub mod timer;
pub mod transcript;

mod apply;

pub use apply::{Known, Outcome, Rejection, Wanted, apply, reject, wanted};

/// An instant, always UTC. The domain is handed times; it never asks for one.
pub type Timestamp = chrono::DateTime<chrono::Utc>;
