//! What stands in the path of a request.

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::Error;

/// The one name in a path, with its escapes read.
#[derive(Debug, Clone)]
pub struct NameInPath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for NameInPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let read = Path::<String>::from_request_parts(parts, state).await;
        read.map(|Path(name)| Self(name)).map_err(|_rejection| {
            Error::new(
                StatusCode::BAD_REQUEST,
                "invalid_path",
                "the path is not percent-encoded UTF-8",
            )
        })
    }
}
