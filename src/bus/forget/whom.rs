//! Which stored messages are about a call or a caller. Pure: subjects and payloads in, words out.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::bus::subjects;
use crate::domain::ids::CallId;
use crate::domain::phone::E164;
use crate::domain::session::RecentDial;

/// Fields that hold the id of a call or a command that belongs to the same.
const IDS: [&str; 5] = ["call", "command", "intent", "other_leg", "leg"];
/// Fields that hold the other end's number. The number that is shown is our own, and not here.
const NUMBERS: [&str; 4] = ["number", "to", "phone_number", "phoneNumber"];
/// Fields that hold a session, which holds a number unless it was named.
const SESSIONS: [&str; 4] = ["session", "sessionkey", "session_key", "was"];
/// What people have said, and what is there for comparison: whoever is mentioned there is not whom
/// the message is about.
const WORDS: [&str; 7] = [
    "body",
    "context",
    "transcript",
    "utterances",
    "message",
    "text",
    "calls_before",
];

/// A call or a caller, and all names under which something about it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whom {
    ids: BTreeSet<String>,
    number: Option<E164>,
}

impl Whom {
    /// One call.
    #[must_use]
    pub fn call(id: &CallId) -> Self {
        Self {
            ids: [id.to_string()].into(),
            number: None,
        }
    }

    /// Everybody who called from a number, or was called there.
    #[must_use]
    pub fn number(number: E164) -> Self {
        Self {
            ids: BTreeSet::new(),
            number: Some(number),
        }
    }

    /// The ids of calls and commands that are known to belong to it so far.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(String::as_str)
    }

    /// The number, if it is all about a number.
    #[must_use]
    pub fn its_number(&self) -> Option<&E164> {
        self.number.as_ref()
    }

    /// Whether a message is about it: it lies under one of its names, or says so in a field of ours.
    /// Learns the further names of what is; a message that came earlier may be claimed by them.
    pub fn claims(&mut self, subject: &str, payload: &[u8]) -> bool {
        let under = subjects::stored_under(subject);
        let said: Value = serde_json::from_slice(payload).unwrap_or_default();
        let mut about = About::default();
        about.read(&said);
        let is_it = under.is_some_and(|id| self.ids.contains(id))
            || about.ids.iter().any(|id| self.ids.contains(*id))
            || about.numbers.iter().any(|text| self.is_its_number(text))
            || about.sessions.iter().any(|key| self.is_its_session(key));
        if is_it {
            let names = under.into_iter().chain(about.ids);
            self.ids.extend(names.map(str::to_owned));
        }
        is_it
    }

    /// Whether a dial that is remembered under some number is one of its.
    #[must_use]
    pub fn has_dial(&self, dial: &RecentDial) -> bool {
        let intent = dial.intent.as_ref().map(|intent| intent.as_str());
        let calls = [&dial.call, &dial.leg].into_iter().flatten();
        let mut names = calls.map(CallId::as_str).chain(intent);
        names.any(|id| self.ids.contains(id)) || self.is_its_session(dial.session.as_str())
    }

    /// Whether one of its names, or its number, stands anywhere in the bytes.
    #[must_use]
    pub fn is_mentioned(&self, bytes: &[u8]) -> bool {
        let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let mut words = bytes.split(|byte| !is_of_name(byte));
        let is_named = words.any(|word| {
            let word = std::str::from_utf8(word);
            word.is_ok_and(|word| self.ids.contains(word))
        });
        let digits = self
            .number
            .as_ref()
            .map(|number| number.digits().as_bytes());
        let mut numbers = bytes.split(|byte| !byte.is_ascii_digit());
        is_named || digits.is_some_and(|digits| numbers.any(|number| number == digits))
    }

    fn is_its_number(&self, text: &str) -> bool {
        let read = || E164::parse(text).ok();
        self.number.is_some() && read() == self.number
    }

    fn is_its_session(&self, key: &str) -> bool {
        let last = key.rsplit(':').next().unwrap_or_default();
        self.number
            .as_ref()
            .is_some_and(|number| last == number.digits())
    }
}

/// What a message says of itself.
#[derive(Default)]
struct About<'a> {
    ids: Vec<&'a str>,
    numbers: Vec<&'a str>,
    sessions: Vec<&'a str>,
}

