//! What a tap's answer means when it was asked to do something to a conversation that is going on
//! (`docs/tap-contract.md`). Pure: an answer in, its meaning out.

use super::outcome::sentence;
use super::voice_server::Answer;
use super::wire::TapRefusal;
use crate::domain::command::Reason;

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The conversation has it.
    Done,
    /// It has not, and will not.
    Not(Reason),
    /// It has not, and it is too late.
    Late,
    /// It has not, and may be asked for again.
    NotYet(Reason),
    /// It is being done; who asks again hears what came of it.
    Open(Reason),
    /// It may have.
    Unclear(Reason),
}

pub(super) fn of_deed(answer: &Answer) -> Meaning {
    if !answer.tapped {
        return of_server(answer);
    }
    let state = serde_json::from_slice(&answer.body)
        .map_or_else(|_| String::new(), |refusal: TapRefusal| refusal.state);
    let reason = |code: &str| Reason::new(code, sentence(&answer.body));
    match (answer.status, state.as_str()) {
        (200..=299, _) => Meaning::Done,
        (401 | 403, _) => Meaning::Not(reason("not-allowed")),
        (404, "refused") => Meaning::Not(reason("no-such-call")),
        (404 | 405, _) => Meaning::Not(unsupported("the voice server's tap cannot do it")),
        (409, "open") => Meaning::Open(Reason::new(
            "server-undecided",
            "the voice server has not answered the first request yet",
        )),
        (409, "unknown") => Meaning::Unclear(Reason::new(
            "server-undecided",
            "the voice server does not know what became of the first request",
        )),
        (409, "conflict") => Meaning::Not(Reason::new(
            "conflict",
            "the voice server knows another command by this id",
        )),
        (410, "expired") => Meaning::Late,
        (410, _) => Meaning::Not(Reason::new("call-ended", "the call is over")),
        (501, _) => Meaning::Not(unsupported(&sentence(&answer.body))),
        (503, "refused") => Meaning::NotYet(reason("tap-refused")),
        (400..=499, _) => Meaning::Not(reason("server-refused")),
        _ => Meaning::Unclear(reason("server-failed")),
    }
}

/// There is no tap, or none that was reached. A proxy's 5xx may hide one.
fn of_server(answer: &Answer) -> Meaning {
    match answer.status {
        401 | 403 => Meaning::Not(Reason::new("not-allowed", sentence(&answer.body))),
        408 | 409 | 500..=599 => Meaning::Unclear(Reason::new(
            "server-failed",
            format!("the voice server answered {}", answer.status),
        )),
        _ => Meaning::Not(unsupported(
            "the voice server has no tap, and without one nobody can speak into a conversation that is going on",
        )),
    }
}

fn unsupported(text: &str) -> Reason {
    Reason::new("unsupported", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_meaning() {
        let refused = r#"{"state":"refused","detail":"why"}"#;
        let state = |state: &str| format!(r#"{{"state":"{state}"}}"#);
        for (status, body, tapped, plain) in [
            (
                200,
                r#"{"status":"said","call_id":"CA1"}"#.to_owned(),
                "done",
                "not unsupported",
            ),
            (
                404,
                refused.to_owned(),
                "not no-such-call",
                "not unsupported",
            ),
            (
                404,
                r#"{"detail":"Not Found"}"#.to_owned(),
                "not unsupported",
                "not unsupported",
            ),
            (405, String::new(), "not unsupported", "not unsupported"),
            (
                401,
                r#"{"detail":"token"}"#.to_owned(),
                "not not-allowed",
                "not not-allowed",
            ),
            (
                409,
                state("open"),
                "open server-undecided",
                "unclear server-failed",
            ),
            (
                409,
                state("unknown"),
                "unclear server-undecided",
                "unclear server-failed",
            ),
            (
                409,
                state("conflict"),
                "not conflict",
                "unclear server-failed",
            ),
            (410, state("expired"), "late", "not unsupported"),
            (410, state("over"), "not call-ended", "not unsupported"),
            (
                413,
                refused.to_owned(),
                "not server-refused",
                "not unsupported",
            ),
            (
                501,
                refused.to_owned(),
                "not unsupported",
                "unclear server-failed",
            ),
            (
                502,
                refused.to_owned(),
                "unclear server-failed",
                "unclear server-failed",
            ),
            (
                503,
                refused.to_owned(),
                "not yet tap-refused",
                "unclear server-failed",
            ),
            (
                503,
                "<html>".to_owned(),
                "unclear server-failed",
                "unclear server-failed",
            ),
        ] {
            for (is_tapped, wanted) in [(true, tapped), (false, plain)] {
                let answer = Answer {
                    status,
                    body: body.clone().into_bytes(),
                    tapped: is_tapped,
                };
                let found = match of_deed(&answer) {
                    Meaning::Done => "done".to_owned(),
                    Meaning::Late => "late".to_owned(),
                    Meaning::Not(reason) => format!("not {}", reason.code),
                    Meaning::NotYet(reason) => format!("not yet {}", reason.code),
                    Meaning::Open(reason) => format!("open {}", reason.code),
                    Meaning::Unclear(reason) => format!("unclear {}", reason.code),
                };
                assert_eq!(found, wanted, "{status} {body} {is_tapped}");
            }
        }
    }
}
