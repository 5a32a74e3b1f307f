//! An event as one line for people.

use chrono::TimeZone;
use owo_colors::Style;

use crate::bus::envelope::{CallSnapshot, CommandSnapshot, Conversation, EventEnvelope};
use crate::cli::paint::Paint;
use crate::cli::text::{Numbers, clean, padded, short_call, short_session, shortened};
use crate::cli::when;

/// What nearly all sessions fit in.
const SESSION_WIDTH: usize = 20;
/// The longest kind and action.
const KIND_WIDTH: usize = "transcript.completed".len();
const CALL_WIDTH: usize = 11;

/// How lines are written.
pub(super) struct Form<Z> {
    pub paint: Paint,
    pub numbers: Numbers,
    pub zone: Z,
}

/// `<kind>.<action>` of an event.
pub(super) fn kind_of(event: &EventEnvelope) -> &str {
    event
        .kind
        .strip_prefix("openclaw.voice.")
        .unwrap_or(&event.kind)
}

/// Time, call, session, kind and what there is to say.
pub(super) fn line<Z: TimeZone>(event: &EventEnvelope, form: &Form<Z>) -> String
where
    Z::Offset: std::fmt::Display,
{
    let paint = form.paint;
    let dim = Style::new().dimmed();
    let kind = clean(kind_of(event));
    let session = shortened(
        &short_session(&event.sessionkey, form.numbers),
        SESSION_WIDTH,
    );
    let line = format!(
        "{}  {}  {}  {}  {}",
        paint.with(dim, &when::clock(event.time, &form.zone)),
        padded(&short_call(&event.subject), CALL_WIDTH),
        paint.with(dim, &padded(&session, SESSION_WIDTH)),
        paint.with(style(&kind), &padded(&kind, KIND_WIDTH)),
        details(event, &kind, form.numbers),
    );
    line.trim_end().to_owned()
}

fn style(kind: &str) -> Style {
    let style = Style::new();
    match kind.split_once('.').unwrap_or((kind, "")) {
        ("state", "failed") | ("error", _) => style.red().bold(),
        ("state", "ended") => style.yellow(),
        ("state", _) => style.green(),
        ("transcript", "user") => style.cyan(),
        ("transcript", "agent") => style.magenta(),
        ("command", "confirmed") => style.blue(),
        ("command", "accepted") => style.blue().dimmed(),
        ("command", _) => style.blue().bold(),
        _ => style.dimmed(),
    }
}

fn details(event: &EventEnvelope, kind: &str, numbers: Numbers) -> String {
    let data = &event.data;
    if let Some(said) = &data.transcript {
        let after_end = if said.after_end {
            " (after the end)"
        } else {
            ""
        };
        let speaker = match said.label.eq_ignore_ascii_case(&said.speaker) {
            true => clean(&said.speaker),
            false => format!("{} ({})", clean(&said.speaker), clean(&said.label)),
        };
        return format!("{speaker}: {}{after_end}", clean(&said.text));
    }
    if let Some(whole) = &data.conversation {
        return conversation(whole);
    }
    if let Some(moved) = &data.session {
        return format!(
            "{} → {}",
            short_session(&moved.from, numbers),
            short_session(&moved.to, numbers)
        );
    }
    if let Some(error) = &data.error {
        let letter = error
            .letter
            .map_or_else(String::new, |letter| format!(" (dead letter {letter})"));
        return format!(
            "{}: {}{letter}",
            clean(&error.code),
            numbers.in_text(&error.message)
        );
    }
    match (&data.command, &data.call) {
        (Some(command), _) => of_command(command, numbers),
        (None, Some(call)) if kind.starts_with("state.") => match &call.end_reason {
            Some(reason) => end(call, reason, numbers),
            None => party(call, numbers),
        },
        _ => String::new(),
    }
}

/// `14 utterances, 2 holes, revision 2`.
fn conversation(whole: &Conversation) -> String {
    let count = |count: usize, what: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {what}{plural}")
    };
    let mut text = count(whole.utterances.len(), "utterance");
    if whole.left_out > 0 {
        text.push_str(&format!(" ({} more left out)", whole.left_out));
    }
    if !whole.holes.is_empty() {
        text.push_str(&format!(", {}", count(whole.holes.len(), "hole")));
    }
    if whole.revision > 1 {
        text.push_str(&format!(", revision {}", whole.revision));
    }
    text
}

/// `inbound from +1•••0142`.
pub(in crate::cli) fn party(call: &CallSnapshot, numbers: Numbers) -> String {
    let number = call.number.as_deref().map(|number| numbers.in_text(number));
    match (call.direction.as_deref(), number) {
        (Some("inbound"), Some(number)) => format!("inbound from {number}"),
        (Some("outbound"), Some(number)) => format!("outbound to {number}"),
        (Some(direction), Some(number)) => format!("{} {number}", clean(direction)),
        (Some(direction), None) => clean(direction),
        (None, number) => number.unwrap_or_default(),
    }
}

