//! What a scrape asks the parts for: how they are, and what they have counted anyway.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::Utc;

use crate::bus::Bus;
use crate::bus::canary::State;
use crate::egress::{Health, Room, VoiceServerState};
use crate::ingress::{self, committer::Gauge};
use crate::metrics::Scrape;
use crate::router;

pub(super) fn bus(scrape: &mut Scrape, role: &'static str, bus: &Bus) {
    let connection = bus.connection();
    let of_role = [("role", role)];
    let is_connected = one_if(connection.is_connected());
    let help = "Whether NATS is there";
    scrape.gauge("nats_connected", help, &of_role, is_connected);
    let help = "How often the connection to NATS was lost";
    scrape.counter("nats_disconnects", help, &of_role, connection.disconnects());
    let help = "What NATS did not permit: mistakes in its accounts";
    scrape.counter("nats_denials", help, &of_role, connection.denials());
    for watched in bus.canaries().watched() {
        let takes = match watched.state {
            State::Unknown | State::Unwatched { .. } => continue,
            State::Well => true,
            State::Silent { .. } | State::Refused { .. } => false,
        };
        let labels = [("role", role), ("stream", watched.stream)];
        let help = "Whether the stream took the last canaries";
        scrape.gauge("stream_writable", help, &labels, one_if(takes));
    }
}

pub(super) fn ingress(scrape: &mut Scrape, counters: &ingress::Counters, gauge: &Gauge) {
    let mut count = |name, help, counter: &AtomicU64| {
        scrape.counter(name, help, &[], counter.load(Ordering::Relaxed));
    };
    count(
        "ingress_events_accepted",
        "Events that were answered 200",
        &counters.accepted,
    );
    count(
        "ingress_events_duplicate",
        "Of these, events that were there already",
        &counters.duplicates,
    );
    count(
        "ingress_events_spooled",
        "Of the accepted, events that went to the spool first",
        &counters.spooled,
    );
    count(
        "ingress_events_parked",
        "Events of an unknown type, kept in the dead letters",
        &counters.parked,
    );
    count(
        "ingress_signatures_refused",
        "Requests whose signature was not believed",
        &counters.unverified,
    );
    count(
        "ingress_signatures_stale",
        "Of these, requests that were signed with a key of ours at another time: a clock is wrong",
        &counters.stale,
    );
    count(
        "ingress_events_drained",
        "Events that went from the spool to NATS",
        &counters.drained,
    );
    count(
        "ingress_events_unspooled",
        "Events that the spool had no room for, or that its disk did not take",
        &counters.spool_full,
    );
    count(
        "ingress_batches",
        "Atomic batches that were stored",
        &counters.batches,
    );
    count(
        "ingress_batch_fallbacks",
        "Batches that were refused, so that their events went one by one",
        &counters.batch_fallbacks,
    );
    let Some(depth) = gauge.depth() else {
        return;
    };
    let oldest = depth.oldest.map_or(0.0, |oldest| {
        // The clock may have been set back.
        (Utc::now() - oldest).as_seconds_f64().max(0.0)
    });
    for (name, help, value) in [
        ("spool_events", "Events in the spool", depth.events as f64),
        ("spool_bytes", "Bytes of these", depth.bytes as f64),
        (
            "spool_set_aside_events",
            "Events in the spool that NATS refuses for good",
            depth.aside as f64,
        ),
        (
            "spool_oldest_age_seconds",
            "How long the oldest event has been in the spool",
            oldest,
        ),
        (
            "spool_stalled",
            "Whether nothing leaves the spool",
            one_if(gauge.stalled().is_some()),
        ),
    ] {
        scrape.gauge(name, help, &[], value);
    }
}

pub(super) fn router(scrape: &mut Scrape, counters: &router::Counters) {
    for (outcome, counter) in [
        ("applied", &counters.applied),
        ("duplicate", &counters.duplicate),
        ("late", &counters.late),
        ("waiting", &counters.waiting),
        ("dead-letter", &counters.dead_letters),
        ("put-off", &counters.put_off),
    ] {
        let help = "Inputs by what came of them";
        let count = counter.load(Ordering::Relaxed);
        scrape.counter("router_inputs", help, &[("outcome", outcome)], count);
    }
    let conflicts = counters.conflicts.load(Ordering::Relaxed);
    let help = "Commits that had to be looked at again";
    scrape.counter("router_conflicts", help, &[], conflicts);
}

pub(super) fn egress(scrape: &mut Scrape, health: &Health, room: &Room, in_flight: usize) {
    let help = "Commands that are being carried out";
    scrape.gauge("egress_in_flight", help, &[], in_flight as f64);
    let help = "How much of the room for records of dials is used, from 0 to 1";
    scrape.gauge("egress_records_used", help, &[], room.used());
    let now = health.state().as_str();
    for state in [
        VoiceServerState::Unknown,
        VoiceServerState::Healthy { version: "" },
        VoiceServerState::Unhealthy,
        VoiceServerState::Unreachable,
    ] {
        let state = state.as_str();
        let help = "How the phone-call server is: 1 for one of the states";
        let labels = [("state", state)];
        scrape.gauge("voice_server", help, &labels, one_if(state == now));
    }
}

fn one_if(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
