//! What an answer of the phone-call server means. Pure: status and body in, meaning out.
//!
//! The rule behind the table (measured on all three versions): 4xx and 503 say that no call was
//! made; 500 and anything that cannot be read may hide a phone that is ringing.

use super::voice_server::Answer;
use super::wire::{CallPlaced, Failure, TapRefusal};
use crate::domain::command::Reason;
use crate::domain::dial::Meaning;
use crate::domain::ids::CallId;
use crate::domain::redact::redacted;

/// Longest sentence of the server that is carried on, in characters.
const SENTENCE_LENGTH_MAX: usize = 300;

/// Answers with status 500 that are certain: the server looked at its own configuration and went
/// no further.
const CONFIGURATION_TEXTS: [&str; 3] = [
    "OpenAI project ID not configured - required for SIP endpoint",
    "No caller ID — set TWILIO_PHONE_NUMBER or provide caller_id",
    "No caller ID - set TWILIO_PHONE_NUMBER or provide caller_id",
];

/// What the answer to `POST /call` means.
pub(super) fn of_dial(answer: &Answer) -> Meaning {
    if answer.tapped
        && let Some(meaning) = of_tap(answer.status, &answer.body)
    {
        return meaning;
    }
    of_server(answer.status, &answer.body)
}

/// What a tap says about a request that it has not handed on; `None` when it is the server who
/// speaks.
fn of_tap(status: u16, body: &[u8]) -> Option<Meaning> {
    let refusal: TapRefusal = serde_json::from_slice(body).ok()?;
    let reason = |code: &str, text: &str| Reason::new(code, text);
    Some(match (status, refusal.state.as_str()) {
        (409, "open") => Meaning::Unknown(reason(
            "server-undecided",
            "the voice server has not answered the first request yet",
        )),
        (409, "unknown") => Meaning::Unknown(reason(
            "server-undecided",
            "the voice server does not know what became of the first request",
        )),
        (409, "conflict") => Meaning::Refused(reason(
            "conflict",
            "the voice server knows another call by this intent",
        )),
        (410, "expired") => {
            Meaning::NotTaken(reason("deadline", "the voice server says it is too late"))
        }
        (503, "refused") => Meaning::NotTaken(reason(
            "tap-refused",
            "the voice server's tap cannot keep account of the call",
        )),
        _ => return None,
    })
}

/// What the server itself answers.
pub(super) fn of_server(status: u16, body: &[u8]) -> Meaning {
    let text = sentence(body);
    let refused = |code: &str| {
        Meaning::Refused(Reason {
            code: code.to_owned(),
            text: text.clone(),
        })
    };
    let unknown = |code: &str, text: String| {
        Meaning::Unknown(Reason {
            code: code.to_owned(),
            text,
        })
    };
    match status {
        200..=299 => match placed(body) {
            Some(call) => Meaning::Placed(call),
            None => unknown(
                "no-call-id",
                "the server says yes, but names no call".to_owned(),
            ),
        },
        400 if text.starts_with("Call failed: HTTP 429") => refused("carrier-busy"),
        400 if text.starts_with("Call failed: HTTP 5") => unknown("carrier-failed", text),
        400 if text.starts_with("Call failed:") => refused("carrier-refused"),
        // 408 and 409 are what a proxy or a guard says about a request that may be under way.
        408 | 409 => unknown("server-undecided", text),
        400 | 422 => refused("bad-request"),
        401 | 403 => refused("not-allowed"),
        404 | 405 => refused("no-such-route"),
        429 => refused("server-busy"),
        402 | 406..=499 => refused("server-refused"),
        503 => refused("not-configured"),
        500 if CONFIGURATION_TEXTS.contains(&text.as_str()) => refused("not-configured"),
        _ => unknown(
            "server-failed",
            format!("the server answered {status}: {text}"),
        ),
    }
}

/// What the answer to `DELETE /call/{id}`, or to the tap's hang-up, means: `None` when it was taken.
pub(super) fn of_cancel(status: u16, body: &[u8]) -> Option<Reason> {
    let reason = |code: &str| {
        Some(Reason {
            code: code.to_owned(),
            text: sentence(body),
        })
    };
    match status {
        200..=299 => None,
        404 | 410 => reason("no-such-call"),
        400 | 422 => reason("server-refused"),
        503 => reason("not-configured"),
        _ => reason("server-failed"),
    }
}

fn placed(body: &[u8]) -> Option<CallId> {
    let answer: CallPlaced = serde_json::from_slice(body).ok()?;
    CallId::parse(&answer.call_id).ok()
}

