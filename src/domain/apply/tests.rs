//! Small stories about calls.

mod commands;
mod holes;
mod waiting;

use super::*;
use crate::domain::Timestamp;
use crate::domain::call::Phase;
use crate::domain::ids::{AgentId, CallId, EventId, IntentId};
use crate::domain::input::{Direction, End, EndReason, Position, Speaker, Utterance};
use crate::domain::session::{RecentDial, Scope};
use crate::domain::timer::Times;
use crate::domain::transcript::{Conversation, Spoken};

/// A call as its log tells it, fed with inputs one by one.
struct Story {
    log: Option<Log>,
    facts: Facts,
    /// What its log would be read back as.
    transcript: Transcript,
    /// What the last input left to wait for, as `name after seconds`.
    timers: Vec<String>,
    asked: Option<Question>,
    fed: u64,
}

fn agent() -> AgentId {
    AgentId::parse("main").unwrap()
}

fn policy() -> Policy {
    Policy {
        agent: agent(),
        scope: Scope::PerPhone,
        times: Times::default(),
        own_numbers: Vec::new(),
    }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + i64::try_from(second).unwrap(), 0).unwrap()
}

fn from(number: &str) -> Option<Party> {
    Some(Party::read(number))
}

fn inbound(number: &str) -> InputKind {
    InputKind::Started {
        direction: Some(Direction::Inbound),
        party: from(number),
        intent: None,
    }
}

fn said(text: &str) -> InputKind {
    InputKind::Utterance(Utterance {
        speaker: Speaker::User,
        speaker_label: "user".into(),
        text: text.into(),
        spoken_at: None,
        confidence: None,
    })
}

fn ended(reason: EndReason) -> InputKind {
    InputKind::Ended(End {
        reason,
        detail: None,
    })
}

impl Story {
    fn new() -> Self {
        Self {
            log: None,
            facts: Facts::default(),
            transcript: Transcript::default(),
            timers: Vec::new(),
            asked: None,
            fed: 0,
        }
    }

    fn input(&mut self, kind: InputKind) -> Input {
        self.fed += 1;
        Input {
            id: EventId::parse(&format!("ev_{}", self.fed)).unwrap(),
            call: CallId::parse("rtc_1").unwrap(),
            position: Position {
                epoch: 1,
                sequence: self.fed,
            },
            happened_at: Some(at(self.fed)),
            received_at: at(self.fed),
            source_sequence: None,
            kind,
        }
    }

    fn take(&mut self, input: &Input) -> String {
        let known = Known {
            facts: self.facts.clone(),
            transcript: wanted(self.log.as_ref(), input)
                .transcript
                .then(|| Arc::new(self.transcript.clone())),
        };
        self.timers.clear();
        self.asked = None;
        match apply(self.log.as_ref(), input, &known, &policy()) {
            Outcome::Applied { event, timers, .. } => {
                let before = self.log.as_ref().map_or(0, |log| log.progress().sequence);
                let sequence = event.log.progress().sequence;
                assert_eq!(sequence, before + 1, "the sequence has a hole");
                if let Change::Said(said) = &event.change {
                    self.transcript.spoken.push(Spoken {
                        sequence,
                        said: said.clone(),
                    });
                }
                self.note(&timers);
                let (kind, action) = event.kind_and_action();
                let told = match &event.change {
                    Change::Completed(conversation) => told(conversation),
                    _ => String::new(),
                };
                self.log = Some(event.log);
                format!("{kind}.{action}{told}")
            }
            Outcome::Waiting { timers, ask } => {
                self.note(&timers);
                self.asked = ask;
                "waiting".into()
            }
            Outcome::Duplicate => "duplicate".into(),
            Outcome::Late => "late".into(),
            Outcome::Rejected(rejection) => format!("rejected {}", rejection.code),
        }
    }

    fn note(&mut self, timers: &[Arm]) {
        self.timers = timers
            .iter()
            .map(|arm| {
                let seconds = arm.after.num_seconds();
                format!("{} {:?} after {seconds}", arm.call, arm.timer)
            })
            .collect();
    }

    fn feed(&mut self, kind: InputKind) -> String {
        let input = self.input(kind);
        self.take(&input)
    }

