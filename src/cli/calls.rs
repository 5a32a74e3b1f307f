//! `voicebus calls`: which calls there are, and one of them in full.

mod show;

use std::io::Write;

use chrono::{Local, TimeZone, Utc};

use super::target::Target;
use super::text::{Numbers, clean, short_session};
use super::{Exit, parse_session, table, unless_reader_left, when};
use crate::bus::service::{self, CALLS_PER_ANSWER_MAX, CallView, CallsAnswer, CallsQuery};
use crate::domain::Timestamp;
use crate::domain::ids::{CallId, SessionKey};
use crate::domain::phone::E164;

const HEAD: [&str; 9] = [
    "CALL",
    "STATE",
    "DIRECTION",
    "NUMBER",
    "SESSION",
    "STARTED",
    "LENGTH",
    "SAID",
    "END",
];

/// Calls listed unless another number is asked for: a screen full.
const LIMIT: usize = 30;

/// List calls, newest first, or show one of them with what was said.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  voicebus calls                        the newest calls
  voicebus calls --active               calls that are not over
  voicebus calls --number +12015550142  calls with this number
  voicebus calls show CA123             one call and its transcript
  voicebus calls --json | jq '.calls[].id'")]
pub struct Args {
    #[command(subcommand)]
    one: Option<One>,

    /// Only calls that are not over.
    #[arg(long)]
    active: bool,

    /// Only calls of this session: the whole key, or what follows `agent:main:`.
    #[arg(long, value_name = "KEY", value_parser = parse_session)]
    session: Option<SessionKey>,

    /// Only calls with this number: + and digits.
    #[arg(long, value_name = "NUMBER", value_parser = E164::parse)]
    number: Option<E164>,

    /// At most so many, up to 1000. By default 30.
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    limit: Option<usize>,

    /// Print JSON, numbers and all.
    #[arg(long, global = true)]
    json: bool,

    /// Show phone numbers in full.
    #[arg(long, global = true)]
    numbers: bool,

    #[command(flatten)]
    target: Target,
}

/// What a router does not tell in one answer is refused rather than left out in silence.
fn parse_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit @ 1..=CALLS_PER_ANSWER_MAX) => Ok(limit),
        _ => Err(format!(
            "must be a number from 1 to {CALLS_PER_ANSWER_MAX}; `--session` and `--active` choose among more calls"
        )),
    }
}

#[derive(Debug, clap::Subcommand)]
enum One {
    /// Show one call, or one command, and what was said. Needs no router.
    Show {
        /// The call, or the command (i-…).
        #[arg(value_name = "ID", value_parser = CallId::parse)]
        id: CallId,
    },
}

/// Lists calls, or shows one.
///
/// # Errors
/// When NATS or the router does not answer.
pub async fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    unless_reader_left(match &args.one {
        Some(One::Show { id }) => show::run(id, &args, out).await,
        None => list(&args, out).await,
    })
}

async fn list(args: &Args, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let connection = args.target.observer().await?;
    let query = CallsQuery {
        active: args.active,
        session: args.session.as_ref().map(ToString::to_string),
        number: args.number.as_ref().map(ToString::to_string),
        limit: Some(args.limit.unwrap_or(LIMIT)),
    };
    let answer = service::calls(&connection, &query)
        .await
        .map_err(no_answer)?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        return Ok(Exit::Fine);
    }
    let numbers = Numbers::shown_if(args.numbers);
    for line in overview(&answer, numbers, Utc::now(), &Local) {
        writeln!(out, "{line}")?;
    }
    Ok(Exit::Fine)
}

/// What to do when the router is silent.
fn no_answer(error: service::Error) -> anyhow::Error {
    match error {
        service::Error::Nobody { .. } => anyhow::anyhow!(
            "the router does not answer, so nobody knows which calls there are; start it with `voicebus up` or `voicebus router`, and see `voicebus doctor`"
        ),
        service::Error::Failed { .. } => anyhow::Error::new(error)
            .context("the router gives no usable answer; see `voicebus doctor`"),
        service::Error::Refused { .. } => anyhow::Error::new(error).context("the router refuses"),
    }
}

