//! Prints the public feed of voicebus: `subscriber URL [COUNT]`.
//! Leaves after COUNT events; without it, goes on.

use async_nats::jetstream::{self, consumer::AckPolicy, consumer::pull};
use async_nats::{ConnectOptions, ServerAddr};
use futures_util::StreamExt;
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), async_nats::Error> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or("nats://127.0.0.1:4222".to_owned());
    let mut left: i64 = args.next().map_or(Ok(0), |count| count.parse())?;
    let server: ServerAddr = url.parse()?;
    let (user, password) = (server.username(), server.password());
    let client = ConnectOptions::with_user_and_password(
        user.unwrap_or_default().to_owned(),
        password.unwrap_or_default().to_owned(),
    )
    .connect(server)
    .await?;

    // Made once, and found again the next time: the server remembers how far we have read.
    let stream = jetstream::new(client).get_stream("VOICE_EVENT").await?;
    let consumer = stream
        .create_consumer(pull::Config {
            durable_name: Some("example-rust".to_owned()),
            filter_subject: "voice.event.>".to_owned(),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: 1, // One after the other; with more, look at `sequence`.
            ..Default::default()
        })
        .await?;

    let mut feed = consumer
        .stream()
        .max_messages_per_batch(1)
        .messages()
        .await?;
    while let Some(message) = feed.next().await {
        // While the server is away there are errors, and then messages again.
        let Ok(message) = message else { continue };
        let event: Value = serde_json::from_slice(&message.payload)?;
        let text = |pointer| event.pointer(pointer).and_then(Value::as_str);
        println!(
            "{}\t{}\t{}\t{}",
            text("/subject").unwrap_or_default(),
            event["sequence"],
            text("/type")
                .unwrap_or_default()
                .replace("openclaw.voice.", ""),
            text("/data/transcript/text")
                .or(text("/data/call/end_reason"))
                .unwrap_or_default(),
        );
        message.double_ack().await?; // Only now does it count as read.
        left -= 1;
        if left == 0 {
            break;
        }
    }
    Ok(())
}
