//! What only a person may decide.

use serde_json::json;
use voicebus::simulate::Race;

use super::{publish, told, up_with_server};
use crate::harness::reached;

/// A backup of NATS that is older than the last dial: what was dialled since looks as if it had not
/// been.
#[tokio::test]
async fn after_a_restored_backup_nothing_is_dialled_until_a_person_says_so() {
    let (up, server) = up_with_server(Race::Seeded).await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let dial = json!({ "to": "+12015550123", "session": "s" });
    publish(&agent, "first", "1", &dial).await;
    feed.hears("first", "command.confirmed").await;
    up.observer.worked_off("VOICE_CMD").await;

    let backup = tempfile::tempdir().unwrap();
    let store = |data: &std::path::Path| data.join("nats");
    let up = up
        .restart_after(|data| copy(&store(data), backup.path()))
        .await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    publish(&agent, "second", "2", &dial).await;
    feed.hears("second", "command.confirmed").await;
    up.observer.worked_off("VOICE_CMD").await;

    let up = up
        .restart_after(|data| {
            std::fs::remove_dir_all(store(data)).unwrap();
            copy(backup.path(), &store(data));
        })
        .await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    let soon = (chrono::Utc::now() + chrono::TimeDelta::seconds(5)).to_rfc3339();
    let again = json!({ "to": "+12015550123", "session": "s", "deadline": soon });
    publish(&agent, "second", "again", &again).await;
    feed.hears("second", "command.expired").await;
    assert_eq!(server.calls().len(), 2);
    let status = up.http.get("/status").await.json();
    assert_eq!(status["egress"]["dialling"], "safe-mode");
    let why = status["egress"]["safe_mode"].as_str().unwrap();
    assert!(why.contains("KV_VOICE_INTENT"), "{why}");
    let health = up.http.get("/health").await.json();
    assert_eq!(health["status"], "degraded");

    // Another start does not make it forget.
    let up = up.restart().await;
    let feed = up.observer.feed().await;
    let agent = up.connect("agent").await;
    publish(&agent, "third", "3", &dial).await;
    feed.hears("third", "command.accepted").await;
    let (code, said) = up.tool(&["call", "resume", "--yes"]).await;
    assert_eq!(code, 0, "{said}");
    feed.hears("third", "command.confirmed").await;
    assert_eq!(server.calls().len(), 3);
    reached("dialling to be open", async || {
        let status = up.http.get("/status").await.json();
        match &status["egress"]["dialling"] {
            open if open == "open" => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    assert_eq!(told(&feed, "third").len(), 2);
    server.stop().await;
    up.stop().await;
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
