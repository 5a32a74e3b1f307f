//! The pure core under everything that can happen around it: repeats, crashes between any two
//! steps, workers that freeze and wake, lost acknowledgements, stale caches, a stream made anew.
//!
//! The world here is a small model of what NATS does for one partition: a stream of inputs, a
//! consumer that has one message in flight and hands it out again when nobody settles it, and a
//! log of events that only takes a commit which knows its end. The property is as strong as it can
//! be: whatever happens, the log of every call is exactly what one undisturbed worker would have
//! made of the same stream.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use voicebus::domain::call::{Log, Phase};
use voicebus::domain::event::Event;
use voicebus::domain::ids::{AgentId, CallId, EventId};
use voicebus::domain::input::{
    Direction, End, EndReason, Input, InputKind, Position, Speaker, Utterance,
};
use voicebus::domain::phone::Party;
use voicebus::domain::session::{Policy, Scope};
use voicebus::domain::timer::Times;
use voicebus::domain::{Known, Outcome, Timestamp, apply, reject};

const WORKERS: usize = 3;
const CALLS: usize = 3;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Happening {
    /// A sender publishes something about a call.
    Publish(usize, InputKind),
    /// A sender publishes an earlier event again, with the same id.
    Repeat(Index),
    /// A worker asks for the next message.
    Pull(usize),
    /// A worker does its next step: load, then commit, then acknowledge.
    Step(usize),
    /// A worker's commit is stored, but it does not hear of it.
    CommitUnheard(usize),
    /// A worker's acknowledgement is lost on the way.
    AckLost(usize),
    /// A worker dies and is started anew, with an empty cache.
    Crash(usize),
    /// The server gives up waiting for whoever has the message: it may be handed out again, while
    /// the one who has it goes on some time later.
    AckWaitOver,
    /// The stream of inputs is deleted and made anew; it counts from 1 again.
    NewEpoch,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (0..CALLS, kind()).prop_map(|(call, kind)| Happening::Publish(call, kind)),
        3 => any::<Index>().prop_map(Happening::Repeat),
        14 => (0..WORKERS).prop_map(Happening::Pull),
        24 => (0..WORKERS).prop_map(Happening::Step),
        3 => (0..WORKERS).prop_map(Happening::CommitUnheard),
        3 => (0..WORKERS).prop_map(Happening::AckLost),
        3 => (0..WORKERS).prop_map(Happening::Crash),
        5 => Just(Happening::AckWaitOver),
        1 => Just(Happening::NewEpoch),
    ]
}

fn kind() -> impl Strategy<Value = InputKind> {
    let number = prop_oneof![
        Just("+12015550142"),
        Just("+12015550143"),
        Just("sip:anonymous@anonymous.invalid"),
    ];
    let direction = prop_oneof![
        Just(None),
        Just(Some(Direction::Inbound)),
        Just(Some(Direction::Outbound))
    ];
    let reason = prop_oneof![
        Just(EndReason::Completed),
        Just(EndReason::Busy),
        Just(EndReason::Failed)
    ];
    prop_oneof![
        3 => (direction, number).prop_map(|(direction, number)| InputKind::Started {
            direction,
            party: Some(Party::read(number)),
            intent: None,
        }),
        2 => Just(InputKind::Ringing),
        2 => Just(InputKind::Answered),
        2 => reason.prop_map(|reason| InputKind::Ended(End { reason, detail: None })),
        1 => Just(InputKind::Cancelled),
        6 => "[a-z]{1,4}".prop_map(|text| InputKind::Utterance(Utterance {
            speaker: Speaker::User,
            speaker_label: "user".into(),
            text,
            spoken_at: None,
            confidence: None,
        })),
    ]
}

/// Where a worker stands with the message it has.
#[derive(Debug, Clone)]
enum Hand {
    Pulled(Input),
    /// It has loaded the log and made up its mind.
    Decided {
        input: Input,
        last: usize,
        event: Option<Box<Event>>,
    },
    /// It has committed, or has nothing to commit.
    Committed(Input),
}

#[derive(Debug, Default)]
struct Worker {
    hand: Option<Hand>,
    /// What it believes the logs to be: their events, as of when it last looked.
    cache: BTreeMap<CallId, Vec<Event>>,
}

