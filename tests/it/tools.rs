//! The tools for people on a real server.

mod callers;
mod calls;
mod commands;
mod doctor;
mod tail;

use std::time::Duration;

use clap::Parser;
use voicebus::bus::feed::{Feed, Start, Step};
use voicebus::bus::streams::{self, provision};
use voicebus::bus::{self, Auth, Bus, Connection, Settings, Tls};
use voicebus::domain::Timestamp;
use voicebus::domain::call::{Call, Log, Phase, Progress};
use voicebus::domain::event::{Change, Event, Said};
use voicebus::domain::ids::{AgentId, CallId, EventId, SessionKey};
use voicebus::domain::input::{Direction, End, EndReason, Position, Speaker, Utterance};
use voicebus::domain::phone::E164;
use voicebus::domain::session::{Binding, Rule};

use crate::harness::Nats;

/// A provisioned server, and calls that happen on it.
struct Stage {
    nats: Nats,
    bus: Bus,
}

impl Stage {
    async fn set() -> Self {
        let nats = Nats::start().await;
        let connection = connect(&nats).await;
        provision(connection.jetstream(), &streams::Options::default())
            .await
            .unwrap();
        let bus = Bus::open(connection).await.unwrap();
        Self { nats, bus }
    }

    /// Commits the next event of a call, whatever the connection is like at the moment.
    async fn happens(&self, call: &mut Call, change: Change) {
        let at = now();
        match &change {
            Change::Initiated => call.initiated_at = Some(at),
            Change::Answered => {
                call.phase = Phase::Active;
                call.answered_at = Some(at);
            }
            Change::Ended => {
                call.phase = Phase::Ended;
                let reason = EndReason::HangupUser;
                call.end = Some((
                    at,
                    End {
                        reason,
                        detail: None,
                    },
                ));
            }
            Change::Said(_) => call.utterances += 1,
            _ => {}
        }
        let sequence = call.progress.sequence + 1;
        let id = EventId::parse(&format!("ev_{}_{sequence}", call.id)).unwrap();
        let position = Position {
            epoch: self.bus.epoch(),
            sequence,
        };
        call.progress = call.progress.next(&id, position);
        let event = Event {
            id,
            time: at,
            change,
            log: Log::Call(call.clone()),
        };
        for _ in 0..100 {
            let Ok(loaded) = self.bus.load_from_leader(call.id.as_str()).await else {
                continue;
            };
            let stored = loaded.log.map_or(0, |log| log.progress().sequence);
            if stored == sequence {
                return;
            }
            if self.bus.commit(&event, None, loaded.last).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("event {sequence} of {} was not committed", call.id);
    }
}

async fn connect(nats: &Nats) -> Connection {
    let settings = Settings {
        url: nats.url().to_owned(),
        auth: Auth::None,
        tls: Tls::default(),
        role: "observer",
    };
    bus::connect(&settings).await.unwrap()
}

fn now() -> Timestamp {
    chrono::Utc::now()
}

fn call(id: &str) -> Call {
    let agent = AgentId::parse("main").unwrap();
    let binding = Binding {
        key: SessionKey::per_phone(&agent, "12015550142"),
        rule: Rule::Scope,
    };
    let mut call = Call::unknown(CallId::parse(id).unwrap(), binding);
    call.phase = Phase::Initiated;
    call.progress = Progress::default();
    call.direction = Some(Direction::Inbound);
    call.number = Some(E164::parse("+12015550142").unwrap());
    call
}

fn said(text: &str) -> Change {
    Change::Said(Said {
        utterance: Utterance {
            speaker: Speaker::User,
            speaker_label: "user".to_owned(),
            text: text.to_owned(),
            spoken_at: None,
            confidence: None,
        },
        source_sequence: None,
        after_end: false,
        backfilled: false,
    })
}

/// The arguments of a tool, as the command line gives them.
fn args<A: clap::Args>(nats: &Nats, words: &[&str]) -> A {
    args_at(nats.url(), words)
}

fn args_at<A: clap::Args>(url: &str, words: &[&str]) -> A {
    #[derive(clap::Parser)]
    struct Line<A: clap::Args> {
        #[command(flatten)]
        args: A,
    }
    let place = ["tool", "--nats-url", url];
    Line::<A>::parse_from(place.iter().chain(words)).args
}

#[tokio::test]
async fn a_feed_begins_at_the_oldest_event_when_that_is_asked_for() {
    let stage = Stage::set().await;
    let mut one = call("CA1");
    stage.happens(&mut one, Change::Initiated).await;
    stage.happens(&mut one, Change::Ringing).await;
    let connection = connect(&stage.nats).await;
    let filter = "voice.event.CA1.>".to_owned();
    let mut feed = Feed::open(&connection, "test", filter, Start::Oldest)
        .await
        .unwrap();
    for expected in 1..=2 {
        let Step::Event(stored) = feed.next().await else {
            panic!("no event");
        };
        assert_eq!(stored.sequence, expected);
    }
}
