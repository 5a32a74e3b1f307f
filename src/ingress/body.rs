//! Reading a request's body within bounds: of each body, and of all of them together.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use crate::http::Error;
use crate::telemetry::PRIVATE;

/// Longest body. What it says must fit into one message on the bus, with some room for the
/// envelope; the longest utterances that the real server was seen to send are 100 kB.
const BODY_SIZE_MAX: usize = 900 * 1024;
/// Most bytes of all bodies that are in memory at once: nine of the largest, thousands of usual
/// ones. 900 connections could bring 800 MB.
const ROOM: usize = 8 * 1024 * 1024;
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

/// The bodies of all requests under way.
#[derive(Debug, Clone)]
pub(super) struct Bodies {
    room: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(ROOM)),
        }
    }
}

/// A body. Its place is free for others when it is dropped.
#[derive(Debug)]
pub(super) struct Received {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl Deref for Received {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

impl Bodies {
    /// Reads a body whole.
    pub async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        wanted: ContentType,
    ) -> Result<Received, Error> {
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
        match tokio::time::timeout(BODY_TIMEOUT, self.collect(body)).await {
            Ok(read) => read.inspect(|body| {
                debug!(target: PRIVATE, body = %String::from_utf8_lossy(body), "body");
            }),
            Err(_elapsed) => Err(Error::new(
                StatusCode::REQUEST_TIMEOUT,
                "slow_body",
                "the body took too long",
            )),
        }
    }

    /// Takes room for what has come, not for what was announced: who only announces holds none.
    async fn collect(&self, body: Body) -> Result<Received, Error> {
        let mut place = self.room_for(0)?;
        let mut bytes = BytesMut::new();
        let mut parts = body.into_data_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| not_whole(&error))?;
            if bytes.len() + part.len() > BODY_SIZE_MAX {
                return Err(too_large());
            }
            place.merge(self.room_for(part.len())?);
            bytes.extend_from_slice(&part);
        }
        Ok(Received {
            bytes: bytes.freeze(),
            _place: place,
        })
    }

    fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.room)
            .try_acquire_many_owned(bytes)
            .map_err(|_| Error::unavailable("busy", "too many large requests are under way"))
    }
}

fn not_whole(error: &axum::Error) -> Error {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| {
        error.source()
    });
    let ended = causes.any(|cause| {
        let cause = cause.downcast_ref::<std::io::Error>();
        cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::UnexpectedEof)
    });
    Error {
        abandoned: ended,
        ..Error::new(
            StatusCode::BAD_REQUEST,
            "incomplete_body",
            "the body did not arrive whole",
        )
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

fn too_large() -> Error {
    Error::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body is larger than {BODY_SIZE_MAX} bytes"),
    )
}
