use super::*;
use crate::domain::ids::AgentId;

fn subjects() -> Subjects {
    Subjects::new(NonZeroU32::new(32).unwrap(), "salt")
}

fn call(id: &str) -> CallId {
    CallId::parse(id).unwrap()
}

#[test]
fn a_call_keeps_its_partition_for_ever() {
    // These numbers are stored in streams: a change of the hash would break the order of every
    // call that is under way.
    let partition = |id| subjects().partition(&call(id));
    assert_eq!(
        [partition("CA1"), partition("rtc_1"), partition("rtc_2")],
        [16, 22, 17]
    );
}

#[test]
fn partitions_are_used_evenly() {
    let mut counts = [0u32; 32];
    for n in 0..3200 {
        counts[subjects().partition(&call(&format!("rtc_{n}"))) as usize] += 1;
    }
    assert!(
        counts.iter().all(|count| (60..=140).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn subjects_show_neither_session_nor_number() {
    let agent = AgentId::parse("main").unwrap();
    let token = subjects().session_token(&SessionKey::per_phone(&agent, "12015550142"));
    assert_eq!(token.len(), 18);
    assert!(!token.contains("5550142"));
    let other = Subjects::new(NonZeroU32::new(32).unwrap(), "other");
    assert_ne!(
        token,
        other.session_token(&SessionKey::per_phone(&agent, "12015550142"))
    );
}

#[test]
fn subjects_are_read_back() {
    let subject = subjects().input(&call("rtc_1"), &InputKind::Ringing);
    assert_eq!(subject, "voice.in.22.rtc_1.ringing");
    assert_eq!(call_of_input(&subject), Some(call("rtc_1")));
    assert_eq!(call_of_input("voice.in.22.rtc_1.ringing.more"), None);
    assert_eq!(parse_command("voice.cmd.dial.i1"), Some(("dial", "i1")));
    assert_eq!(parse_command("voice.cmd.dial.i1.x"), None);
    assert_eq!(partition_of_input(&subject), Some(22));
    assert_eq!(
        parse_dead_letter("voice.dlq.router.undecodable"),
        Some(("router", "undecodable"))
    );
}

#[test]
fn an_input_under_a_foreign_subject_is_found_out() {
    let wrong = |subject: &str, kind: &InputKind| {
        misrouted(&subjects(), subject, &call("rtc_1"), kind).unwrap_or_default()
    };
    let ringing = InputKind::Ringing;
    assert_eq!(wrong("voice.in.22.rtc_1.ringing", &ringing), "");
    assert_eq!(wrong("voice.in.22.rtc_1.anything", &ringing), "");
    assert_eq!(
        wrong("voice.in.22.rtc_1.command", &InputKind::Cancelled),
        ""
    );
    for (subject, kind, expected) in [
        ("voice.in.22.rtc_1", &ringing, "not of the form"),
        ("voice.in.22.rtc_1.ringing.x", &ringing, "not of the form"),
        (
            "voice.in.22.rtc_2.ringing",
            &ringing,
            "names the call rtc_2",
        ),
        ("voice.in.21.rtc_1.ringing", &ringing, "partition 22"),
        ("voice.in.x.rtc_1.ringing", &ringing, "partition 22"),
        (
            "voice.in.22.rtc_1.command",
            &ringing,
            "not for this subject",
        ),
        (
            "voice.in.22.rtc_1.ringing",
            &InputKind::Cancelled,
            "not for this subject",
        ),
    ] {
        let text = wrong(subject, kind);
        assert!(text.contains(expected), "{subject}: {text}");
    }
}

#[test]
fn replays_go_under_their_own_subject_only() {
    let refused = |text| ReplaySubject::parse(text).unwrap_err();
    assert_eq!(
        ReplaySubject::parse("replay.a-1.b_2").unwrap().as_str(),
        "replay.a-1.b_2"
    );
    for elsewhere in [
        "voice.cmd.dial.x",
        "voice.in.1.CA1.ringing",
        "replayed.x",
        "",
        "*",
    ] {
        assert!(
            refused(elsewhere).contains("no phone is called"),
            "{elsewhere}"
        );
    }
    for none in [
        "replay.",
        "replay..x",
        "replay.*",
        "replay.>",
        "replay.a b",
        "replay.x.",
    ] {
        assert!(refused(none).contains("is not a subject"), "{none}");
    }
}

#[test]
fn only_inputs_are_published_again() {
    assert!(is_input("voice.in.22.rtc_1.ringing"));
    for other in [
        "voice.cmd.dial.x",
        "voice.in.",
        "voice.in.a b.c",
        "voice.in.*.x",
        "/call-event",
        "-",
    ] {
        assert!(!is_input(other), "{other}");
    }
    assert_eq!(
        dead_letters(None, Some("undecodable")).unwrap(),
        "voice.dlq.*.undecodable"
    );
    assert_eq!(dead_letters(Some("a.b"), None), None);
    assert!(
        is_partition_consumer("p12")
            && !is_partition_consumer("pull")
            && !is_partition_consumer("p")
    );
}
