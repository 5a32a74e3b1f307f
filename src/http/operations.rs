//! `/live`, `/ready`, `/status`, `/metrics` and `/openapi.json`: what whoever keeps a role running
//! asks for.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Error;
use super::auth::{Tokens, only_with};
use super::document::{BEARER, Behind, behind};
use crate::metrics::{self, Scrape, Source};

/// Says why something is not ready, or nothing.
type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Says more about a part.
type Account = Arc<dyn Fn() -> Value + Send + Sync>;

/// What must hold before a process takes work, and what else there is to say about its parts.
/// Clones share both: a door that is opened early also tells of what is added later.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Arc<Mutex<Vec<(&'static str, Check)>>>,
    accounts: Arc<Mutex<Vec<(&'static str, Account)>>>,
    sources: Arc<Mutex<Vec<Source>>>,
}

impl Readiness {
    /// Adds a check; `check` says what is missing.
    pub fn require(
        &self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.push((name, Arc::new(check)));
    }

    /// Adds what `/status` says about a part.
    pub fn tell(&self, part: &'static str, account: impl Fn() -> Value + Send + Sync + 'static) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.push((part, Arc::new(account)));
    }

    /// Adds what `/metrics` asks a part for.
    pub fn measure(&self, source: impl Fn(&mut Scrape) + Send + Sync + 'static) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.push(Arc::new(source));
    }

    /// All metrics as text.
    fn metrics(&self) -> Result<String, std::fmt::Error> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sources = sources.clone();
        let ready = f64::from(u8::from(self.missing().is_empty()));
        sources.push(Arc::new(move |scrape| {
            scrape.gauge("ready", "Whether all that must hold does", &[], ready);
        }));
        metrics::render(&sources)
    }

    /// What there is to say about each part.
    #[must_use]
    pub fn accounts(&self) -> Value {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let told = accounts
            .iter()
            .map(|(part, tell)| ((*part).to_owned(), tell()));
        Value::Object(told.collect())
    }

    /// What is missing, by name.
    #[must_use]
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if checks.is_empty() {
            // A door is opened before what is behind it says what it needs.
            return vec![("start", "nothing has begun yet".to_owned())];
        }
        checks
            .iter()
            .filter_map(|(name, check)| check().err().map(|why| (*name, why)))
            .collect()
    }
}

/// What a process says about the routes that it serves, as JSON.
#[derive(Clone)]
pub struct Document(Bytes);

impl Document {
    /// A document, written once.
    ///
    /// # Errors
    /// When it cannot be written, which is a mistake of ours.
    pub fn new(document: &OpenApi) -> Result<Self, serde_json::Error> {
        serde_json::to_vec_pretty(document).map(|json| Self(json.into()))
    }

    /// The JSON.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.0
    }
}

/// The doors that whoever reads has the token of.
const READING: Behind = Behind {
    opens_with: &[BEARER],
    refusals: &[401],
};

fn of_health() -> OpenApiRouter<Readiness> {
    let routes = OpenApiRouter::new()
        .routes(routes!(live))
        .routes(routes!(ready));
    let open = Behind {
        opens_with: &[],
        refusals: &[],
    };
    behind(routes, open)
}

fn of_metrics() -> OpenApiRouter<Readiness> {
    behind(OpenApiRouter::new().routes(routes!(metrics)), READING)
}

fn of_status() -> OpenApiRouter<Readiness> {
    behind(OpenApiRouter::new().routes(routes!(tell)), READING)
}

fn of_document() -> OpenApiRouter<Document> {
    behind(OpenApiRouter::new().routes(routes!(openapi)), READING)
}

/// What there is to say about [`routes()`].
#[must_use]
pub fn described() -> OpenApi {
    let mut document = of_health().merge(of_metrics()).into_openapi();
    document.merge(of_document().into_openapi());
    document
}

/// What there is to say about [`status`].
#[must_use]
pub fn described_status() -> OpenApi {
    of_status().into_openapi()
}

/// `/live` and `/ready`, which need no token, and `/metrics` and `/openapi.json`, for whoever shows
/// one.
pub fn routes(readiness: Readiness, tokens: Tokens, document: Document) -> Router {
    let measured = Router::from(of_metrics());
    let measured = measured.route_layer(from_fn_with_state(tokens.clone(), only_with));
    let described = Router::from(of_document());
    let described = described.route_layer(from_fn_with_state(tokens, only_with));
    Router::from(of_health())
        .merge(measured)
        .with_state(readiness)
        .merge(described.with_state(document))
}

/// `/status`, for a door that has none of its own.
pub fn status(readiness: Readiness, tokens: Tokens) -> Router {
    Router::from(of_status())
        .route_layer(from_fn_with_state(tokens, only_with))
        .with_state(readiness)
}

/// That a process lives.
#[derive(Serialize, ToSchema)]
struct Live {
    /// Always.
    live: bool,
}

/// Whether a process takes work.
#[derive(Serialize, ToSchema)]
struct Ready {
    ready: bool,
    /// What is missing.
    missing: Vec<Missing>,
}

/// Something without which a process is not ready.
#[derive(Serialize, ToSchema)]
struct Missing {
    /// A word.
    what: &'static str,
    /// A sentence.
    why: String,
}

/// How a role is that has no door of its own.
#[derive(Serialize, ToSchema)]
struct RoleStatus {
    version: &'static str,
    ready: bool,
    /// What is missing.
    missing: Vec<Missing>,
    /// What each part says about itself.
    #[schema(value_type = Object)]
    parts: Value,
}

/// That the process lives.
#[utoipa::path(get, path = "/live", tag = "operations", responses((status = 200, body = Live)))]
async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// Whether the process takes work, and what is missing if not.
#[utoipa::path(get, path = "/ready", tag = "operations", responses(
    (status = 200, body = Ready), (status = 503, description = "Not ready.", body = Ready)
))]
async fn ready(State(readiness): State<Readiness>) -> (StatusCode, Json<Ready>) {
    let missing = listed(readiness.missing());
    let ready = missing.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, missing }))
}

/// What is counted and measured, as OpenMetrics.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text"),
    (status = 500, body = super::error::Refusal)
))]
async fn metrics(State(readiness): State<Readiness>) -> Result<Response, Error> {
    match readiness.metrics() {
        Ok(text) => {
            let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
            Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
        }
        Err(_) => Err(Error::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "no_metrics",
            "the metrics cannot be written; this is a mistake in voicebus",
        )),
    }
}

/// How this role is.
#[utoipa::path(get, path = "/status", tag = "operations", responses((status = 200, body = RoleStatus)))]
async fn tell(State(readiness): State<Readiness>) -> Json<RoleStatus> {
    let missing = listed(readiness.missing());
    Json(RoleStatus {
        version: env!("CARGO_PKG_VERSION"),
        ready: missing.is_empty(),
        missing,
        parts: readiness.accounts(),
    })
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses((status = 200, body = Object)))]
async fn openapi(State(document): State<Document>) -> impl IntoResponse {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], document.0)
}

fn listed(missing: Vec<(&'static str, String)>) -> Vec<Missing> {
    let missing = missing.into_iter();
    missing.map(|(what, why)| Missing { what, why }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_with_nothing_behind_it_is_not_ready() {
        let readiness = Readiness::default();
        assert_eq!(readiness.missing().len(), 1);
        readiness.require("router", || Ok(()));
        assert_eq!(readiness.missing(), []);
    }
}
