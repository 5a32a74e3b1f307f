//! What it costs to know who sent a webhook.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::Plan;
use super::load::Sample;
use super::report::{Row, Rows};
use crate::ingress::verify::{standard_webhooks, twilio};

/// A large webhook; usual ones have a tenth of it.
const BODY_SIZE: usize = 4096;
const TARGET: &str = "p99 < 0.05 ms";
const URL: &str = "https://hooks.example.com/webhook/twilio";
/// Two keys each, as in mid-rotation; the second one signs.
const KEYS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

pub(super) fn measure(plan: &Plan, progress: &impl Fn(&str)) -> anyhow::Result<Rows> {
    progress("verify: signatures over 4 kB");
    let time = plan.time / 4;
    let body = vec![b'x'; BODY_SIZE];
    let raw = sample(time, || {
        black_box(Sha256::digest(black_box(&body)));
        true
    })?;
    let standard = standard(time, &body)?;
    let twilio = twilio_form(time)?;
    let of = "SHA-256 of as much";
    let ratio = |sample: &Sample| raw.per_second() / sample.per_second();
    let rows = vec![
        Row::new(of.to_owned()).sample(&raw),
        Row::new("Standard Webhooks".to_owned())
            .sample(&standard)
            .ratio(ratio(&standard), of)
            .target(TARGET),
        Row::new("X-Twilio-Signature of a form".to_owned())
            .sample(&twilio)
            .ratio(ratio(&twilio), of)
            .target(TARGET),
    ];
    Ok(Rows {
        all: rows,
        ..Rows::default()
    })
}

fn standard(time: Duration, body: &[u8]) -> anyhow::Result<Sample> {
    let keys = KEYS.map(|key| format!("whsec_{}", STANDARD.encode(key)));
    let keys: Result<Vec<_>, _> = keys
        .iter()
        .map(|key| standard_webhooks::Key::parse(key))
        .collect();
    let keys = keys?;
    let now = chrono::Utc::now();
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEYS[1])?;
    mac.update(format!("wh_1.{}.", now.timestamp()).as_bytes());
    mac.update(body);
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let mut headers = HeaderMap::new();
    headers.insert(standard_webhooks::ID, HeaderValue::from_static("wh_1"));
    headers.insert(standard_webhooks::TIMESTAMP, now.timestamp().into());
    headers.insert(standard_webhooks::SIGNATURE, signature.parse()?);
    sample(time, || {
        standard_webhooks::verify(black_box(&keys), &headers, black_box(body), now).is_ok()
    })
}

fn twilio_form(time: Duration) -> anyhow::Result<Sample> {
    let tokens = ["1".repeat(32), "2".repeat(32)];
    let scheme = twilio::Scheme {
        tokens: tokens.iter().map(|text| twilio::Token::new(text)).collect(),
        algorithm: twilio::Algorithm::HmacSha1,
        url: twilio::PublicUrl::parse(URL)?,
    };
    // Thirty parameters, as many as a status callback has.
    let value = "%2B".repeat(BODY_SIZE / 30 / 3 - 2);
    let names: Vec<String> = (10..40).map(|number| format!("P{number}")).collect();
    let form: Vec<String> = names.iter().map(|name| format!("{name}={value}")).collect();
    let form = form.join("&");
    let mut mac = Hmac::<Sha1>::new_from_slice(tokens[1].as_bytes())?;
    mac.update(URL.as_bytes());
    for name in &names {
        mac.update(format!("{name}{}", value.replace("%2B", "+")).as_bytes());
    }
    let mut headers = HeaderMap::new();
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(header::CONTENT_TYPE, form_type);
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    headers.insert(twilio::SIGNATURE, signature.parse()?);
    sample(time, || {
        twilio::verify(&scheme, &headers, None, black_box(form.as_bytes())).is_ok()
    })
}

/// Does it again and again for a while, each time on the clock.
fn sample(time: Duration, mut once: impl FnMut() -> bool) -> anyhow::Result<Sample> {
    let start = Instant::now();
    let mut took = Vec::new();
    while start.elapsed() < time {
        let begun = Instant::now();
        let known = once();
        took.push(begun.elapsed());
        known
            .then_some(())
            .context("a signature of ours was not believed")?;
    }
    Ok(Sample::new(took, start.elapsed()))
}
