//! A stream of dead letters that takes nothing.

use serde_json::json;

use super::{Stage, ringing, said, started};
use crate::harness::reached;

impl Stage {
    /// How many inputs VOICE_IN has on a subject.
    async fn inputs_on(&self, subject: &str) -> u64 {
        let filter = json!({ "subjects_filter": subject });
        let info = self.api("STREAM.INFO.VOICE_IN".to_owned(), filter).await;
        info["state"]["subjects"][subject].as_u64().unwrap_or(0)
    }
}

#[tokio::test]
async fn poison_that_finds_no_room_comes_again_later_and_holds_up_nobody() {
    let stage = Stage::set().await;
    let _router = stage.router().await;
    let ringing_of = |call: &str| stage.subject(call, "ringing");
    stage.publish(&ringing_of("CAfirst"), "garbage").await;
    stage.parked(1).await;
    stage
        .change("VOICE_DLQ", |config| config.max_messages = 1)
        .await;

    stage.input("CA1", "ev_1", started("+12015550142")).await;
    stage.publish(&ringing_of("CA1"), "garbage").await;
    stage.input("CA1", "ev_2", started("+12015550143")).await;
    let other = stage.neighbour("CA1");
    stage.input(&other, "ev_3", ringing()).await;
    stage.input("CA1", "ev_4", said("hello")).await;
    stage.told(&other, "state.ringing", 1).await;
    stage.told("CA1", "transcript.user", 1).await;
    // The poison has been tried by then, and is not done.
    assert_eq!(stage.letters().await.len(), 1);
    // It comes again, and again in vain.
    reached("poison that comes again", async || {
        match stage.inputs_on(&ringing_of("CA1")).await {
            count @ 0..3 => Err(format!("{count} inputs")),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(stage.letters().await.len(), 1);

    stage
        .change("VOICE_DLQ", |config| config.max_messages = -1)
        .await;
    let letters = stage.parked(3).await;
    let mut found: Vec<(&str, &str)> = letters[1..]
        .iter()
        .map(|letter| (letter.reason.as_str(), letter.subject().unwrap()))
        .collect();
    found.sort_unstable();
    let beginnings = stage.subject("CA1", "started");
    assert_eq!(
        found,
        [
            ("contradiction", beginnings.as_str()),
            ("undecodable", &ringing_of("CA1")),
        ]
    );
    let garbage = letters.iter().find(|one| one.reason == "undecodable");
    assert_eq!(garbage.unwrap().body, "garbage");
    stage.told("CA1", "error.occurred", 2).await;
    stage.input("CA1", "ev_5", said("goodbye")).await;
    stage.told("CA1", "transcript.user", 2).await;
    // Once each, however often it came.
    let mut story = stage.story("CA1").await;
    story.sort_unstable();
    assert_eq!(
        story,
        [
            "error.occurred",
            "error.occurred",
            "state.initiated",
            "transcript.user",
            "transcript.user"
        ]
    );
    assert_eq!(stage.letters().await.len(), 3);
}
