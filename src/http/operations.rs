//! `/live`, `/ready`, `/status` and `/metrics`: what whoever keeps a role running asks for.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::Error;
use super::auth::{Tokens, only_with};
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

/// `/live` and `/ready`, which need no token, and `/metrics`, for whoever shows one.
pub fn routes(readiness: Readiness, tokens: Tokens) -> Router {
    let measured = Router::new()
        .route("/metrics", get(metrics))
        .route_layer(from_fn_with_state(tokens, only_with));
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .merge(measured)
        .with_state(readiness)
}

/// `/status`, for a door that has none of its own.
pub fn status(readiness: Readiness, tokens: Tokens) -> Router {
    Router::new()
        .route("/status", get(tell))
        .route_layer(from_fn_with_state(tokens, only_with))
        .with_state(readiness)
}

async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, Json<Value>) {
    let missing = readiness.missing();
    let status = if missing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({ "ready": missing.is_empty(), "missing": listed(missing) })),
    )
}

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

async fn tell(State(readiness): State<Readiness>) -> Json<Value> {
    let missing = readiness.missing();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": missing.is_empty(),
        "missing": listed(missing),
        "parts": readiness.accounts(),
    }))
}

fn listed(missing: Vec<(&'static str, String)>) -> Vec<Value> {
    missing
        .into_iter()
        .map(|(what, why)| json!({ "what": what, "why": why }))
        .collect()
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