/// `hangup-user after 1m32s, 14 utterances`.
fn end(call: &CallSnapshot, reason: &str, numbers: Numbers) -> String {
    let mut text = clean(reason);
    if let Some(detail) = &call.end_detail
        && detail != reason
    {
        text.push_str(&format!(" ({})", numbers.in_text(detail)));
    }
    match (call.answered_at, call.ended_at) {
        (Some(answered), Some(ended)) => {
            text.push_str(&format!(" after {}", when::length(ended - answered)));
        }
        // Who spoke was there, whether or not the answer was told.
        (None, _) if call.utterances == 0 => text.push_str(", not answered"),
        (None, _) | (Some(_), None) => {}
    }
    match call.utterances {
        0 => {}
        1 => text.push_str(", 1 utterance"),
        many => text.push_str(&format!(", {many} utterances")),
    }
    text
}

fn of_command(command: &CommandSnapshot, numbers: Numbers) -> String {
    let mut text = clean(&command.verb);
    if let Some(to) = &command.to {
        text.push_str(&format!(" to {}", numbers.in_text(to)));
    }
    if let Some(call) = &command.call {
        text.push_str(&format!(", call {}", clean(call)));
    }
    if let Some(reason) = &command.reason {
        text.push_str(&format!(": {}", numbers.in_text(reason)));
    }
    if let Some(code) = &command.code {
        text.push_str(&format!(" ({})", clean(code)));
    }
    text
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;
    use serde_json::{Value, json};

    use super::*;

    fn event(kind: &str, data: Value) -> EventEnvelope {
        let event = json!({
            "specversion": "1.0",
            "id": "ev_1",
            "source": "/voicebus/router",
            "type": format!("openclaw.voice.{kind}"),
            "subject": "CAa4c123b1612dd272d1371c17149d4395",
            "time": "2026-11-22T13:44:58.616Z",
            "datacontenttype": "application/json",
            "dataschema": "urn:voicebus:event:1",
            "sequence": 1,
            "sessionkey": "agent:main:voice:12015550142",
            "partitionkey": "CAa4c123b1612dd272d1371c17149d4395",
            "traceparent": "00-0-0-00",
            "data": data,
        });
        serde_json::from_value(event).unwrap()
    }

    fn call(more: Value) -> Value {
        let mut call = json!({
            "id": "CAa4c123b1612dd272d1371c17149d4395",
            "state": "active",
            "direction": "inbound",
            "number": "+12015550142",
            "session": "agent:main:voice:12015550142",
            "session_rule": "scope",
            "utterances": 0,
        });
        for (key, value) in more.as_object().unwrap() {
            call[key] = value.clone();
        }
        json!({ "call": call })
    }

    fn said(label: &str, text: &str, after_end: bool) -> Value {
        let mut data = call(json!({}));
        data["transcript"] =
            json!({ "speaker": "user", "label": label, "text": text, "after_end": after_end });
        data
    }

    fn form(paint: Paint, numbers: Numbers) -> Form<FixedOffset> {
        Form {
            paint,
            numbers,
            zone: FixedOffset::east_opt(3_600).unwrap(),
        }
    }

    fn plain(kind: &str, data: Value) -> String {
        line(&event(kind, data), &form(Paint::PLAIN, Numbers::Masked))
    }

    #[test]
    fn one_line_an_event() {
        let ended = call(json!({
            "state": "ended", "end_reason": "hangup-user", "end_detail": "caller hung up",
            "answered_at": "2026-11-22T13:43:26Z", "ended_at": "2026-11-22T13:44:58Z", "utterances": 14,
        }));
        let busy = call(json!({
            "state": "ended", "direction": "outbound", "end_reason": "busy", "end_detail": "busy",
        }));
        let command = |status: &str, more: Value| {
            let mut command = json!({
                "id": "i-1", "verb": "dial", "status": status, "session": "agent:main:x", "to": "+12015550142",
            });
            for (key, value) in more.as_object().unwrap() {
                command[key] = value.clone();
            }
            json!({ "command": command })
        };
        let lines = [
            plain("state.initiated", call(json!({}))),
            plain("state.ringing", call(json!({ "direction": "outbound" }))),
            plain("state.answered", call(json!({ "number": null }))),
            plain(
                "transcript.user",
                said("user", "Grüß Gott — 你好 👍", false),
            ),
            plain("transcript.user", said("Callee", "wait", true)),
            plain(
                "session.rebound",
                json!({ "session": {
                    "from": "agent:main:voice:call:ca1", "to": "agent:main:voice:12015550142",
                } }),
            ),
            plain("state.ended", ended),
            plain("state.failed", busy),
            plain("command.accepted", command("accepted", json!({}))),
            plain(
                "command.confirmed",
                command("confirmed", json!({ "call": "CA7" })),
            ),
            plain(
                "command.refused",
                command(
                    "refused",
                    json!({ "code": "blocked", "reason": "+12015550142 is on the list" }),
                ),
            ),
            plain(
                "error.occurred",
                json!({ "error": { "code": "bad-input", "message": "not a transcript" } }),
            ),
            plain("audio.received", call(json!({}))),
            plain(
                "transcript.completed",
                json!({ "conversation": {
                    "revision": 2, "utterances": [], "holes": [{ "missing_from": 3, "missing_to": 4 }], "left_out": 1,
                } }),
            ),
        ];
        insta::assert_snapshot!(lines.join("\n"), @"
        14:44:58.616  CAa4c…d4395  voice:1•••0142        state.initiated       inbound from +1•••0142
        14:44:58.616  CAa4c…d4395  voice:1•••0142        state.ringing         outbound to +1•••0142
        14:44:58.616  CAa4c…d4395  voice:1•••0142        state.answered        inbound
        14:44:58.616  CAa4c…d4395  voice:1•••0142        transcript.user       user: Grüß Gott — 你好 👍
        14:44:58.616  CAa4c…d4395  voice:1•••0142        transcript.user       user (Callee): wait (after the end)
        14:44:58.616  CAa4c…d4395  voice:1•••0142        session.rebound       voice:call:ca1 → voice:1•••0142
        14:44:58.616  CAa4c…d4395  voice:1•••0142        state.ended           hangup-user (caller hung up) after 1m32s, 14 utterances
        14:44:58.616  CAa4c…d4395  voice:1•••0142        state.failed          busy, not answered
        14:44:58.616  CAa4c…d4395  voice:1•••0142        command.accepted      dial to +1•••0142
        14:44:58.616  CAa4c…d4395  voice:1•••0142        command.confirmed     dial to +1•••0142, call CA7
        14:44:58.616  CAa4c…d4395  voice:1•••0142        command.refused       dial to +1•••0142: +1•••0142 is on the list (blocked)
        14:44:58.616  CAa4c…d4395  voice:1•••0142        error.occurred        bad-input: not a transcript
        14:44:58.616  CAa4c…d4395  voice:1•••0142        audio.received
        14:44:58.616  CAa4c…d4395  voice:1•••0142        transcript.completed  0 utterances (1 more left out), 1 hole, revision 2
        ");
    }

    #[test]
    fn numbers_are_shown_when_they_are_asked_for() {
        let shown = line(
            &event("state.initiated", call(json!({}))),
            &form(Paint::PLAIN, Numbers::Shown),
        );
        assert!(
            shown.contains("voice:12015550142") && shown.ends_with("inbound from +12015550142"),
            "{shown}"
        );
    }

    #[test]
    fn escape_sequences_of_others_do_not_reach_the_terminal() {
        let nasty = "x\x1b[2J\x1b]52;c;aGk=\x07\u{9b}1A\r\n\u{202e}y";
        let mut data = said(nasty, nasty, false);
        data["call"]["end_reason"] = json!(nasty);
        let mut spoken = event("transcript.user", data.clone());
        data["transcript"] = Value::Null;
        let mut ended = event("state.ended", data);
        let mut odd = event(nasty, json!({}));
        for event in [&mut spoken, &mut ended, &mut odd] {
            event.subject = nasty.to_owned();
            event.sessionkey = nasty.to_owned();
            for paint in [Paint::PLAIN, Paint::COLOURED] {
                let shown = line(event, &form(paint, Numbers::Shown));
                assert!(shown.contains("x␛[2J"), "{shown:?}");
                assert_eq!(without_colours(&shown).find(char::is_control), None);
                assert!(!shown.contains('\u{202e}'), "{shown:?}");
            }
        }
    }

    fn without_colours(text: &str) -> String {
        let mut parts = text.split("\x1b[");
        let mut plain = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (codes, rest) = part.split_once('m').unwrap();
            assert!(codes.bytes().all(|b| b.is_ascii_digit() || b == b';'));
            plain.push_str(rest);
        }
        plain
    }

    #[test]
    fn colours_tell_kinds_apart() {
        let painted = line(
            &event("state.failed", call(json!({}))),
            &form(Paint::COLOURED, Numbers::Masked),
        );
        assert!(
            painted.contains("\x1b[31;1mstate.failed        \x1b[0m  inbound"),
            "{painted:?}"
        );
    }
}