fn overview<Z: TimeZone>(
    answer: &CallsAnswer,
    numbers: Numbers,
    now: Timestamp,
    zone: &Z,
) -> Vec<String>
where
    Z::Offset: std::fmt::Display,
{
    let shown = answer.calls.len();
    let active = match answer.active {
        0 => "no call is going on".to_owned(),
        1 => "1 call is going on".to_owned(),
        many => format!("{many} calls are going on"),
    };
    if shown == 0 {
        return vec![format!("no call to show; {active}")];
    }
    let rows: Vec<_> = answer
        .calls
        .iter()
        .map(|view| row(view, numbers, now, zone))
        .collect();
    let mut lines = table::lines(HEAD, &rows);
    lines.push(format!("{shown} shown; {active}"));
    lines
}

fn row<Z: TimeZone>(view: &CallView, numbers: Numbers, now: Timestamp, zone: &Z) -> [String; 9]
where
    Z::Offset: std::fmt::Display,
{
    let call = &view.call;
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    // A call that was first heard of in its middle has no beginning.
    let started = call.initiated_at.or(call.answered_at);
    let length = call
        .answered_at
        .map(|answered| when::length(call.ended_at.unwrap_or(now) - answered));
    [
        clean(&call.id),
        clean(&call.state),
        or_dash(call.direction.as_deref().map(clean)),
        or_dash(call.number.as_deref().map(|number| numbers.in_text(number))),
        short_session(&call.session, numbers),
        or_dash(started.map(|at| when::moment(at, now, zone))),
        or_dash(length),
        call.utterances.to_string(),
        call.end_reason.as_deref().map(clean).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;
    use serde_json::json;

    use super::*;

    fn answer() -> CallsAnswer {
        serde_json::from_value(json!({ "active": 1, "calls": [
            {
                "id": "rtc_inb_1", "state": "active", "direction": "inbound", "number": "+12015550142",
                "session": "agent:main:voice:12015550142", "session_rule": "scope", "utterances": 3,
                "initiated_at": "2026-11-22T14:00:00Z", "answered_at": "2026-11-22T14:00:02Z",
                "last_at": "2026-11-22T14:01:00Z", "sequence": 5,
            },
            {
                "id": "CAa4c123b1612dd272d1371c17149d4395", "state": "ended", "direction": "outbound",
                "number": "+33199001234", "session": "agent:bob:main", "session_rule": "command",
                "utterances": 0, "initiated_at": "2026-11-20T10:00:00Z",
                "ended_at": "2026-11-20T10:00:20Z", "end_reason": "no-answer",
                "last_at": "2026-11-20T10:00:20Z", "sequence": 3,
            },
            {
                "id": "CA\u{1b}[2J", "state": "unknown", "session": "agent:main:voice:call:ca1",
                "session_rule": "scope", "utterances": 1, "last_at": "2026-11-20T10:00:20Z", "sequence": 1,
            },
        ] }))
        .unwrap()
    }

    #[test]
    fn calls_line_up_and_hide_their_numbers() {
        let now = chrono::DateTime::parse_from_rfc3339("2026-11-22T14:03:32Z").unwrap();
        let zone = FixedOffset::east_opt(3_600).unwrap();
        let lines = overview(&answer(), Numbers::Masked, now.to_utc(), &zone);
        insta::assert_snapshot!(lines.join("\n"), @"
        CALL                                STATE    DIRECTION  NUMBER     SESSION         STARTED           LENGTH  SAID  END
        rtc_inb_1                           active   inbound    +1•••0142  voice:1•••0142  15:00:00          3m30s   3
        CAa4c123b1612dd272d1371c17149d4395  ended    outbound   +3•••1234  bob:main        2026-11-20 11:00  -       0     no-answer
        CA␛[2J                              unknown  -          -          voice:call:ca1  -                 -       1
        3 shown; 1 call is going on
        ");
    }

    #[test]
    fn no_call_is_a_sentence() {
        let none = CallsAnswer::default();
        let lines = overview(&none, Numbers::Masked, Utc::now(), &Utc);
        assert_eq!(lines, ["no call to show; no call is going on"]);
    }

    #[test]
    fn a_silent_router_is_a_sentence_with_a_way_out() {
        let nobody = service::Error::Nobody {
            subject: "voice.svc.calls.list",
            role: "router",
        };
        assert_eq!(
            no_answer(nobody).to_string(),
            "the router does not answer, so nobody knows which calls there are; start it with `voicebus up` or `voicebus router`, and see `voicebus doctor`"
        );
    }
}
