//! What a caller gets to read when a request is not done: a status, a stable code, a sentence, and
//! whether trying again makes sense.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::measured::Code;

/// A request that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The HTTP status.
    pub status: StatusCode,
    /// A stable word for programs.
    pub code: &'static str,
    /// A sentence for people, without anything of the request's content.
    pub text: String,
    /// After how many seconds trying again makes sense, if it does.
    pub retry_after: Option<u32>,
    /// The command that the request became, when it became one: its outcome can be asked for.
    pub intent: Option<String>,
    /// The sender left before it had said all: nobody is there to be answered.
    pub abandoned: bool,
}

/// A refusal as it is sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Refusal {
    /// A stable word for programs.
    code: &'static str,
    /// A sentence for people.
    error: String,
    /// The same sentence.
    detail: String,
    /// Whether the same request may be taken later; `Retry-After` says when.
    retry: bool,
    /// The command that the request became, when it became one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    intent_id: Option<String>,
}

/// Marks an answer for which nobody waits: the connection is closed instead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abandoned;

impl Error {
    /// A request that would fail again.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            code,
            text: text.into(),
            retry_after: None,
            intent: None,
            abandoned: false,
        }
    }

    /// The same, about a command that was stored.
    #[must_use]
    pub fn about(self, intent: &str) -> Self {
        Self {
            intent: Some(intent.to_owned()),
            ..self
        }
    }

    /// A request that may succeed in a second.
    #[must_use]
    pub fn unavailable(code: &'static str, text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code,
            text: text.into(),
            retry_after: Some(1),
            intent: None,
            abandoned: false,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        // `error` is where the replaced session bridge had its sentence, `detail` where the
        // replaced webhook bridge had it.
        let body = Refusal {
            code: self.code,
            detail: self.text.clone(),
            error: self.text,
            retry: self.retry_after.is_some(),
            intent_id: self.intent,
        };
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(Code(self.code));
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.abandoned {
            response.extensions_mut().insert(Abandoned);
        }
        response
    }
}
