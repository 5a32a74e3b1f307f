//! A nats-server that takes nothing although it runs, one that forgets what it acknowledged, and
//! who notices.

use std::time::Duration;

use async_nats::{HeaderMap, Subscriber};
use futures_util::StreamExt;
use rustix::process::{Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use voicebus::bus::server::{Server, User};

use crate::harness::{
    Bus, Http, Nats, Options, Process, Relaxed, Up, as_pid, reached, reached_within, runs, said,
    server_config, within,
};

/// Until two canaries in a row were without an answer, some twenty seconds, and slack.
const ALARM: Duration = Duration::from_secs(40);

/// No file of the process may grow beyond so many bytes: writes fail as on a full disk, without a
/// disk of one's own. `None` gives it room again.
fn limit_files(pid: u32, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Some(as_pid(pid)), Resource::Fsize, limit).unwrap();
}

/// A stream of the `up`'s own user that takes nothing any more, until the server is started again.
async fn fill(up: &Up, pid: u32) {
    limit_files(pid, Some(0));
    let ingress = up.connect("ingress").await;
    let lost = async_nats::jetstream::new(ingress.clone());
    let taken = lost.publish("voicebus.canary.VOICE_IN", "".into()).await;
    taken.unwrap().await.unwrap_err();
    limit_files(pid, None);
}

fn nats_pid(up: &Up) -> u32 {
    let run = std::fs::read(up.data_dir().join("run.json")).unwrap();
    let run: Value = serde_json::from_slice(&run).unwrap();
    u32::try_from(run["nats_pid"].as_u64().unwrap()).unwrap()
}

#[tokio::test]
async fn up_starts_its_server_again_when_a_stream_can_write_no_more() {
    let up = Up::start(Options::default()).await;
    let before = nats_pid(&up);
    assert_eq!(
        up.http
            .post("/call-event", &said("rtc_1", "one"))
            .await
            .status,
        200
    );
    fill(&up, before).await;

    // The spool takes it while the stream does not.
    let answer = up.http.post("/call-event", &said("rtc_1", "two")).await;
    assert_eq!(answer.status, 200);
    reached_within(ALARM, "another nats-server", async || {
        let now = nats_pid(&up);
        (now != before).then_some(()).ok_or(format!("still {now}"))
    })
    .await;
    assert!(!runs(before));
    // Nothing that was answered 200 is missing.
    reached("both utterances", async || {
        let said = up.observer.read_back().await;
        let said = said
            .iter()
            .filter(|one| one.what() == "transcript.user")
            .count();
        (said == 2).then_some(()).ok_or(format!("{said} of 2"))
    })
    .await;
    reached("readiness", async || {
        let ready = up.http.get("/ready").await;
        (ready.status == 200)
            .then_some(())
            .ok_or(ready.json().to_string())
    })
    .await;
    up.stop().await;
}

#[tokio::test]
async fn a_server_is_started_again_for_a_complaint_that_lasts_and_for_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = server_config(dir.path()).await;
    config.unwell_patience = Duration::from_millis(200);
    let server = Server::start(config, CancellationToken::new())
        .await
        .unwrap();
    let pid = server.pid();
    server.complaints().say(Some("it takes nothing".to_owned()));
    within("another nats-server", server.restarted(0)).await;
    assert_ne!(server.pid(), pid);
    server.complaints().say(None);
    within("stop", server.stop()).await;
}

/// A role whose canaries are in trouble: it says so wherever somebody may look.
async fn alarmed(role: &Process, door: &Http, stream: &str, health: &mut Subscriber) {
    let told = reached_within(ALARM, "an alarm", async || {
        let answer = door.get("/ready").await;
        let told = answer.json().to_string();
        let is_told = answer.status == 503 && told.contains(stream);
        if is_told { Ok(told) } else { Err(told) }
    })
    .await;
    assert!(told.contains("takes no messages since"), "{told}");
    assert!(told.contains("make room on the disk"), "{told}");
    let status = door.get("/status").await.json().to_string();
    assert!(status.contains("silent"), "{status}");
    reached("a health change", async || {
        let heard = within("a health change", health.next()).await.unwrap();
        let heard: Value = serde_json::from_slice(&heard.payload).unwrap();
        assert_eq!(heard["status"], "unhealthy");
        let of_stream = heard["streams"].as_array().unwrap().iter();
        let mut of_stream = of_stream.filter(|one| one["stream"] == stream);
        let is_silent = of_stream.any(|one| one["state"] == "silent");
        is_silent.then_some(()).ok_or(heard.to_string())
    })
    .await;
    let log = role.log();
    let lines = log.lines().filter(|line| {
        line.contains("stream takes no messages") && line.contains(&format!("\"{stream}\""))
    });
    assert_eq!(lines.count(), 1, "{log}");
}

