//! `/health`, in the shape the replaced bridges gave, and `/status` for people.

use axum::Json;
use axum::extract::State;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use super::Ingress;
use crate::bus::service::{self, CallsQuery};

/// `GET /health`: always 200 while the process lives; the body says how it is.
pub(super) async fn health(State(ingress): State<Ingress>) -> Json<Value> {
    let connected = ingress.bus.connection().is_connected();
    let (active, egress) = tokio::join!(
        ingress.active_calls(),
        service::egress_status(ingress.bus.connection())
    );
    let (server, dialling) = match egress {
        Ok(egress) => (egress.voice_server, egress.dialling),
        Err(_) => ("unknown".to_owned(), "unknown".to_owned()),
    };
    let depth = ingress.gauge().depth();
    let spooled = depth.map_or(0, |depth| depth.events + depth.aside);
    let well =
        connected && active.is_some() && server == "healthy" && dialling == "open" && spooled == 0;
    Json(json!({
        "status": if well { "healthy" } else { "degraded" },
        "nats": if connected { "healthy" } else { "unreachable" },
        "router": if active.is_some() { "healthy" } else { "unreachable" },
        "main_server": server,
        "dialling": dialling,
        "spool": match depth {
            None => "off",
            Some(_) if spooled == 0 => "empty",
            Some(_) => "waiting",
        },
        "activeCalls": active,
        "timestamp": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
    }))
}

/// `GET /status`: what this ingress has done, and what it sees of the others.
pub(super) async fn status(State(ingress): State<Ingress>) -> Json<Value> {
    let connection = ingress.bus.connection();
    let (active, egress) = tokio::join!(ingress.active_calls(), service::egress_status(connection));
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "startedAt": ingress.started_at,
        "nats": {
            "connected": connection.is_connected(),
            "disconnects": connection.disconnects(),
            "denials": connection.denials(),
        },
        "acknowledged": ingress.bus.durability(),
        "streams": ingress.bus.canaries().watched(),
        "events": &*ingress.counters,
        "spool": ingress.spool(),
        "activeCalls": active,
        "egress": egress.ok(),
    }))
}

impl Ingress {
    fn spool(&self) -> Option<Value> {
        let gauge = self.gauge();
        let depth = gauge.depth()?;
        let age = depth.oldest.map(|oldest| {
            let age = (Utc::now() - oldest).as_seconds_f64();
            // The clock may have been set back.
            age.max(0.0)
        });
        Some(json!({
            "events": depth.events,
            "bytes": depth.bytes,
            "setAside": depth.aside,
            "oldestAgeSeconds": age,
            "stalled": gauge.stalled(),
        }))
    }

    async fn active_calls(&self) -> Option<usize> {
        let query = CallsQuery {
            active: true,
            limit: Some(0),
            ..CallsQuery::default()
        };
        service::calls(self.bus.connection(), &query)
            .await
            .ok()
            .map(|answer| answer.active)
    }
}
