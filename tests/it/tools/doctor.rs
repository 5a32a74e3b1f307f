//! `voicebus doctor`.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use voicebus::cli::{Exit, doctor};

use super::calls::with_router;
use super::{Stage, args, args_at};
use crate::harness::{Bus, Nats, Relaxed};
use voicebus::bus::server::User;

async fn examined(nats: &Nats, words: &[&str]) -> (Value, Exit) {
    examined_at(nats.url(), words).await
}

async fn examined_at(url: &str, words: &[&str]) -> (Value, Exit) {
    let mut out = Vec::new();
    let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
    let exit = doctor::run(args_at(url, &words), &mut out).await.unwrap();
    (serde_json::from_slice(&out).unwrap(), exit)
}

fn levels(report: &Value) -> Vec<(&str, &str)> {
    let checks = report["checks"].as_array().unwrap();
    checks
        .iter()
        .map(|check| {
            (
                check["name"].as_str().unwrap(),
                check["level"].as_str().unwrap(),
            )
        })
        .collect()
}

/// An ingress that answers every request so.
async fn ingress(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /ready HTTP/1.1\r\n"));
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_server_without_streams_needs_provisioning() {
    let nats = Nats::start().await;
    let (report, exit) = examined(&nats, &[]).await;
    assert_eq!(exit, Exit::Wrong);
    assert_eq!(levels(&report), [("NATS", "fine"), ("streams", "wrong")]);
    assert_eq!(
        report["checks"][1]["advice"],
        "make what is missing with `voicebus provision`"
    );
}

#[tokio::test]
async fn who_is_missing_is_named() {
    let stage = Stage::set().await;
    let (report, exit) = examined(&stage.nats, &[]).await;
    assert_eq!(exit, Exit::Wrong);
    assert_eq!(
        levels(&report),
        [
            ("NATS", "fine"),
            ("streams", "fine"),
            ("durability", "note"),
            ("room", "fine"),
            ("dead letters", "fine"),
            ("router", "wrong"),
            ("inputs", "wrong"),
            ("egress", "wrong"),
            ("commands", "wrong"),
        ]
    );
}

#[tokio::test]
async fn a_server_that_acknowledges_too_early_is_wrong_unless_that_is_wanted() {
    let level = |report: &Value| {
        let found = levels(report);
        let found = found.iter().find(|(name, _)| *name == "durability");
        found.unwrap().1.to_owned()
    };
    let relaxed = Relaxed::start().await;
    let mut provision = relaxed.run("provision", &["--durability", "relaxed"]);
    assert!(provision.ended().await.success());
    let url = relaxed.url_of(User::Observer);
    let (report, _) = examined_at(&url, &[]).await;
    assert_eq!(level(&report), "wrong", "{report:#}");
    let (report, _) = examined_at(&url, &["--durability", "relaxed"]).await;
    assert_eq!(level(&report), "fine", "{report:#}");

    let bus = Bus::provisioned().await;
    let password = bus.server.credentials().password(User::Agent).reveal();
    let with_user = format!("://agent:{password}@");
    let url = bus.server.url().replacen("://", &with_user, 1);
    let (report, _) = examined_at(&url, &[]).await;
    assert_eq!(level(&report), "fine", "{report:#}");
}

#[tokio::test]
async fn a_router_at_work_is_well_and_a_lost_consumer_is_not() {
    let stage = Stage::set().await;
    let stop = with_router(&stage).await;
    let ready = ingress("200 OK").await;
    let (report, _) = examined(&stage.nats, &["--http", &ready]).await;
    let found = levels(&report);
    for well in ["router", "inputs", "ingress"] {
        assert!(found.contains(&(well, "fine")), "{report:#}");
    }
    stop.cancel();
    let jetstream = stage.bus.connection().jetstream();
    let gone: Value = jetstream
        .request("CONSUMER.DELETE.VOICE_IN.p7".to_owned(), &json!({}))
        .await
        .unwrap();
    assert_eq!(gone["success"], true);
    let (report, exit) = examined(&stage.nats, &[]).await;
    assert_eq!(exit, Exit::Wrong);
    assert_eq!(
        report["checks"][1]["found"],
        "missing: consumer VOICE_IN > p7"
    );
}

#[tokio::test]
async fn readiness_needs_no_nats() {
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = nowhere.local_addr().unwrap().to_string();
    drop(nowhere);
    let nats = Nats::start().await;
    for (url, text, expected) in [
        (
            format!("http://{}/", ingress("200 OK").await),
            "ready\n",
            Exit::Fine,
        ),
        (
            ingress("503 Service Unavailable").await,
            "not ready: it answers 503 Service Unavailable\n",
            Exit::Wrong,
        ),
        (closed, "not ready: nobody listens there\n", Exit::Wrong),
        (
            "http://[".to_owned(),
            "not ready: not a URL that can be asked\n",
            Exit::Wrong,
        ),
    ] {
        let mut out = Vec::new();
        let exit = doctor::run(args(&nats, &["--ready", &url]), &mut out).await;
        assert_eq!(String::from_utf8(out).unwrap(), text);
        assert_eq!(exit.unwrap(), expected);
    }
}
