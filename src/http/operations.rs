//! `/live` and `/ready`: what whoever keeps a role running asks for.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

/// Says why something is not ready, or nothing.
type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What must hold before a process takes work. Clones share their checks: a door that is opened
/// early also tells of what is added later.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Arc<Mutex<Vec<(&'static str, Check)>>>,
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

    /// What is missing, by name.
    #[must_use]
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks
            .iter()
            .filter_map(|(name, check)| check().err().map(|why| (*name, why)))
            .collect()
    }
}

/// The routes.
pub fn routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
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
    let missing: Vec<Value> = missing
        .into_iter()
        .map(|(what, why)| json!({ "what": what, "why": why }))
        .collect();
    (
        status,
        Json(json!({ "ready": missing.is_empty(), "missing": missing })),
    )
}
