//! Until when a call may be placed, as a request says it.

use axum::http::StatusCode;
use chrono::TimeDelta;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::bus::envelope::command::DIAL_DEADLINE_MAX;
use crate::domain::Timestamp;
use crate::http::Error;

/// Seconds from now, or an instant of RFC 3339.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Deadline {
    Seconds(i64),
    Text(String),
}

impl Deadline {
    /// The instant.
    ///
    /// # Errors
    /// When it is none, is past, or lies too far ahead.
    pub fn at(self, now: Timestamp) -> Result<Timestamp, Error> {
        let at = match self {
            Self::Seconds(seconds) => after(seconds, now),
            Self::Text(text) => match text.parse() {
                Ok(seconds) => after(seconds, now),
                Err(_) => chrono::DateTime::parse_from_rfc3339(&text)
                    .ok()
                    .map(|at| at.to_utc()),
            },
        };
        at.filter(|at| *at > now && *at - now <= DIAL_DEADLINE_MAX)
            .ok_or_else(|| {
                let hours = DIAL_DEADLINE_MAX.num_hours();
                Error::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "invalid_deadline",
                    format!("`deadline` must be seconds from now, or an instant like 2026-11-22T12:00:00Z, at most {hours} hours ahead"),
                )
            })
    }
}

fn after(seconds: i64, now: Timestamp) -> Option<Timestamp> {
    now.checked_add_signed(TimeDelta::try_seconds(seconds)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_seconds_or_an_instant_and_lies_ahead() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let at = |json: &str| {
            let deadline: Deadline = serde_json::from_str(json).unwrap();
            deadline.at(now).ok().map(|at| (at - now).num_seconds())
        };
        assert_eq!(at("30"), Some(30));
        assert_eq!(at("\"30\""), Some(30));
        assert_eq!(at("\"2026-11-22T12:01:00Z\""), Some(60));
        assert_eq!(at("\"2026-11-22T14:01:00+02:00\""), Some(60));
        assert_eq!(at("86400"), Some(86_400));
        for bad in [
            "0",
            "-1",
            "86401",
            "9223372036854775807",
            "\"\"",
            "\"soon\"",
            "\"2026-11-22T12:00:00\"",
            "\"2026-11-22T11:59:59Z\"",
            "\"2036-11-22T12:00:00Z\"",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
