//! `/health`, in the shape the replaced bridges gave, and `/status` for people.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{SecondsFormat, Utc};

use super::Ingress;
use super::answers::{Health, NatsStatus, SpoolStatus, Status};
use crate::bus::service::{self, CallsQuery};

/// How voicebus is: always 200 while the process lives, the body says the rest.
#[utoipa::path(get, path = "/health", tag = "operations", responses((status = 200, body = Health)))]
pub(super) async fn health(State(ingress): State<Ingress>) -> Json<Health> {
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
    Json(Health {
        status: if well { "healthy" } else { "degraded" },
        nats: if connected { "healthy" } else { "unreachable" },
        router: if active.is_some() {
            "healthy"
        } else {
            "unreachable"
        },
        main_server: server,
        dialling,
        spool: match depth {
            None => "off",
            Some(_) if spooled == 0 => "empty",
            Some(_) => "waiting",
        },
        active_calls: active,
        timestamp: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
    })
}

/// What this ingress has done, and what it sees of the others.
#[utoipa::path(get, path = "/status", tag = "operations", responses((status = 200, body = Status)))]
pub(super) async fn status(State(ingress): State<Ingress>) -> Response {
    let connection = ingress.bus.connection();
    let (active, egress) = tokio::join!(ingress.active_calls(), service::egress_status(connection));
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        started_at: ingress.started_at,
        nats: NatsStatus {
            connected: connection.is_connected(),
            disconnects: connection.disconnects(),
            denials: connection.denials(),
        },
        acknowledged: ingress.bus.durability().cloned(),
        streams: ingress.bus.canaries().watched(),
        events: &ingress.counters,
        spool: ingress.spool(),
        active_calls: active,
        egress: egress.ok(),
    })
    .into_response()
}

impl Ingress {
    fn spool(&self) -> Option<SpoolStatus> {
        let gauge = self.gauge();
        let depth = gauge.depth()?;
        let age = depth.oldest.map(|oldest| {
            let age = (Utc::now() - oldest).as_seconds_f64();
            // The clock may have been set back.
            age.max(0.0)
        });
        Some(SpoolStatus {
            events: depth.events,
            bytes: depth.bytes,
            set_aside: depth.aside,
            oldest_age_seconds: age,
            stalled: gauge.stalled(),
        })
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
