//! A denial looks like a time-out to whoever asked, so it must be told in other ways.

use rustix::process::{Signal, kill_process};

use crate::harness::{Bus, as_pid, reached, said};

#[tokio::test]
async fn what_the_server_denies_is_in_the_log_and_in_a_metric_at_once() {
    let bus = Bus::provisioned().await;
    let mut ingress = bus.role("ingress", &["--spool-dir", "spool"]);
    let http = ingress.ready().await;
    assert!(!ingress.log().contains("Permissions Violation"));

    // The first one is the ingress's.
    let accounts = bus.folder("nats/accounts.conf");
    let text = std::fs::read_to_string(&accounts).unwrap();
    let narrower = text.replacen("\"voice.in.>\"", "\"voice.nothing.>\"", 1);
    assert_ne!(narrower, text);
    std::fs::write(&accounts, narrower).unwrap();
    kill_process(as_pid(bus.server.pid().unwrap()), Signal::HUP).unwrap();

    let mut number = 0;
    reached("a word about what was denied", async || {
        number += 1;
        let answer = http
            .post("/call-event", &said("rtc_1", &number.to_string()))
            .await;
        // It is kept all the same.
        assert_eq!(answer.status, 200, "{}", answer.text());
        let log = ingress.log();
        let told = |line: &str| line.contains("Permissions Violation") && line.contains("ERROR");
        if log.lines().any(told) {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    let metrics = http.get("/metrics").await.text();
    let line = metrics
        .lines()
        .find(|line| line.starts_with("voicebus_nats_denials_total{role=\"ingress\"}"))
        .unwrap();
    let (_, count) = line.rsplit_once(' ').unwrap();
    assert!(count.parse::<f64>().unwrap() >= 1.0, "{line}");
    let status = http.get("/status").await.json();
    assert!(
        status.to_string().contains("\"denials\":")
            && !status.to_string().contains("\"denials\":0"),
        "{status}"
    );

    // Mended, nothing of it is lost.
    std::fs::write(&accounts, text).unwrap();
    kill_process(as_pid(bus.server.pid().unwrap()), Signal::HUP).unwrap();
    let observer = bus.observer().await;
    reached("everything that was answered 200", async || {
        let inputs = observer.inputs().await;
        if inputs == number {
            Ok(())
        } else {
            Err(format!("{inputs} of {number}"))
        }
    })
    .await;
    ingress.stop().await;
}
