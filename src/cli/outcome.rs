//! What became of a command, in one sentence, and whether it went well.

use std::io::Write;
use std::time::Duration;

use super::Exit;
use super::text::{Numbers, clean};
use super::when;
use crate::bus::command;
use crate::bus::envelope::{CommandSnapshot, Outcome};
use crate::bus::publish;
use crate::domain::command::{Status, Verb};
use crate::domain::ids::IntentId;

/// What was asked for, and how to speak of it.
pub struct Asked {
    pub verb: Verb,
    /// The number or the call, as the operator may see it.
    pub what: String,
    pub id: IntentId,
    pub waited: Duration,
}

impl Asked {
    /// Names a new command.
    pub fn new(verb: Verb, what: String, waited: Duration) -> anyhow::Result<Self> {
        let id = IntentId::parse(&format!("i-{}", uuid::Uuid::now_v7().simple()))?;
        Ok(Self {
            verb,
            what,
            id,
            waited: waited.min(command::WAIT_MAX),
        })
    }

    /// Tells the outcome.
    ///
    /// # Errors
    /// When nothing was asked, or the output cannot be written.
    pub fn tell(
        &self,
        result: Result<Outcome, command::Error>,
        json: bool,
        out: &mut dyn Write,
    ) -> anyhow::Result<Exit> {
        let outcome = match result {
            Ok(outcome) => outcome,
            // It may be stored, and then it will be done.
            Err(command::Error::Publish(publish::Error::Unclear { reason, .. })) => {
                self.unclear(&reason)
            }
            Err(error) => {
                let not = match self.verb {
                    Verb::Dial => "nothing was dialled",
                    Verb::Hangup => "nothing was hung up",
                    Verb::Context => "the call was told nothing",
                    Verb::Say => "nothing was said",
                    Verb::Link | Verb::Unlink => "no link was changed",
                };
                return Err(anyhow::Error::new(error).context(not));
            }
        };
        if json {
            writeln!(out, "{}", serde_json::to_string(&outcome)?)?;
        } else {
            writeln!(out, "{}", self.sentence(&outcome))?;
        }
        Ok(match outcome.status.as_str() {
            "queued" | "confirmed" => Exit::Fine,
            _ => Exit::Wrong,
        })
    }

    fn unclear(&self, reason: &str) -> Outcome {
        Outcome {
            status: Status::Unknown.as_str().to_owned(),
            id: self.id.to_string(),
            command: Some(CommandSnapshot {
                id: self.id.to_string(),
                verb: self.verb.as_str().to_owned(),
                status: Status::Unknown.as_str().to_owned(),
                session: String::new(),
                to: None,
                call: None,
                code: Some("not-acknowledged".to_owned()),
                reason: Some(format!("NATS did not confirm the command: {reason}")),
            }),
        }
    }

    fn sentence(&self, outcome: &Outcome) -> String {
        let numbers = Numbers::Masked;
        let Self { what, id, .. } = self;
        let command = outcome.command.as_ref();
        let reason = command.map_or_else(String::new, why);
        let later = format!("`voicebus calls show {id}`");
        match (self.verb, outcome.status.as_str()) {
            (_, "queued") => {
                let waited =
                    when::length(chrono::TimeDelta::from_std(self.waited).unwrap_or_default());
                let asked = match self.verb {
                    Verb::Dial => format!("the call to {what} is queued"),
                    Verb::Hangup => format!("the end of call {what} is queued"),
                    Verb::Context => format!("what call {what} should know is queued"),
                    Verb::Say => format!("what is to be said in call {what} is queued"),
                    Verb::Link | Verb::Unlink => format!("the link of {what} is queued"),
                };
                format!("{asked} as {id}: no outcome within {waited}; ask for it with {later}")
            }
            (Verb::Dial, "confirmed") => {
                let call = command.and_then(|command| command.call.as_deref());
                let call = call.map_or_else(
                    || "a call without id".to_owned(),
                    |id| format!("call {}", clean(id)),
                );
                let session = command.map_or("", |command| &command.session);
                format!(
                    "calling {what}: {call} in session {}",
                    numbers.in_text(session)
                )
            }
            (Verb::Hangup, "confirmed") => format!("call {what} is told to end"),
            (Verb::Dial, "unknown") => format!(
                "nobody knows whether {what} was called{reason}. Do not call again before you have looked: {later} tells when it is known"
            ),
            (Verb::Hangup, "unknown") => format!(
                "nobody knows whether call {what} was told to end{reason}. Look with `voicebus calls show {what}`; asking again does no harm"
            ),
            (Verb::Context, "confirmed") if reason.is_empty() => format!("call {what} is told"),
            (Verb::Context, "confirmed") => format!(
                "who reads of call {what} is told, the conversation that is going on is not{reason}"
            ),
            (Verb::Context, status) => {
                format!("call {what} was not told: {}{reason}", clean(status))
            }
            (Verb::Say, "confirmed") => format!("the assistant says it in call {what}"),
            (Verb::Say, "unknown") => {
                format!("nobody knows whether it was said in call {what}{reason}")
            }
            (Verb::Say, status) => {
                format!("nothing was said in call {what}: {}{reason}", clean(status))
            }
            (Verb::Link, "confirmed") => {
                let session = command.map_or("", |command| &command.session);
                format!("calls of {what} go to session {}", numbers.in_text(session))
            }
            (Verb::Unlink, "confirmed") => format!("calls of {what} are linked no longer"),
            (Verb::Link | Verb::Unlink, status) => {
                format!(
                    "the link of {what} was not changed: {}{reason}",
                    clean(status)
                )
            }
            (Verb::Dial, status) => format!("{what} was not called: {}{reason}", clean(status)),
            (Verb::Hangup, status) => {
                format!("call {what} was not hung up: {}{reason}", clean(status))
            }
        }
    }
}

