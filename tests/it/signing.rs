//! The senders' side of the signature schemes.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

/// The key of [`standard_webhooks`], as a console shows it.
pub fn secret() -> String {
    format!("whsec_{}", STANDARD.encode([b'k'; 32]))
}

/// `webhook-signature` with [`secret`].
pub fn standard_webhooks(id: &str, timestamp: &str, content: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&[b'k'; 32]).unwrap();
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(content);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// `x-twilio-signature` of a form, in which whatever cannot be decoded stands for itself.
pub fn twilio(token: &str, url: &str, form: &[u8]) -> String {
    let decode = |text: &[u8]| {
        let text: Vec<u8> = text
            .iter()
            .map(|byte| if *byte == b'+' { b' ' } else { *byte })
            .collect();
        let bytes: Vec<u8> = percent_encoding::percent_decode(&text).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let pairs: BTreeSet<(String, String)> = form
        .split(|byte| *byte == b'&')
        .map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = pair.split_at(equals.unwrap_or(pair.len()));
            (decode(name), decode(value.get(1..).unwrap_or_default()))
        })
        .collect();
    let mut mac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).unwrap();
    mac.update(url.as_bytes());
    for (name, value) in pairs {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    STANDARD.encode(mac.finalize().into_bytes())
}
