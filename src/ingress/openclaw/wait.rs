//! How long a request waits for the outcome of its command: `?wait=N`, or `Prefer: wait=N`
//! (RFC 7240), in seconds. Whoever stops waiting loses nothing.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, StatusCode};

use crate::bus::command::WAIT_MAX;
use crate::http::Error;

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How long a request waits that does not say. The old bridge's clients wait 30 s.
pub(super) const DEFAULT: Duration = Duration::from_secs(20);

/// The wait asked for, at most [`WAIT_MAX`].
///
/// # Errors
/// When the query says something that is no time. A preference that cannot be read is none.
pub(super) fn asked(headers: &HeaderMap, query: Option<&str>) -> Result<Duration, Error> {
    let in_query = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("wait="));
    let seconds = match in_query {
        Some(text) => Some(text.parse().map_err(|_error| {
            Error::new(
                StatusCode::BAD_REQUEST,
                "invalid_wait",
                "`wait` must be a number of seconds",
            )
        })?),
        None => preferred(headers),
    };
    Ok(seconds.map_or(DEFAULT, Duration::from_secs).min(WAIT_MAX))
}

fn preferred(headers: &HeaderMap) -> Option<u64> {
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .find_map(|preference| {
            let (name, value) = preference.split_once('=')?;
            let value = value.split(';').next()?.trim().trim_matches('"');
            (name.trim().eq_ignore_ascii_case("wait")).then(|| value.parse().ok())?
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(prefer: &[&str], query: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for line in prefer {
            headers.append(PREFER, line.parse().unwrap());
        }
        asked(&headers, query).ok().map(|wait| wait.as_secs())
    }

    #[test]
    fn the_query_comes_before_the_header_and_both_are_bounded() {
        assert_eq!(wait(&[], None), Some(20));
        assert_eq!(wait(&[], Some("wait=0")), Some(0));
        assert_eq!(wait(&[], Some("a=b&wait=5")), Some(5));
        assert_eq!(wait(&["wait=7"], Some("wait=5")), Some(5));
        assert_eq!(wait(&["respond-async, Wait=7; x=y"], None), Some(7));
        assert_eq!(wait(&["handling=strict", "wait=\"3\""], None), Some(3));
        assert_eq!(wait(&["wait=600"], None), Some(60));
        assert_eq!(wait(&["wait=soon"], None), Some(20));
        assert_eq!(wait(&[], Some("wait=soon")), None);
        assert_eq!(wait(&[], Some("wait=-1")), None);
    }
}
