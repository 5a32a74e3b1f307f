//! The pure core under everything that can happen around it: repeats, crashes between any two
//! steps, workers that freeze and wake, lost acknowledgements, stale caches, a stream made anew.
//!
//! The world here is a small model of what NATS does for one partition: a stream of inputs, a
//! consumer that has one message in flight and hands it out again when nobody settles it, and a
//! log of events that only takes a commit which knows its end. The property is as strong as it can
//! be: whatever happens, the log of every call is exactly what one undisturbed worker would have
//! made of the same stream.
//!
//! What a call waits for is part of it: timers that are armed before a commit and fire as inputs, a
//! history that is asked and answers with inputs, some of which came by themselves, and a phone-call
//! server that knows which calls go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use voicebus::domain::call::{Log, Phase, RECENT_INPUTS_MAX};
use voicebus::domain::event::{Change, Event};
use voicebus::domain::ids::{AgentId, CallId, EventId};
use voicebus::domain::input::{
    Direction, End, EndReason, Input, InputKind, Position, Recorded, Speaker, Utterance,
};
use voicebus::domain::phone::Party;
use voicebus::domain::session::{Policy, Scope};
use voicebus::domain::timer::{Arm, Presence, Question, Timer, Times};
use voicebus::domain::transcript::{Spoken, Transcript, like_before};
use voicebus::domain::{Known, Outcome, Timestamp, apply, reject, wanted};

const WORKERS: usize = 3;
const CALLS: usize = 3;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Happening {
    /// A sender publishes something about a call.
    Publish(usize, InputKind),
    /// A sender publishes an earlier event again, with the same id.
    Repeat(Index),
    /// Something is said of which only the phone-call server's history will ever tell.
    Lost(usize),
    /// The call is over at the phone-call server, and nobody tells.
    Gone(usize),
    /// A timer fires.
    Fire(Index),
    /// A question is answered.
    Answer(Index),
    /// A question is never answered.
    Unanswered(Index),
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
        2 => (0..CALLS).prop_map(Happening::Lost),
        1 => (0..CALLS).prop_map(Happening::Gone),
        4 => any::<Index>().prop_map(Happening::Fire),
        4 => any::<Index>().prop_map(Happening::Answer),
        1 => any::<Index>().prop_map(Happening::Unanswered),
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
        6 => Just(InputKind::Utterance(utterance(0))),
        1 => Just(InputKind::Sync),
    ]
}

/// The words that are said when the clock says so many seconds: each only once.
fn utterance(second: usize) -> Utterance {
    Utterance {
        speaker: Speaker::User,
        speaker_label: "user".into(),
        text: format!("word {second}"),
        spoken_at: Some(at(second)),
        confidence: None,
    }
}

fn at(second: usize) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + second as i64, 0).unwrap()
}

/// Where a worker stands with the message it has.
#[derive(Debug, Clone)]
enum Hand {
    Pulled(Input),
    /// It has loaded the log, made up its mind, and armed what comes later.
    Decided {
        input: Input,
        last: usize,
        decision: Decision,
    },
    /// It has committed, or has nothing to commit.
    Committed(Input),
}

/// What is to be done about an input.
#[derive(Debug, Clone, Default)]
struct Decision {
    event: Option<Box<Event>>,
    timers: Vec<Arm>,
    ask: Option<Question>,
}

#[derive(Debug, Default)]
struct Worker {
    hand: Option<Hand>,
    /// What it believes the logs to be: their events, as of when it last looked.
    cache: BTreeMap<CallId, Vec<Event>>,
}

/// What a sender has sent.
#[derive(Debug, Clone)]
struct Published {
    id: EventId,
    call: CallId,
    number: u64,
    kind: InputKind,
}

/// A call at the phone-call server.
#[derive(Debug, Default)]
struct Phone {
    said: Vec<usize>,
    number: u64,
    is_gone: bool,
}