#[tokio::test]
async fn each_role_tells_of_a_stream_that_takes_nothing_and_of_its_end() {
    let bus = Bus::unwatched().await;
    let observer = bus.observer().await;
    let mut roles = Vec::new();
    for (role, stream) in [
        ("ingress", "VOICE_IN"),
        ("router", "VOICE_EVENT"),
        ("egress", "KV_VOICE_INTENT"),
    ] {
        let health = observer.client.subscribe(format!("voice.health.{role}"));
        let mut process = bus.role(role, &[]);
        let door = process.listens().await;
        ready(&door).await;
        roles.push((process, door, stream, health.await.unwrap()));
    }
    let pid = bus.server.pid().unwrap();
    limit_files(pid, Some(0));
    for (process, door, stream, health) in &mut roles {
        alarmed(process, door, stream, health).await;
    }
    // Room alone does not help; a new start does.
    kill_process(as_pid(pid), Signal::KILL).unwrap();
    within("a restart", bus.server.restarted(0)).await;
    for (process, door, ..) in roles {
        ready(&door).await;
        assert!(process.log().contains("stream takes messages again"));
        process.stop().await;
    }
}

async fn ready(door: &Http) {
    reached_within(ALARM, "readiness", async || {
        let answer = door.get("/ready").await;
        (answer.status == 200)
            .then_some(())
            .ok_or(answer.json().to_string())
    })
    .await;
}

#[tokio::test]
async fn canaries_are_stored_and_seen_by_nobody() {
    let bus = Bus::provisioned().await;
    let observer = bus.observer().await;
    let mut feed = observer.client.subscribe("voice.>").await.unwrap();
    observer.client.flush().await.unwrap();
    for (user, streams) in [
        (User::Ingress, &["VOICE_IN", "VOICE_CMD"][..]),
        (User::Router, &["VOICE_EVENT", "VOICE_DLQ"]),
        (
            User::Egress,
            &["KV_VOICE_INTENT", "KV_VOICE_LINK", "KV_VOICE_NUMBER"],
        ),
    ] {
        let role = bus.connect(user).await;
        for stream in streams {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-TTL", "1s");
            let subject = format!("voicebus.canary.{stream}");
            let sent = role
                .jetstream
                .publish_with_headers(subject, headers, "".into());
            let stored = within("a canary", sent.await.unwrap().into_future()).await;
            assert_eq!(stored.unwrap().stream, *stream);
        }
        role.assert_nothing_denied();
    }
    // No consumer has anything to do, and after a second nothing is left.
    for stream in ["VOICE_IN", "VOICE_CMD"] {
        for consumer in observer.consumers(stream).await {
            assert_eq!(consumer["num_pending"], 0, "{consumer}");
        }
    }
    for stream in ["VOICE_IN", "VOICE_CMD", "VOICE_EVENT", "VOICE_DLQ"] {
        reached("an empty stream", async || {
            let left = observer.messages_and_canaries(stream).await;
            (left == 0)
                .then_some(())
                .ok_or(format!("{left} in {stream}"))
        })
        .await;
    }
    // Whatever the server had to tell a plain subscriber, it has told before this.
    let router = bus.connect(User::Router).await;
    router
        .client
        .publish("voice.health.router", "last".into())
        .await
        .unwrap();
    let first = within("a message", feed.next()).await.unwrap();
    assert_eq!(first.payload, "last", "{}", first.subject);
}

#[tokio::test]
async fn a_server_that_acknowledges_too_early_is_refused_unless_that_is_wanted() {
    let nats = Relaxed::start().await;
    let refused = async |role: &str, args: &[&str]| {
        let mut process = nats.run(role, args);
        let status = process.ended().await;
        let told = process.log();
        assert_eq!(status.code(), Some(1), "{role}: {told}");
        assert!(told.contains("before they are on disk"), "{role}: {told}");
        assert!(told.contains("sync_interval: always"), "{role}: {told}");
    };
    refused("provision", &[]).await;
    let mut relaxed = nats.run("provision", &["--durability", "relaxed"]);
    assert!(relaxed.ended().await.success(), "{}", relaxed.log());
    for role in ["ingress", "router", "egress"] {
        let listen = ["--listen", "127.0.0.1:0"];
        refused(role, &listen).await;
        let args = [&listen[..], &["--durability", "relaxed"]].concat();
        let mut process = nats.run(role, &args);
        let door = process.listens().await;
        ready(&door).await;
        let status = door.get("/status").await.json().to_string();
        assert!(status.contains(r#"{"durability":"relaxed"}"#), "{status}");
        process.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_say_is_worked_with_and_spoken_of() {
    let nats = Nats::start().await;
    let dir = tempfile::tempdir().unwrap();
    let run = |role: &str, args: &[&str]| {
        let all = [&[role, "--nats-url", nats.url()], args].concat();
        Process::start(role, dir.path(), all, &[])
    };
    let mut provision = run("provision", &[]);
    assert!(provision.ended().await.success(), "{}", provision.log());
    let mut router = run("router", &["--listen", "127.0.0.1:0"]);
    let door = router.listens().await;
    ready(&door).await;
    let status = door.get("/status").await.json().to_string();
    assert!(status.contains("unverified"), "{status}");
    let log = router.log();
    assert!(log.contains("it is not known whether"), "{log}");
    router.stop().await;
}
