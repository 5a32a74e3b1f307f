//! Small stories about commands.

use super::*;
use crate::domain::command::{Status, Verb};

pub(super) fn report(status: Status) -> InputKind {
    InputKind::Command(Report {
        intent: IntentId::parse("rtc_1").unwrap(),
        verb: Verb::Dial,
        session: SessionKey::parse("asked", &agent()).unwrap(),
        to: None,
        call: None,
        status,
        reason: None,
    })
}

#[test]
fn a_command_is_accepted_then_answered_once() {
    let mut story = Story::new();
    assert_eq!(story.feed(report(Status::Accepted)), "command.accepted");
    assert_eq!(story.feed(report(Status::Accepted)), "duplicate");
    assert_eq!(story.feed(report(Status::Unknown)), "command.unknown");
    assert_eq!(story.feed(report(Status::Confirmed)), "command.confirmed");
    assert_eq!(story.feed(report(Status::Refused)), "duplicate");
}

#[test]
fn the_ids_of_calls_and_commands_do_not_mix() {
    let mut story = Story::new();
    story.feed(report(Status::Accepted));
    assert_eq!(story.feed(said("hello")), "rejected event-for-command");

    let mut story = Story::new();
    story.feed(said("hello"));
    assert_eq!(
        story.feed(report(Status::Accepted)),
        "rejected command-for-call"
    );
}
