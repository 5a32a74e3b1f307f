//! Records that cannot be written or read: nothing is dialled, and it is said why.

use serde_json::{Value, json};
use voicebus::simulate::Race;

use super::{publish, stand_in, up_with_server};
use crate::harness::{Up, reached};

async fn dialling(up: &Up, wanted: &str) {
    reached(&format!("dialling to be {wanted}"), async || {
        let status = up.http.get("/status").await.json();
        let dialling = status["egress"]["dialling"].clone();
        (dialling == wanted)
            .then_some(())
            .ok_or_else(|| dialling.to_string())
    })
    .await;
}

fn wish(number: &str) -> Value {
    json!({ "to": number, "openclaw_session_id": "s", "message": "Hello" })
}

#[tokio::test]
async fn a_bucket_of_records_that_is_nearly_full_takes_no_new_dials_and_says_so() {
    let (up, server) = up_with_server(Race::Seeded).await;
    let feed = up.observer.feed().await;
    let first = up.http.post("/openclaw/call", &wish("+12015550120")).await;
    assert_eq!(first.status, 200, "{}", first.text());

    let egress = async_nats::jetstream::new(up.connect("egress").await);
    let records = egress.get_key_value("VOICE_INTENT").await.unwrap();
    let filler = vec![b'x'; 900_000];
    records.put("filler", filler.into()).await.unwrap();
    let provision = async_nats::jetstream::new(up.connect("provision").await);
    let bytes_max = async |bytes: i64| {
        let stream = provision.get_stream("KV_VOICE_INTENT").await.unwrap();
        let mut config = stream.cached_info().config.clone();
        config.max_bytes = bytes;
        provision.update_stream(config).await.unwrap();
    };
    bytes_max(960_000).await;
    dialling(&up, "records-full").await;
    let answer = up.http.post("/openclaw/call", &wish("+12015550121")).await;
    assert_eq!((answer.status, &*answer.refusal()), (503, "refused"));
    assert!(answer.text().contains("VOICE_INTENT"), "{}", answer.text());
    let agent = up.connect("agent").await;
    let dial = json!({ "to": "+12015550122", "session": "s" });
    publish(&agent, "wish", "wish", &dial).await;
    let refused = feed.hears("wish", "command.refused").await;
    assert_eq!(refused.json["data"]["command"]["code"], "records-full");
    let metrics = up.http.get("/metrics").await.text();
    assert!(
        metrics.contains("voicebus_egress_records_used 0.9"),
        "{metrics}"
    );

    bytes_max(536_870_912).await;
    dialling(&up, "open").await;
    let answer = up.http.post("/openclaw/call", &wish("+12015550123")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(server.calls().len(), 2);
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn a_count_of_dials_that_cannot_be_read_lets_nothing_pass() {
    let (up, server) = up_with_server(Race::Seeded).await;
    let egress = async_nats::jetstream::new(up.connect("egress").await);
    let counts = egress.get_key_value("VOICE_LIMIT").await.unwrap();
    counts.put("dials", "garbage".into()).await.unwrap();
    let answer = up.http.post("/openclaw/call", &wish("+12015550121")).await;
    assert_eq!((answer.status, &*answer.refusal()), (503, "refused"));
    assert!(
        answer.text().contains("cannot be read"),
        "{}",
        answer.text()
    );
    assert!(server.calls().is_empty());
    assert_eq!(up.observer.messages("VOICE_DLQ").await, 0);

    // What the README says to do about it.
    let provision = async_nats::jetstream::new(up.connect("provision").await);
    let stream = provision.get_stream("KV_VOICE_LIMIT").await.unwrap();
    stream.purge().await.unwrap();
    let answer = up.http.post("/openclaw/call", &wish("+12015550122")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    server.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn a_word_to_go_on_that_cannot_be_read_is_none_and_holds_nobody_up() {
    let (up, server) = up_with_server(Race::Seeded).await;
    let egress = async_nats::jetstream::new(up.connect("egress").await);
    let records = egress.get_key_value("VOICE_INTENT").await.unwrap();
    records
        .put("egress.resumed", "garbage".into())
        .await
        .unwrap();
    let address = server.addr();
    server.stop().await;
    let up = up.restart().await;
    let server = stand_in(address, &up.http, Race::Seeded).await;
    dialling(&up, "open").await;
    let answer = up.http.post("/openclaw/call", &wish("+12015550121")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(up.log().contains("cannot be read"));
    server.stop().await;
    up.stop().await;
}