impl<'a> About<'a> {
    fn read(&mut self, said: &'a Value) {
        let Value::Object(fields) = said else {
            return;
        };
        for (name, value) in fields {
            let name = name.as_str();
            if WORDS.contains(&name) {
                continue;
            }
            if let Value::Array(items) = value {
                items.iter().for_each(|item| self.read(item));
            }
            let text = value.as_str();
            if IDS.contains(&name) {
                self.ids.extend(text.or(value["id"].as_str()));
            } else if NUMBERS.contains(&name) {
                self.numbers.extend(text);
            } else if SESSIONS.contains(&name) {
                self.sessions.extend(text);
            }
            self.read(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_call() -> Whom {
        Whom::call(&CallId::parse("CA1").unwrap())
    }

    fn of_number() -> Whom {
        Whom::number(E164::parse("+12015550142").unwrap())
    }

    fn claims(whom: &mut Whom, subject: &str, payload: &Value) -> bool {
        whom.claims(subject, payload.to_string().as_bytes())
    }

    #[test]
    fn a_call_has_its_other_leg_its_intent_and_the_commands_about_it() {
        let mut whom = of_call();
        let event =
            json!({ "data": { "call": { "id": "CA1", "other_leg": "rtc_2", "intent": "k-1" } } });
        assert!(claims(&mut whom, "voice.event.CA1.s-1.state.ended", &event));
        assert!(claims(
            &mut whom,
            "voice.in.3.rtc_2.transcript",
            &json!({ "call": "rtc_2" })
        ));
        assert!(claims(
            &mut whom,
            "voice.cmd.dial.k-1",
            &json!({ "to": "+12015550142" })
        ));
        assert!(claims(&mut whom, "voice.timer.CA1.stale", &json!({})));
        let hangup = json!({ "data": { "command": { "id": "h1", "call": "CA1" } } });
        assert!(claims(
            &mut whom,
            "voice.event.h1.s-1.command.confirmed",
            &hangup
        ));
        assert_eq!(
            whom.ids().collect::<Vec<_>>(),
            ["CA1", "h1", "k-1", "rtc_2"]
        );
        // Another call to the same number is another call, whoever compares them.
        let other =
            json!({ "wish": { "to": "+12015550142" }, "attempt": { "calls_before": ["CA1"] } });
        assert!(!claims(&mut whom, "$KV.VOICE_INTENT.k-2", &other));
    }

    #[test]
    fn a_number_has_its_calls_and_not_those_in_which_it_is_spoken_of() {
        let mut whom = of_number();
        let started =
            json!({ "call": "rtc_1", "says": { "type": "started", "number": "+12015550142" } });
        assert!(claims(&mut whom, "voice.in.3.rtc_1.started", &started));
        assert!(claims(
            &mut whom,
            "voice.in.3.rtc_1.ringing",
            &json!({ "call": "rtc_1" })
        ));
        let session = json!({ "sessionkey": "agent:main:voice:12015550142", "data": {} });
        assert!(claims(
            &mut whom,
            "voice.event.rtc_9.s-1.state.ended",
            &session
        ));
        let spoken = json!({ "call": "rtc_5", "says": { "type": "utterance", "text": "call +12015550142" } });
        assert!(!claims(&mut whom, "voice.in.3.rtc_5.transcript", &spoken));
        assert!(whom.is_mentioned(spoken.to_string().as_bytes()));
        assert!(!claims(
            &mut whom,
            "voice.cmd.dial.k-1",
            &json!({ "caller_id": "+12015550142", "to": "+12015550199" })
        ));
    }

    #[test]
    fn a_name_is_mentioned_where_it_stands_alone() {
        let whom = of_call();
        assert!(whom.is_mentioned(b"{\"call\":\"CA1\"}"));
        assert!(whom.is_mentioned(b"voice.in.1.CA1.x"));
        assert!(!whom.is_mentioned(b"CA12 xCA1 CA1_"));
        assert!(of_number().is_mentioned(b"sip:12015550142@host"));
        assert!(!of_number().is_mentioned(b"112015550142"));
    }
}