/// The server's own words, made fit for an event, an answer and a log: it may repeat what it was
/// asked for, number and all, and its carrier what it was shown.
pub(super) fn sentence(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Failure>(body) {
        Ok(Failure {
            detail: serde_json::Value::String(text),
        }) => text,
        Ok(Failure {
            detail: serde_json::Value::Array(items),
        }) => items
            .iter()
            .filter_map(|item| item.get("msg").and_then(serde_json::Value::as_str))
            .collect::<Vec<_>>()
            .join("; "),
        Ok(Failure { .. }) | Err(_) => "the server gave no reason".to_owned(),
    };
    redacted(&text, SENTENCE_LENGTH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(text: &str) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({ "detail": text })).unwrap()
    }

    fn code(meaning: &Meaning) -> String {
        match meaning {
            Meaning::Placed(call) => format!("placed {call}"),
            Meaning::Refused(reason) => format!("refused {}", reason.code),
            Meaning::Unknown(reason) => format!("unknown {}", reason.code),
            Meaning::NotTaken(reason) => format!("not taken {}", reason.code),
        }
    }

    #[test]
    fn every_answer_of_the_three_versions_has_its_meaning() {
        let call = br#"{"status":"initiated","call_id":"CAa4c123b1612dd272d1371c17149d4395","message":"Call initiated to +12015550123"}"#;
        for (status, body, meaning) in [
            (
                200,
                call.to_vec(),
                "placed CAa4c123b1612dd272d1371c17149d4395",
            ),
            (
                200,
                br#"{"status":"initiated"}"#.to_vec(),
                "unknown no-call-id",
            ),
            (200, br#"{"call_id":"../x"}"#.to_vec(), "unknown no-call-id"),
            (200, b"".to_vec(), "unknown no-call-id"),
            (200, b"<html>".to_vec(), "unknown no-call-id"),
            (
                400,
                detail("Invalid phone number — use E.164 format (e.g. +1234567890)"),
                "refused bad-request",
            ),
            (
                400,
                detail("Call failed: HTTP 429 error: Unable to create record: Too Many Requests"),
                "refused carrier-busy",
            ),
            (
                400,
                detail("Call failed: HTTP 400 error: Unable to create record: Invalid 'To'"),
                "refused carrier-refused",
            ),
            (
                400,
                detail("Call failed: HTTP 500 error: Unable to create record: Internal"),
                "unknown carrier-failed",
            ),
            (
                422,
                br#"{"detail":[{"type":"missing","msg":"Field required"}]}"#.to_vec(),
                "refused bad-request",
            ),
            (
                503,
                detail("Outbound calling not configured - missing Twilio credentials"),
                "refused not-configured",
            ),
            (
                500,
                detail("OpenAI project ID not configured - required for SIP endpoint"),
                "refused not-configured",
            ),
            (
                500,
                detail("No caller ID — set TWILIO_PHONE_NUMBER or provide caller_id"),
                "refused not-configured",
            ),
            (
                500,
                detail("Internal server error"),
                "unknown server-failed",
            ),
            (502, b"Bad Gateway".to_vec(), "unknown server-failed"),
            (302, b"".to_vec(), "unknown server-failed"),
            (404, detail("Not Found"), "refused no-such-route"),
            (409, b"".to_vec(), "unknown server-undecided"),
            (
                400,
                detail("Call failed: HTTP 503 error: Unable to create record: Unavailable"),
                "unknown carrier-failed",
            ),
            (
                400,
                detail("Call failed: HTTP 401 error: Unable to create record: Authenticate"),
                "refused carrier-refused",
            ),
            (
                400,
                detail("Phone number is required and must be a string"),
                "refused bad-request",
            ),
            (408, b"".to_vec(), "unknown server-undecided"),
            (504, b"<html>".to_vec(), "unknown server-failed"),
            (200, br#"{"call_id":null}"#.to_vec(), "unknown no-call-id"),
            (200, br#"{"call_id":"CA1"#.to_vec(), "unknown no-call-id"),
        ] {
            assert_eq!(
                code(&of_server(status, &body)),
                meaning,
                "{status} {}",
                String::from_utf8_lossy(&body)
            );
        }
    }

    #[test]
    fn a_tap_speaks_for_itself_only_where_there_is_one() {
        let state = |state: &str| format!(r#"{{"state":"{state}"}}"#).into_bytes();
        for (status, body, tapped, plain) in [
            (
                409,
                state("open"),
                "unknown server-undecided",
                "unknown server-undecided",
            ),
            (
                409,
                state("unknown"),
                "unknown server-undecided",
                "unknown server-undecided",
            ),
            (
                409,
                state("conflict"),
                "refused conflict",
                "unknown server-undecided",
            ),
            (
                410,
                state("expired"),
                "not taken deadline",
                "refused server-refused",
            ),
            (
                503,
                state("refused"),
                "not taken tap-refused",
                "refused not-configured",
            ),
            (
                503,
                detail("Outbound calling not configured"),
                "refused not-configured",
                "refused not-configured",
            ),
            (
                500,
                detail("Internal server error"),
                "unknown server-failed",
                "unknown server-failed",
            ),
        ] {
            for (is_tapped, meaning) in [(true, tapped), (false, plain)] {
                let answer = Answer {
                    status,
                    body: body.clone(),
                    tapped: is_tapped,
                };
                assert_eq!(code(&of_dial(&answer)), meaning, "{status} {is_tapped}");
            }
        }
    }

    #[test]
    fn a_cancellation_says_why_it_failed() {
        assert_eq!(of_cancel(200, b"{}"), None);
        assert_eq!(
            of_cancel(404, &detail("Call not found")).unwrap().text,
            "Call not found"
        );
        assert_eq!(
            of_cancel(400, &detail("Can only cancel outbound calls"))
                .unwrap()
                .code,
            "server-refused"
        );
    }

    #[test]
    fn the_servers_words_name_no_number_and_no_account() {
        let failed = "Call failed: HTTP 400 error: Unable to create record: The number +1 (201) 555-0142 of AC00112233445566778899aabbccddeeff is blocked";
        let Meaning::Refused(reason) = of_server(400, &detail(failed)) else {
            panic!("not refused")
        };
        assert_eq!(reason.code, "carrier-refused");
        assert_eq!(
            reason.text,
            "Call failed: HTTP 400 error: Unable to create record: The number +1•••0142 of ••• is blocked"
        );
    }

    #[test]
    fn the_servers_words_stay_on_one_line_and_short() {
        let long = detail(&format!("a\nb{}", "x".repeat(9000)));
        let Meaning::Refused(reason) = of_server(400, &long) else {
            panic!("not refused")
        };
        assert!(
            reason.text.starts_with("a b") && reason.text.chars().count() == SENTENCE_LENGTH_MAX
        );
    }
}