#[derive(Debug, Default)]
struct World {
    epoch: u64,
    inputs: Vec<Input>,
    /// Everything that was ever in a stream of inputs, for the reference.
    history: Vec<Input>,
    published: Vec<(EventId, CallId, InputKind)>,
    /// How many inputs are acknowledged, and whether the next one is in flight.
    settled: usize,
    in_flight: bool,
    logs: BTreeMap<CallId, Vec<Event>>,
    workers: [Worker; WORKERS],
}

fn policy() -> Policy {
    Policy {
        agent: AgentId::parse("main").unwrap(),
        scope: Scope::PerPhone,
        times: Times::default(),
        own_numbers: Vec::new(),
    }
}

fn call_id(number: usize) -> CallId {
    CallId::parse(&format!("rtc_{number}")).unwrap()
}

/// What the router's shell does with an input and the log as it knows it.
fn decide(log: Option<&Log>, input: &Input) -> Option<Box<Event>> {
    match apply(log, input, &Known::default(), &policy()) {
        Outcome::Applied { event, .. } => Some(event),
        Outcome::Duplicate | Outcome::Late | Outcome::Waiting { .. } => None,
        Outcome::Rejected(rejection) => {
            Some(Box::new(reject(log, input, &rejection, 7, &policy()).0))
        }
    }
}