    fn call(&self) -> &Call {
        match self.log.as_ref().unwrap() {
            Log::Call(call) => call,
            Log::Command(_) => panic!("a command's log"),
        }
    }

    fn session(&self) -> &str {
        self.call().binding.key.as_str()
    }
}

/// A completed transcript in short: revision, texts, holes.
fn told(conversation: &Conversation) -> String {
    let texts: Vec<&str> = conversation
        .spoken
        .iter()
        .map(|one| one.said.utterance.text.as_str())
        .collect();
    let holes: Vec<String> = conversation
        .holes
        .iter()
        .map(|hole| format!(" hole {}-{}", hole.from, hole.to))
        .collect();
    format!(
        " {}: {}{}",
        conversation.revision,
        texts.join(" "),
        holes.concat()
    )
}

#[test]
fn a_call_goes_from_its_beginning_to_its_end() {
    let mut story = Story::new();
    assert_eq!(story.feed(inbound("+12015550142")), "state.initiated");
    assert_eq!(story.feed(InputKind::Ringing), "state.ringing");
    assert_eq!(story.feed(InputKind::Answered), "state.answered");
    assert_eq!(story.feed(said("hello")), "transcript.user");
    assert_eq!(story.feed(ended(EndReason::HangupUser)), "state.ended");
    assert_eq!(story.call().progress.sequence, 5);
    assert_eq!(story.session(), "agent:main:voice:12015550142");
}

#[test]
fn a_beginning_told_twice_changes_nothing() {
    let mut story = Story::new();
    story.feed(inbound("+12015550142"));
    let before = story.log.clone();
    assert_eq!(story.feed(inbound("+12015550142")), "duplicate");
    assert_eq!(story.log, before);
}

#[test]
fn a_beginning_that_says_nothing_changes_nothing_the_second_time() {
    let nothing = || InputKind::Started {
        direction: None,
        party: None,
        intent: None,
    };
    let mut story = Story::new();
    assert_eq!(story.feed(nothing()), "state.initiated");
    assert_eq!(story.feed(nothing()), "duplicate");
    assert_eq!(story.feed(inbound("+12015550142")), "duplicate");
}

#[test]
fn the_same_input_has_one_effect_however_late_it_comes_again() {
    let mut story = Story::new();
    let inputs: Vec<Input> = (0..40).map(|n| story.input(said(&n.to_string()))).collect();
    for input in &inputs {
        assert_eq!(story.take(input), "transcript.user");
    }
    for input in &inputs {
        assert_eq!(story.take(input), "duplicate", "{:?}", input.position);
    }
    assert_eq!(story.call().utterances, 40);
}

#[test]
fn the_same_event_stored_twice_has_one_effect() {
    let mut story = Story::new();
    let first = story.input(said("hello"));
    story.take(&first);
    let again = Input {
        position: Position {
            epoch: 1,
            sequence: 900,
        },
        ..first
    };
    assert_eq!(story.take(&again), "duplicate");
}

#[test]
fn a_stream_made_anew_is_not_taken_for_the_old_one() {
    let mut story = Story::new();
    for _ in 0..5 {
        story.feed(said("old"));
    }
    let mut input = story.input(said("new"));
    input.position = Position {
        epoch: 2,
        sequence: 1,
    };
    assert_eq!(story.take(&input), "transcript.user");
}

#[test]
fn later_states_may_come_first_and_the_end_is_final() {
    let mut story = Story::new();
    assert_eq!(story.feed(InputKind::Answered), "state.answered");
    assert_eq!(story.feed(InputKind::Ringing), "late");
    assert_eq!(story.feed(ended(EndReason::Completed)), "state.ended");
    assert_eq!(story.feed(InputKind::Answered), "late");
    assert_eq!(story.feed(InputKind::Ringing), "late");
    assert_eq!(story.feed(ended(EndReason::Busy)), "duplicate");
    assert_eq!(
        story.call().end.as_ref().unwrap().1.reason,
        EndReason::Completed
    );
}

#[test]
fn words_after_the_end_are_kept_and_wake_nothing() {
    let mut story = Story::new();
    story.feed(ended(EndReason::Completed));
    assert_eq!(story.feed(said("bye")), "transcript.user");
    assert_eq!(story.call().phase, Phase::Ended);
}