/// `: reason (code)`.
fn why(command: &CommandSnapshot) -> String {
    let reason = command
        .reason
        .as_deref()
        .map(|text| Numbers::Masked.in_text(text));
    match (reason, command.code.as_deref().map(clean)) {
        (Some(reason), Some(code)) => format!(": {reason} ({code})"),
        (Some(text), None) | (None, Some(text)) => format!(": {text}"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(verb: Verb, what: &str) -> Asked {
        Asked {
            verb,
            what: what.to_owned(),
            id: IntentId::parse("i-1").unwrap(),
            waited: Duration::from_secs(30),
        }
    }

    fn answered(status: &str, call: Option<&str>, reason: Option<&str>) -> Outcome {
        Outcome::answered(CommandSnapshot {
            id: "i-1".to_owned(),
            verb: "dial".to_owned(),
            status: status.to_owned(),
            session: "agent:main:voice:12015550142".to_owned(),
            to: Some("+12015550142".to_owned()),
            call: call.map(str::to_owned),
            code: reason.map(|_| "server-said-no".to_owned()),
            reason: reason.map(str::to_owned),
        })
    }

    fn told(asked: &Asked, outcome: Outcome, json: bool) -> (String, Exit) {
        let mut out = Vec::new();
        let exit = asked.tell(Ok(outcome), json, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), exit)
    }

    #[test]
    fn every_outcome_of_a_dial_is_one_sentence() {
        let dial = asked(Verb::Dial, "+1•••0142");
        let queued = Outcome::queued(&dial.id);
        let nasty = Some("+12015550142 is \x1b[2J blocked");
        let outcomes = [
            answered("confirmed", Some("CA7"), None),
            answered("refused", None, nasty),
            answered("expired", None, None),
            answered("unknown", None, Some("no answer")),
            queued,
        ];
        let lines: Vec<String> = outcomes
            .into_iter()
            .map(|outcome| {
                let (text, exit) = told(&dial, outcome, false);
                format!("{exit:?}: {}", text.trim_end())
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        Fine: calling +1•••0142: call CA7 in session agent:main:voice:1•••0142
        Wrong: +1•••0142 was not called: refused: +1•••0142 is ␛[2J blocked (server-said-no)
        Wrong: +1•••0142 was not called: expired
        Wrong: nobody knows whether +1•••0142 was called: no answer (server-said-no). Do not call again before you have looked: `voicebus calls show i-1` tells when it is known
        Fine: the call to +1•••0142 is queued as i-1: no outcome within 30s; ask for it with `voicebus calls show i-1`
        ");
    }

    #[test]
    fn a_lost_acknowledgement_is_unknown_and_not_refused() {
        let dial = asked(Verb::Dial, "+1•••0142");
        let mut out = Vec::new();
        let lost = command::Error::Publish(publish::Error::Unclear {
            subject: "voice.cmd.dial.i-1".to_owned(),
            reason: "timed out".to_owned(),
        });
        assert_eq!(dial.tell(Err(lost), false, &mut out).unwrap(), Exit::Wrong);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Do not call again"), "{text}");
        let full = command::Error::Publish(publish::Error::Refused {
            subject: "voice.cmd.dial.i-1".to_owned(),
            reason: "maximum bytes exceeded".to_owned(),
            of_this_message: false,
        });
        let error = dial.tell(Err(full), false, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "nothing was dialled");
    }

    #[test]
    fn hanging_up_has_its_own_words_and_json_the_whole_outcome() {
        let hangup = asked(Verb::Hangup, "CA7");
        let (text, exit) = told(&hangup, answered("confirmed", Some("CA7"), None), false);
        assert_eq!(
            (text.as_str(), exit),
            ("call CA7 is told to end\n", Exit::Fine)
        );
        let (json, _) = told(
            &hangup,
            answered("refused", Some("CA7"), Some("over")),
            true,
        );
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["status"], "refused");
        assert_eq!(value["command"]["to"], "+12015550142");
    }
}
