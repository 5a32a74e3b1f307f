//! Counting requests by route, outcome and code, and how long they take.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::metrics;

/// The stable word of the error that an answer tells of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code(pub &'static str);

/// A layer that counts the requests to these paths; others count together as `other`.
pub async fn measured(
    State(paths): State<&'static [&'static str]>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let path = request.extensions().get::<MatchedPath>();
    let route = path
        .and_then(|path| paths.iter().find(|known| **known == path.as_str()))
        .copied()
        .unwrap_or("other");
    let response = next.run(request).await;
    let outcome = match response.status().as_u16() {
        ..400 => "accepted",
        400..500 => "refused",
        500.. => "unavailable",
    };
    let code = response.extensions().get::<Code>();
    let code = code.map_or("ok", |code| code.0);
    metrics::request(route, outcome, code, started.elapsed());
    response
}
