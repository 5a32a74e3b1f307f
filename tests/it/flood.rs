//! More than an ingress can take: it says so, in bounded memory, and goes on.

use futures_util::future::join_all;
use reqwest::StatusCode;
use voicebus::bus::streams::{self, provision};

use crate::harness::{Ingress, Nats, Proxy, read_stream};

/// Senders at once, each with an event of this many bytes: 200 MB together.
const SENDERS: usize = 400;
const SIZE: usize = 500_000;
/// 8 MiB of bodies, twice that for what is made of them, and what 400 connections cost.
const GROWTH_MAX_MB: u64 = 64;

/// The most memory that a process ever had, in MB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() / 1_000
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_flood_of_large_events_is_answered_503_without_growth_of_memory() {
    let nats = Nats::start().await;
    provision(&nats.jetstream().await, &streams::Options::default())
        .await
        .unwrap();
    let proxy = Proxy::to(nats.url()).await;
    let ingress = Ingress::start(proxy.url(), &[]).await;
    assert_eq!(ingress.post("CA0", "before").await.0, StatusCode::OK);
    let before = peak(ingress.pid());

    // What is published waits for an answer, so nothing leaves the ingress.
    proxy.hold_answers();
    let text = "x".repeat(SIZE);
    let flood = (0..SENDERS).map(|sender| {
        let (ingress, text) = (&ingress, &text);
        async move { ingress.post(&format!("CA{sender}"), text).await }
    });
    let live = async {
        // Other doors answer meanwhile.
        for _ in 0..20 {
            assert_eq!(ingress.get("/live").await.0, StatusCode::OK);
        }
    };
    let (answers, ()) = tokio::join!(join_all(flood), live);
    for (status, answer) in answers {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    }
    let grown = peak(ingress.pid()).saturating_sub(before);
    assert!(grown <= GROWTH_MAX_MB, "grown by {grown} MB");

    // The senders come again, and everything is there once.
    proxy.forward_again();
    for sender in 0..10 {
        let call = format!("CA{sender}");
        while ingress.post(&call, &text).await.0 != StatusCode::OK {}
    }
    let stored = read_stream(&nats.client().await, "VOICE_IN", "voice.in.>").await;
    for sender in 0..10 {
        let call = format!(".CA{sender}.");
        let large = stored
            .iter()
            .filter(|message| message.subject.contains(&call) && message.payload.len() >= SIZE);
        assert_eq!(large.count(), 1, "{call}");
    }
}
