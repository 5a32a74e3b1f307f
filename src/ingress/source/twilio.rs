//! `POST /webhook/twilio`: what Twilio tells of the calls that it carries.
//!
//! A status callback, by default a form: `CallSid=CA…&CallStatus=ringing&From=%2B1…&To=%2B1…&
//! Direction=outbound-api&SequenceNumber=2&CallbackSource=call-progress-events&Timestamp=…&AccountSid=AC…`,
//! or the same names in a JSON object.
//!
//! The signature does not say where a name ends and its value begins, so what is read here is read
//! strictly: a call id of Twilio's form, a status that Twilio has, each name once. A callback of another
//! kind, with no status of a call in it, is parked.

use chrono::DateTime;
use serde_json::Value;

use super::fields::Fields;
use super::identity::{self, Content};
use super::{Error, Head, Parked, Parsed, Source, json};
use crate::domain::ids::CallId;
use crate::domain::input::{Direction, End, EndReason, InputKind};
use crate::domain::phone::Party;
use crate::ingress::verify::Verified;
use crate::ingress::verify::form::Form;
use crate::ingress::verify::twilio::Callback;

const SOURCE: Source = Source::Twilio;

/// Reads one callback. `account` is ours; with none, the secret alone says whose callbacks they are.
///
/// # Errors
/// When the callback is not one of a call's, or not of our account; see [`Error`].
pub fn parse(callback: &Verified<Callback<'_>>, account: Option<&str>) -> Result<Parsed, Error> {
    match callback.get() {
        Callback::Form(form) => read(&Names::Form(form), account),
        Callback::Other(body) => {
            let body = json::parse(body)?;
            read(&Names::Json(Fields::of_body(&body)?, &body), account)
        }
    }
}

fn read(names: &Names<'_>, account: Option<&str>) -> Result<Parsed, Error> {
    let said = names.text("AccountSid")?;
    if said.is_some_and(|said| account.is_some_and(|account| said != account)) {
        return Err(Error::OtherAccount);
    }
    let call = names.text("CallSid")?.map(call_sid).transpose()?;
    let Some(status) = names.text("CallStatus")? else {
        return Ok(Parsed::Parked(Parked {
            source: SOURCE,
            call,
            id: identity::of_message(SOURCE, &names.canonical()),
            event_type: "unknown".to_owned(),
        }));
    };
    let missing = |field: &str| Error::Missing {
        field: field.to_owned(),
    };
    let call = call.ok_or_else(|| missing("CallSid"))?;
    let direction = names.text("Direction")?.and_then(direction);
    let kind = kind(status, direction, names)?;
    if account.is_some() && said.is_none() {
        return Err(missing("AccountSid"));
    }
    let sequence = names.text("SequenceNumber")?;
    // Twilio's own mark of a repeat is not signed, so the event is known by what it says.
    let id = identity::of_content(&Content {
        source: SOURCE,
        call: &call,
        event_type: status,
        timestamp: sequence,
        phone_number: None,
        direction: names.text("CallbackSource")?,
        data: None,
    });
    let happened_at = names.text("Timestamp")?.map(DateTime::parse_from_rfc2822);
    let head = Head {
        source: SOURCE,
        call,
        id,
        event_type: status,
        happened_at: happened_at.and_then(|time| Some(time.ok()?.to_utc())),
        source_sequence: sequence.and_then(|sequence| sequence.parse().ok()),
        traceparent: None,
    };
    Ok(head.complete(Some(kind)))
}

fn kind(status: &str, direction: Option<Direction>, names: &Names<'_>) -> Result<InputKind, Error> {
    let ended = |reason| {
        Ok(InputKind::Ended(End {
            reason,
            detail: None,
        }))
    };
    match status {
        "queued" | "initiated" => Ok(InputKind::Started {
            direction,
            party: other_end(direction, names)?,
            intent: None,
        }),
        "ringing" => Ok(InputKind::Ringing),
        "in-progress" | "answered" => Ok(InputKind::Answered),
        "completed" => ended(EndReason::Completed),
        "busy" => ended(EndReason::Busy),
        "no-answer" => ended(EndReason::NoAnswer),
        "canceled" => ended(EndReason::Canceled),
        "failed" => ended(EndReason::Failed),
        _ => Err(Error::CallStatus),
    }
}

/// `inbound`, `outbound-api` or `outbound-dial`.
fn direction(text: &str) -> Option<Direction> {
    match text {
        "inbound" => Some(Direction::Inbound),
        "outbound-api" | "outbound-dial" => Some(Direction::Outbound),
        _ => None,
    }
}

/// Whom we talk to: who calls us, or whom we call. A `+` that was not escaped comes as a blank.
fn other_end(direction: Option<Direction>, names: &Names<'_>) -> Result<Option<Party>, Error> {
    let name = match direction {
        Some(Direction::Inbound) => "From",
        Some(Direction::Outbound) => "To",
        None => return Ok(None),
    };
    Ok(names.text(name)?.map(Party::read))
}

/// `CA` and 32 lower-case hex digits.
fn call_sid(text: &str) -> Result<CallId, Error> {
    let digits = text.strip_prefix("CA").unwrap_or_default();
    let fits = digits.len() == 32
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let call = fits.then(|| CallId::parse(text).ok()).flatten();
    call.ok_or(Error::CallSid)
}

/// The names of a callback and what stands behind them.
enum Names<'a> {
    Form(&'a Form),
    Json(Fields<'a>, &'a Value),
}

impl<'a> Names<'a> {
    /// The text of a name, which may be there once.
    fn text(&self, name: &str) -> Result<Option<&'a str>, Error> {
        let form = match self {
            Self::Form(form) => form,
            Self::Json(fields, _) => return fields.text(name),
        };
        let mut values = form
            .parameters()
            .filter_map(|(known, value)| (known == name).then_some(value));
        let value = values.next();
        if values.any(|other| Some(other) != value) {
            return Err(Error::Repeated {
                field: name.to_owned(),
            });
        }
        Ok(value)
    }

    /// All of them as one text, the same for the same callback.
    fn canonical(&self) -> String {
        match self {
            Self::Form(form) => form
                .parameters()
                .map(|(name, value)| format!("{name}={value}\n"))
                .collect(),
            Self::Json(_, body) => body.to_string(),
        }
    }
}