#[test]
fn words_before_the_beginning_move_to_the_callers_session_when_it_is_known() {
    let mut story = Story::new();
    assert_eq!(story.feed(said("hello")), "transcript.user");
    assert_eq!(story.session(), "agent:main:voice:call:rtc_1");
    assert_eq!(
        story.feed(inbound("\"Alice\" <sip:+15551234567@host>;tag=x1")),
        "session.rebound"
    );
    assert_eq!(story.session(), "agent:main:voice:15551234567");
    assert_eq!(story.call().phase, Phase::Active);
}

#[test]
fn a_beginning_after_the_end_is_no_resurrection() {
    let mut story = Story::new();
    story.feed(ended(EndReason::Completed));
    assert_eq!(
        story.feed(inbound("sip:anonymous@anonymous.invalid")),
        "late"
    );
    assert_eq!(story.feed(inbound("+12015550142")), "session.rebound");
    assert_eq!(story.call().phase, Phase::Ended);
    assert_eq!(story.feed(inbound("+12015550142")), "duplicate");
}

#[test]
fn a_second_beginning_with_another_number_is_refused_and_the_first_kept() {
    let mut story = Story::new();
    story.feed(inbound("+12015550142"));
    assert_eq!(
        story.feed(inbound("+12015550199")),
        "rejected contradiction"
    );
    assert_eq!(story.session(), "agent:main:voice:12015550142");
}

fn dialled(session: &str) -> InputKind {
    InputKind::Dialled {
        intent: IntentId::parse("i1").unwrap(),
        session: SessionKey::parse(session, &agent()).unwrap(),
        to: E164::parse("+12015550142").unwrap(),
    }
}

fn outbound() -> InputKind {
    InputKind::Started {
        direction: Some(Direction::Outbound),
        party: from("+12015550142"),
        intent: None,
    }
}

#[test]
fn the_answer_of_the_dial_before_the_event() {
    let mut story = Story::new();
    assert_eq!(story.feed(dialled("asked")), "state.initiated");
    assert_eq!(story.feed(outbound()), "duplicate");
    assert_eq!(story.session(), "agent:main:asked");
}

#[test]
fn the_event_before_the_answer_of_the_dial() {
    let mut story = Story::new();
    story.facts.dials = vec![RecentDial {
        intent: Some(IntentId::parse("i1").unwrap()),
        session: SessionKey::parse("asked", &agent()).unwrap(),
        call: None,
        leg: None,
        at: at(0),
    }];
    assert_eq!(story.feed(outbound()), "state.initiated");
    assert_eq!(story.session(), "agent:main:asked");
    assert_eq!(story.feed(dialled("asked")), "duplicate");
}

#[test]
fn a_dial_nobody_remembered_moves_the_call_when_its_answer_comes() {
    let mut story = Story::new();
    story.feed(outbound());
    assert_eq!(story.session(), "agent:main:voice:12015550142");
    assert_eq!(story.feed(dialled("asked")), "session.rebound");
    assert_eq!(story.session(), "agent:main:asked");
    assert_eq!(story.feed(dialled("asked")), "duplicate");
}

#[test]
fn cancelling_ends_a_call_that_was_not_picked_up_and_no_other() {
    let mut story = Story::new();
    story.feed(dialled("asked"));
    assert_eq!(story.feed(InputKind::Cancelled), "state.ended");

    let mut story = Story::new();
    story.feed(InputKind::Answered);
    assert_eq!(story.feed(InputKind::Cancelled), "late");
}

#[test]
fn a_rejected_input_leaves_a_word_in_its_log_once() {
    let mut story = Story::new();
    story.feed(inbound("+12015550142"));
    let input = story.input(inbound("+12015550199"));
    let Outcome::Rejected(rejection) =
        apply(story.log.as_ref(), &input, &Known::default(), &policy())
    else {
        panic!("not rejected");
    };
    let (event, timers) = reject(story.log.as_ref(), &input, &rejection, 7, &policy());
    assert_eq!(timers.len(), 1, "what is rejected may have been its timer");
    assert_eq!(event.kind_and_action(), ("error", "occurred"));
    story.log = Some(event.log);
    assert_eq!(story.take(&input), "duplicate");
    assert_eq!(story.call().progress.sequence, 2);
}