impl World {
    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Publish(call, kind) => {
                let id = EventId::parse(&format!("ev_{}", self.published.len())).unwrap();
                self.published.push((id, call_id(*call), kind.clone()));
                self.store(self.published.len() - 1);
            }
            Happening::Repeat(index) if !self.published.is_empty() => {
                self.store(index.index(self.published.len()));
            }
            Happening::Repeat(_) => {}
            Happening::Pull(worker) => self.pull(*worker),
            Happening::Step(worker) => self.step(*worker, true, true),
            Happening::CommitUnheard(worker) => self.step(*worker, false, true),
            Happening::AckLost(worker) => self.step(*worker, true, false),
            Happening::Crash(worker) => self.workers[*worker] = Worker::default(),
            Happening::AckWaitOver => self.in_flight = false,
            Happening::NewEpoch => {
                // Only what was settled is gone from the stream without a trace; the senders of
                // the rest were answered 200, so a real operator restores it.
                self.inputs.drain(..self.settled);
                self.epoch += 1;
                for (place, input) in self.inputs.iter_mut().enumerate() {
                    input.position = Position {
                        epoch: self.epoch,
                        sequence: place as u64 + 1,
                    };
                }
                self.settled = 0;
                self.in_flight = false;
            }
        }
    }

    fn store(&mut self, published: usize) {
        let (id, call, kind) = self.published[published].clone();
        let position = Position {
            epoch: self.epoch,
            sequence: self.inputs.len() as u64 + 1,
        };
        let at = Timestamp::from_timestamp(1_800_000_000 + published as i64, 0).unwrap();
        let input = Input {
            id,
            call,
            position,
            happened_at: None,
            received_at: at,
            source_sequence: None,
            kind,
        };
        self.history.push(input.clone());
        self.inputs.push(input);
    }

    fn pull(&mut self, worker: usize) {
        if self.in_flight || self.workers[worker].hand.is_some() {
            return;
        }
        if let Some(input) = self.inputs.get(self.settled) {
            self.in_flight = true;
            self.workers[worker].hand = Some(Hand::Pulled(input.clone()));
        }
    }

    /// One step of a worker, however long ago it pulled its message.
    fn step(&mut self, number: usize, commit_is_heard: bool, ack_arrives: bool) {
        let worker = &mut self.workers[number];
        worker.hand = match worker.hand.take() {
            None => None,
            Some(Hand::Pulled(input)) => {
                // A cached log may be old; a missing one is read. The router does nothing about an
                // input only when the log that it has read says so.
                let read = self.logs.get(&input.call).cloned().unwrap_or_default();
                let cached = worker.cache.get(&input.call).cloned();
                let mut known = cached.unwrap_or_else(|| read.clone());
                let mut event = decide(known.last().map(|event| &event.log), &input);
                if event.is_none() {
                    known = read;
                    event = decide(known.last().map(|event| &event.log), &input);
                }
                let last = known.len();
                worker.cache.insert(input.call.clone(), known);
                Some(Hand::Decided { input, last, event })
            }
            Some(Hand::Decided {
                input, event: None, ..
            }) => Some(Hand::Committed(input)),
            Some(Hand::Decided {
                input,
                last,
                event: Some(event),
            }) => {
                let log = self.logs.entry(input.call.clone()).or_default();
                let accepted = log.len() == last;
                if accepted {
                    log.push(*event);
                }
                worker.cache.insert(input.call.clone(), log.clone());
                if accepted && commit_is_heard {
                    Some(Hand::Committed(input))
                } else {
                    // A conflict, or no word of the commit: look at the log and start over.
                    Some(Hand::Pulled(input))
                }
            }
            Some(Hand::Committed(input)) => {
                let next = self.inputs.get(self.settled);
                if ack_arrives && next.is_some_and(|next| next.position == input.position) {
                    self.settled += 1;
                    self.in_flight = false;
                }
                None
            }
        };
    }

    /// Lets everything come to rest: no more trouble, and every message is settled.
    fn come_to_rest(&mut self) {
        for _ in 0..self.inputs.len() * 8 + 8 * WORKERS {
            for worker in 0..WORKERS {
                self.pull(worker);
                self.step(worker, true, true);
            }
            if self.settled == self.inputs.len() && self.workers.iter().all(|w| w.hand.is_none()) {
                return;
            }
            if self.workers.iter().all(|worker| worker.hand.is_none()) {
                self.in_flight = false;
            }
        }
        panic!("the partition stands still");
    }

    fn sequences_have_no_hole(&self) {
        for (call, log) in &self.logs {
            for (place, event) in log.iter().enumerate() {
                let sequence = event.log.progress().sequence;
                assert_eq!(sequence, place as u64 + 1, "hole in the log of {call}");
            }
        }
    }

    fn no_input_has_two_effects(&self) {
        for (call, log) in &self.logs {
            let mut ids: Vec<&EventId> = log.iter().map(|event| &event.id).collect();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), log.len(), "an input had two effects on {call}");
        }
    }

    fn calls_go_forward_only(&self) {
        for (call, log) in &self.logs {
            let phases: Vec<Phase> = log.iter().map(|event| phase(&event.log)).collect();
            assert!(phases.is_sorted(), "{call} went back: {phases:?}");
        }
    }

    /// What one undisturbed worker makes of the same inputs.
    fn logs_are_as_if_nothing_had_happened(&self) {
        let mut reference: BTreeMap<CallId, Vec<Event>> = BTreeMap::new();
        for input in &self.history {
            let log = reference.entry(input.call.clone()).or_default();
            if let Some(event) = decide(log.last().map(|event| &event.log), input) {
                log.push(*event);
            }
        }
        reference.retain(|_, log| !log.is_empty());
        let story = |logs: &BTreeMap<CallId, Vec<Event>>| -> Vec<String> {
            let lines = logs.iter().flat_map(|(call, log)| {
                log.iter().map(move |event| {
                    let (kind, action) = event.kind_and_action();
                    format!(
                        "{call} {} {kind}.{action} {}",
                        event.id,
                        event.log.session()
                    )
                })
            });
            lines.collect()
        };
        assert_eq!(story(&self.logs), story(&reference));
    }
}

fn phase(log: &Log) -> Phase {
    match log {
        Log::Call(call) => call.phase,
        Log::Command(_) => Phase::Unknown,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_input_has_one_effect_in_order(
        happenings in prop::collection::vec(happening(), 1..120)
    ) {
        let mut world = World::default();
        for happening in &happenings {
            world.happen(happening);
            world.sequences_have_no_hole();
            world.no_input_has_two_effects();
            world.calls_go_forward_only();
        }
        world.come_to_rest();
        world.sequences_have_no_hole();
        world.no_input_has_two_effects();
        world.calls_go_forward_only();
        world.logs_are_as_if_nothing_had_happened();
    }
}
