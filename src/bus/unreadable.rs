//! Messages that the client cannot take in at all.
//!
//! The server stores headers as they come, without a look at them. The client, though, gives up the
//! whole connection when it meets headers that are no headers. Such a message never reaches a
//! worker, comes again for ever, takes the connection away from everybody each time, and behind it
//! its partition stands still. Whoever may publish an input or a command can send one, by mistake or
//! not.
//!
//! So after each lost connection the messages that our consumers wait for are looked at through the
//! API, which wraps them in JSON. One that cannot be taken in is buried with its body, and settled
//! from here: the subject of an acknowledgement says all that the server needs.

use std::str::FromStr;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::HeaderName;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Bus;
use super::advisory::GivenUp;
use super::connection::REQUEST_TIMEOUT;
use super::consume::Delivery;
use super::trouble::Trouble;
use crate::domain::Timestamp;

/// How soon a lost connection is noticed here.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Messages of one consumer that are looked at: the most that are on their way at once.
const LOOKED_AT_MAX: u64 = 64;

/// Looks after some consumers, until `stop`.
pub async fn run<G: GivenUp>(
    bus: &Bus,
    stop: &CancellationToken,
    consumers: Vec<String>,
    given_up: G,
) {
    let mut disconnects = bus.connection().disconnects();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_PAUSE) => {}
        }
        let now = bus.connection().disconnects();
        if now == disconnects || !bus.connection().is_connected() {
            continue;
        }
        let mut whole = true;
        for consumer in &consumers {
            if let Err(trouble) = sweep(bus, consumer, &given_up).await {
                let reason = trouble.reason();
                debug!(consumer, reason, "consumer not looked at");
                whole = false;
                break;
            }
        }
        if whole {
            disconnects = now;
        }
    }
}

async fn sweep<G: GivenUp>(bus: &Bus, consumer: &str, given_up: &G) -> Result<(), Trouble> {
    let subject = format!("CONSUMER.INFO.{}.{consumer}", G::STREAM);
    let Some(info) = request(bus, subject, json!({})).await? else {
        return Ok(());
    };
    let number = |place: &Value| place.as_u64().unwrap_or_default();
    if number(&info["num_ack_pending"]) == 0 {
        return Ok(());
    }
    let first = number(&info["ack_floor"]["stream_seq"]) + 1;
    let last = number(&info["delivered"]["stream_seq"]);
    // With one message on its way, the messages before it are those of other consumers.
    let first = match number(&info["num_ack_pending"]) {
        1 if info["config"]["max_ack_pending"] == 1 => last,
        _ => first.max(last.saturating_sub(LOOKED_AT_MAX - 1)),
    };
    for sequence in first..=last {
        let body = json!({ "seq": sequence });
        let subject = format!("STREAM.MSG.GET.{}", G::STREAM);
        let Some(found) = request(bus, subject, body).await? else {
            continue;
        };
        if let Some(delivery) = unreadable(sequence, bus.epoch(), &found["message"]) {
            bury(bus, consumer, given_up, &delivery).await?;
        }
    }
    Ok(())
}

async fn bury<G: GivenUp>(
    bus: &Bus,
    consumer: &str,
    given_up: &G,
    delivery: &Delivery,
) -> Result<(), Trouble> {
    let reason = "the headers cannot be read; they are not kept";
    given_up.bury(delivery, "bad-headers", reason).await?;
    let sequence = delivery.stream_sequence;
    warn!(consumer, sequence, "message with bad headers is settled");
    let ack = format!("$JS.ACK.{}.{consumer}.1.{sequence}.1.0.0", G::STREAM);
    let client = bus.connection().client();
    let sent = client.publish(ack, "+ACK".into()).await;
    sent.map_err(|error| Trouble::Wait(error.to_string()))
}

/// The message, if the client could not take it in.
fn unreadable(sequence: u64, epoch: u64, message: &Value) -> Option<Delivery> {
    let headers = decoded(message["hdrs"].as_str()?)?;
    if is_readable(&headers) {
        return None;
    }
    let stored_at = message["time"].as_str().unwrap_or_default();
    Some(Delivery {
        subject: message["subject"].as_str().unwrap_or_default().to_owned(),
        headers: HeaderMap::new(),
        payload: decoded(message["data"].as_str().unwrap_or_default())
            .unwrap_or_default()
            .into(),
        stream_sequence: sequence,
        epoch,
        attempt: 1,
        stored_at: chrono::DateTime::parse_from_rfc3339(stored_at)
            .map_or(Timestamp::UNIX_EPOCH, |at| at.to_utc()),
    })
}

/// Whether the client takes headers in, as it reads them itself. (The server cuts a status out.)
fn is_readable(headers: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(headers) else {
        return false;
    };
    let mut lines = text.lines();
    lines
        .next()
        .is_some_and(|version| version.starts_with("NATS/1.0"))
        && lines
            .filter(|line| !line.is_empty() && !line.starts_with(char::is_whitespace))
            .all(|line| {
                line.split_once(':')
                    .is_some_and(|(name, _)| HeaderName::from_str(name).is_ok())
            })
}

/// Asks the API; `None` when there is no such thing.
async fn request(bus: &Bus, subject: String, body: Value) -> Result<Option<Value>, Trouble> {
    let jetstream = bus.connection().jetstream();
    let asked = jetstream.request::<_, _, Value>(subject, &body);
    match tokio::time::timeout(REQUEST_TIMEOUT, asked).await {
        Ok(Ok(answer)) if answer.get("error").is_none() => Ok(Some(answer)),
        Ok(Ok(answer)) if answer["error"]["code"] == 404 => Ok(None),
        Ok(Ok(answer)) => Err(Trouble::Wait(answer["error"].to_string())),
        Ok(Err(error)) => Err(Trouble::Wait(error.to_string())),
        Err(_elapsed) => Err(Trouble::Wait("no answer in time".to_owned())),
    }
}

/// Base64 as the server writes it.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0u32);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            // Only the low eight bits are wanted; those above were written before.
            bytes.push((bits >> count).to_le_bytes()[0]);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_judged_as_the_client_reads_them() {
        for good in [
            "NATS/1.0\r\n\r\n",
            "NATS/1.0 404 No Messages\r\n\r\n",
            "NATS/1.0\r\na: b\r\nc:d\r\n\r\n",
            "NATS/1.0\r\na: b\r\n continued\r\n\r\n",
        ] {
            assert!(is_readable(good.as_bytes()), "{good:?}");
        }
        for bad in [
            &b"NATS/1.0\r\nb\xffd: x\r\n\r\n"[..],
            b"NATS/1.0\r\na b: x\r\n\r\n",
            b"NATS/1.0\r\nno colon\r\n\r\n",
            b"HTTP/1.1\r\na: b\r\n\r\n",
            b"",
        ] {
            assert!(!is_readable(bad), "{bad:?}");
        }
    }

    #[test]
    fn base64_is_read_back() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("/w==", b"\xff"),
            ("+/8=", b"\xfb\xff"),
            ("TkFUUw==", b"NATS"),
            ("AAEC", b"\x00\x01\x02"),
        ] {
            assert_eq!(decoded(text).as_deref(), Some(bytes), "{text}");
        }
        assert_eq!(decoded("a b"), None);
    }
}