#[derive(Debug, Default)]
struct World {
    epoch: u64,
    inputs: Vec<Input>,
    /// Everything that was ever in a stream of inputs, for the reference.
    history: Vec<Input>,
    published: Vec<Published>,
    /// Seconds that have gone by.
    now: usize,
    /// Ids that the stream has, and does not take again.
    known: BTreeSet<EventId>,
    /// What was armed, under the names that replace each other.
    timers: BTreeMap<(CallId, &'static str), Arm>,
    asked: Vec<(CallId, Question)>,
    /// What the phone-call server has of each call: seconds in which something was said, and the
    /// sender's last number.
    phones: BTreeMap<CallId, Phone>,
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
fn decide(log: &[Event], input: &Input) -> Decision {
    let state = log.last().map(|event| &event.log);
    let known = Known {
        transcript: wanted(state, input)
            .transcript
            .then(|| Arc::new(transcript(log))),
        ..Known::default()
    };
    match apply(state, input, &known, &policy()) {
        // Ids that the log has forgotten are looked for among its events.
        Outcome::Applied { event, .. }
            if state.is_some_and(|log| log.progress().recent().count() == RECENT_INPUTS_MAX)
                && log.iter().any(|told| told.id == event.id) =>
        {
            Decision::default()
        }
        Outcome::Applied { event, timers, .. } => Decision {
            event: Some(event),
            timers,
            ask: None,
        },
        Outcome::Waiting { timers, ask } => Decision {
            event: None,
            timers,
            ask,
        },
        Outcome::Duplicate | Outcome::Late => Decision::default(),
        Outcome::Rejected(rejection) => {
            let (event, timers) = reject(state, input, &rejection, 7, &policy());
            Decision {
                event: Some(Box::new(event)),
                timers,
                ask: None,
            }
        }
    }
}

fn transcript(log: &[Event]) -> Transcript {
    let spoken = log.iter().filter_map(|event| match &event.change {
        Change::Said(said) => Some(Spoken {
            sequence: event.log.progress().sequence,
            said: said.clone(),
        }),
        _ => None,
    });
    Transcript {
        spoken: spoken.collect(),
        unread: 0,
    }
}

impl World {
    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Publish(call, kind) => {
                let call = call_id(*call);
                self.now += 1;
                let now = self.now;
                let phone = self.phones.entry(call.clone()).or_default();
                phone.number += 1;
                let kind = match kind {
                    InputKind::Utterance(_) => {
                        phone.said.push(now);
                        InputKind::Utterance(utterance(now))
                    }
                    other => other.clone(),
                };
                self.published.push(Published {
                    id: EventId::parse(&format!("ev_{}", self.published.len())).unwrap(),
                    call,
                    number: phone.number,
                    kind,
                });
                self.send(self.published.len() - 1);
            }
            Happening::Repeat(index) if !self.published.is_empty() => {
                self.send(index.index(self.published.len()));
            }
            Happening::Repeat(_) => {}
            Happening::Lost(call) => {
                self.now += 1;
                let phone = self.phones.entry(call_id(*call)).or_default();
                phone.number += 1;
                phone.said.push(self.now);
            }
            Happening::Gone(call) => {
                self.phones.entry(call_id(*call)).or_default().is_gone = true;
            }
            Happening::Fire(index) if !self.timers.is_empty() => {
                let keys: Vec<_> = self.timers.keys().cloned().collect();
                if let Some(arm) = self.timers.remove(&keys[index.index(keys.len())]) {
                    self.fire(arm);
                }
            }
            Happening::Fire(_) => {}
            Happening::Answer(index) if !self.asked.is_empty() => {
                let (call, question) = self.asked.swap_remove(index.index(self.asked.len()));
                self.answer(call, question);
            }
            Happening::Unanswered(index) if !self.asked.is_empty() => {
                self.asked.swap_remove(index.index(self.asked.len()));
            }
            Happening::Answer(_) | Happening::Unanswered(_) => {}
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
                // Timers lived in it, and so did the ids that it knew.
                self.timers.clear();
                self.known = self.inputs.iter().map(|input| input.id.clone()).collect();
            }
        }
    }

    /// A sender does not know which ids the stream has.
    fn send(&mut self, published: usize) {
        let Published {
            id,
            call,
            number,
            kind,
        } = self.published[published].clone();
        self.store(id, call, Some(number), kind);
    }

    fn fire(&mut self, arm: Arm) {
        self.now += 1;
        let id = EventId::parse(&format!("ev_timer-{}", self.history.len())).unwrap();
        self.store(id, arm.call, None, InputKind::Timer(arm.timer));
    }

    /// As egress and the asker of the router do it.
    fn answer(&mut self, call: CallId, question: Question) {
        let phone = self.phones.entry(call.clone()).or_default();
        let timer = match question {
            Question::Presence { sequence } => {
                let presence = if phone.is_gone {
                    Presence::Absent
                } else {
                    Presence::Present
                };
                presence.tell(sequence)
            }
            Question::History { completes } => {
                let said: Vec<Utterance> = phone.said.iter().copied().map(utterance).collect();
                let seconds = phone.said.clone();
                for ((second, utterance), before) in seconds
                    .into_iter()
                    .zip(said.clone())
                    .zip(like_before(&said))
                {
                    let id = EventId::parse(&format!("ev_history-{call}-{second}")).unwrap();
                    if self.known.contains(&id) {
                        continue;
                    }
                    let recorded = InputKind::Recorded(Recorded { utterance, before });
                    self.store(id, call.clone(), None, recorded);
                }
                completes.then_some(Timer::Finalize { filled: true })
            }
        };
        if let Some(timer) = timer {
            let after = chrono::TimeDelta::zero();
            self.fire(Arm { call, timer, after });
        }
    }

    fn store(&mut self, id: EventId, call: CallId, number: Option<u64>, kind: InputKind) {
        self.known.insert(id.clone());
        let input = Input {
            id,
            call,
            position: Position {
                epoch: self.epoch,
                sequence: self.inputs.len() as u64 + 1,
            },
            happened_at: None,
            received_at: at(self.now),
            source_sequence: number,
            kind,
        };
        self.history.push(input.clone());
        self.inputs.push(input);
    }

    fn arm(&mut self, timers: &[Arm]) {
        for arm in timers {
            let key = (arm.call.clone(), arm.timer.name());
            self.timers.insert(key, arm.clone());
        }
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
        let hand = match self.workers[number].hand.take() {
            None => None,
            Some(Hand::Pulled(input)) => {
                // A cached log may be old; a missing one is read. The router does nothing about an
                // input only when the log that it has read says so.
                let read = self.logs.get(&input.call).cloned().unwrap_or_default();
                let worker = &mut self.workers[number];
                let cached = worker.cache.get(&input.call).cloned();
                let mut known = cached.unwrap_or_else(|| read.clone());
                let mut decision = decide(&known, &input);
                if decision.event.is_none() {
                    known = read;
                    decision = decide(&known, &input);
                }
                let last = known.len();
                worker.cache.insert(input.call.clone(), known);
                self.arm(&decision.timers);
                Some(Hand::Decided {
                    input,
                    last,
                    decision,
                })
            }
            Some(Hand::Decided {
                input,
                last,
                decision,
            }) => {
                if let Some(question) = decision.ask {
                    self.asked.push((input.call.clone(), question));
                }
                match decision.event {
                    None => Some(Hand::Committed(input)),
                    Some(event) => {
                        let log = self.logs.entry(input.call.clone()).or_default();
                        let accepted = log.len() == last;
                        if accepted {
                            log.push(*event);
                        }
                        let log = log.clone();
                        let worker = &mut self.workers[number];
                        worker.cache.insert(input.call.clone(), log);
                        if accepted && commit_is_heard {
                            Some(Hand::Committed(input))
                        } else {
                            // A conflict, or no word of the commit: look at the log, start over.
                            Some(Hand::Pulled(input))
                        }
                    }
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
        self.workers[number].hand = hand;
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

    fn nothing_is_told_twice(&self) {
        for (call, log) in &self.logs {
            let mut told = BTreeSet::new();
            for one in transcript(log).spoken {
                let text = one.said.utterance.text;
                assert!(told.insert(text.clone()), "{text} is told twice in {call}");
            }
        }
    }

    fn a_call_that_goes_on_is_never_ended_for_its_silence(&self) {
        for (call, log) in &self.logs {
            let for_silence = log.iter().any(|event| match &event.log {
                Log::Call(call) => call
                    .end
                    .as_ref()
                    .is_some_and(|(_, end)| end.reason == EndReason::Timeout),
                Log::Command(_) => false,
            });
            assert!(
                !for_silence || self.phones[call].is_gone,
                "{call} was ended"
            );
        }
    }

    fn a_completed_transcript_has_all_that_its_log_has(&self) {
        for (call, log) in &self.logs {
            let mut revision = 0;
            for (place, event) in log.iter().enumerate() {
                let Change::Completed(conversation) = &event.change else {
                    continue;
                };
                revision += 1;
                assert_eq!(conversation.revision, revision, "{call}");
                let all = transcript(&log[..place]).spoken.len();
                assert_eq!(conversation.spoken.len(), all, "{call}");
            }
        }
    }

    fn events(&self) -> usize {
        self.logs.values().map(Vec::len).sum()
    }

    /// What must hold after each step that has told something.
    fn hold(&self) {
        self.sequences_have_no_hole();
        self.no_input_has_two_effects();
        self.calls_go_forward_only();
        self.nothing_is_told_twice();
        self.a_call_that_goes_on_is_never_ended_for_its_silence();
        self.a_completed_transcript_has_all_that_its_log_has();
    }

    /// What one undisturbed worker makes of the same inputs.
    fn logs_are_as_if_nothing_had_happened(&self) {
        let mut reference: BTreeMap<CallId, Vec<Event>> = BTreeMap::new();
        for input in &self.history {
            let log = reference.entry(input.call.clone()).or_default();
            if let Some(event) = decide(log, input).event {
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
            let events = world.events();
            world.happen(happening);
            if world.events() > events {
                world.hold();
            }
        }
        world.come_to_rest();
        world.hold();
        world.logs_are_as_if_nothing_had_happened();
    }
}
