use super::super::Level;
use super::*;

fn consumer(name: &str, pending: u64, unacknowledged: u64, waiting: u64) -> ConsumerState {
    ConsumerState {
        name: name.to_owned(),
        pending,
        unacknowledged,
        redelivered: 0,
        waiting,
    }
}

fn state(bytes: u64, bytes_max: Option<u64>, messages: u64) -> StreamState {
    StreamState {
        messages,
        bytes,
        bytes_max,
        replicas: 1,
    }
}

#[test]
fn a_partition_without_a_worker_is_wrong_and_named() {
    let check = |consumers: &[ConsumerState]| backlog("inputs", "`voicebus router`", consumers);
    let busy = consumer("p0", 0, 1, 0);
    let ready = consumer("p1", 0, 0, 2);
    let left = consumer("p2", 7, 0, 0);
    assert_eq!(check(&[busy.clone(), ready.clone()]).level, Level::Fine);
    let found = check(&[busy, ready, left.clone()]);
    assert_eq!(found.level, Level::Wrong);
    assert_eq!(
        found.found,
        "7 waiting, 1 at work; nobody takes those of p2"
    );
    assert_eq!(
        check(&[left]).found,
        "7 waiting, 0 at work; nobody takes any"
    );
}

#[test]
fn a_backlog_and_a_repetition_are_worth_a_look() {
    let mut one = consumer("p0", BACKLOG_MAX + 1, 1, 1);
    let check = |one: &ConsumerState| backlog("inputs", "x", std::slice::from_ref(one)).level;
    assert_eq!(check(&one), Level::Note);
    one.pending = 0;
    assert_eq!(check(&one), Level::Fine);
    one.redelivered = 1;
    assert_eq!(check(&one), Level::Note);
}

#[test]
fn the_fullest_stream_counts() {
    let check = |bytes| {
        room(&[
            ("VOICE_IN", state(1_000_000, None, 0)),
            ("VOICE_EVENT", state(bytes, Some(1_000), 0)),
        ])
    };
    assert_eq!(check(799).level, Level::Fine);
    assert_eq!(check(800).level, Level::Note);
    assert_eq!(check(960).level, Level::Wrong);
    assert_eq!(
        check(960).found,
        "the fullest stream is VOICE_EVENT, at 96 %"
    );
}

#[test]
fn dead_letters_are_counted() {
    let check = |messages| dead_letters(&[(subjects::STREAM_DLQ, state(0, None, messages))]);
    assert_eq!(check(0).level, Level::Fine);
    assert_eq!(check(1).found, "1 message could not be used");
    assert_eq!(check(3).found, "3 messages could not be used");
}
