//! Reading a request's body within bounds.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;

use crate::http::Error;

/// Longest body. What it says must fit into one message on the bus, with some room for the
/// envelope; the longest utterances that the real server was seen to send are 100 kB.
const BODY_SIZE_MAX: usize = 900 * 1024;
/// How long a sender may take for the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Which content types a door takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentType {
    /// JSON, or none said: the real emitter's own clients do not all say it.
    JsonOrNone,
    /// JSON, said so: a browser page cannot say it without asking first, so that no page which an
    /// operator happens to open can dial.
    Json,
    /// Left to the parser, which knows more types.
    Any,
}

/// Reads a body whole.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    wanted: ContentType,
) -> Result<Bytes, Error> {
    check_content_type(headers, wanted)?;
    if headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| value.as_bytes() != b"identity")
    {
        return Err(Error::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "compressed bodies are not taken; send it plain",
        ));
    }
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > BODY_SIZE_MAX as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_SIZE_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_large(&error) => Err(too_large()),
        Ok(Err(_)) => Err(Error::new(
            StatusCode::BAD_REQUEST,
            "incomplete_body",
            "the body did not arrive whole",
        )),
        Err(_elapsed) => Err(Error::new(
            StatusCode::REQUEST_TIMEOUT,
            "slow_body",
            "the body took too long",
        )),
    }
}

fn check_content_type(headers: &HeaderMap, wanted: ContentType) -> Result<(), Error> {
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Error::new(
            StatusCode::BAD_REQUEST,
            "duplicate_header",
            "the Content-Type header is there twice",
        ));
    }
    let unsupported = || {
        Error::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_type",
            "this door takes `Content-Type: application/json` in UTF-8",
        )
    };
    match (wanted, line) {
        (ContentType::Any, _) | (ContentType::JsonOrNone, None) => Ok(()),
        (ContentType::Json, None) => Err(unsupported()),
        (ContentType::Json | ContentType::JsonOrNone, Some(line)) => {
            let text = line
                .to_str()
                .map_err(|_| unsupported())?
                .to_ascii_lowercase();
            let mut parts = text.split(';').map(str::trim);
            let is_json = parts.next() == Some("application/json");
            let is_utf8 = parts.all(|part| {
                part.strip_prefix("charset=")
                    .is_none_or(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8"))
            });
            if is_json && is_utf8 {
                Ok(())
            } else {
                Err(unsupported())
            }
        }
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    // axum wraps the limit's error; its text is the only mark it has in common with none other.
    std::error::Error::source(error)
        .is_some_and(|source| source.to_string().contains("length limit"))
}

fn too_large() -> Error {
    Error::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body is larger than {BODY_SIZE_MAX} bytes"),
    )
}
