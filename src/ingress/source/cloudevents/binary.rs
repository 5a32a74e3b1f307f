//! Binary mode: the attributes are headers, the body is the data.
//!
//! The value of a header is a quoted string or plain text, and in either percent-encoded UTF-8
//! (HTTP binding, 3.1.3.2).

use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use super::super::Error;
use super::super::fields::Fields;
use super::super::{Parsed, json};
use super::{Payload, event_of, is_json};

/// Prefix of the headers that are attributes.
const PREFIX: &str = "ce-";

/// Longest attribute looked at, in bytes, before decoding; what is read has tighter bounds.
const VALUE_LENGTH_MAX: usize = 8 * 1024;

pub(super) fn parse<'h>(
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    body: &[u8],
) -> Result<Parsed, Error> {
    let mut attributes = Map::new();
    let mut traceparent = None;
    let mut body_is_json = true;
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        if let Some(attribute) = name.strip_prefix(PREFIX) {
            let value = decode(attribute, value)?;
            if attributes.insert(attribute.to_owned(), value).is_some() {
                return Err(attribute_error(attribute, "it is there twice"));
            }
        } else if name == "content-type" {
            body_is_json = is_json(&String::from_utf8_lossy(value));
        } else if name == "traceparent" {
            traceparent = std::str::from_utf8(value).ok();
        }
    }
    if let Some(traceparent) = traceparent {
        attributes
            .entry("traceparent")
            .or_insert_with(|| Value::from(traceparent));
    }
    let data = match body {
        [] => None,
        _ if body_is_json => Some(json::parse(body)?),
        _ => None,
    };
    let payload = if body_is_json || body.is_empty() {
        Payload::Json(data.as_ref())
    } else {
        Payload::Opaque("another content type (`content-type`)")
    };
    event_of(Fields::of_map(&attributes), payload)
}

fn decode(attribute: &str, value: &[u8]) -> Result<Value, Error> {
    if value.len() > VALUE_LENGTH_MAX {
        return Err(attribute_error(attribute, "it is too long"));
    }
    let unquoted = match value {
        [b'"', quoted @ .., b'"'] => {
            unescape(quoted).ok_or_else(|| attribute_error(attribute, "its quotes do not match"))?
        }
        _ => value.to_vec(),
    };
    let text = percent_decode(&unquoted)
        .decode_utf8()
        .map_err(|_| attribute_error(attribute, "it is not UTF-8"))?;
    Ok(Value::from(text.into_owned()))
}

/// The inside of a quoted string, its backslashes resolved.
fn unescape(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => plain.push(*bytes.next()?),
            other => plain.push(*other),
        }
    }
    Some(plain)
}

/// Names the attribute only if that is a name; a header name is the sender's text too.
fn attribute_error(attribute: &str, reason: &'static str) -> Error {
    let is_name = attribute.len() <= 20 && attribute.bytes().all(|b| b.is_ascii_alphanumeric());
    let field = if is_name { attribute } else { "…" };
    Error::Attribute {
        field: format!("{PREFIX}{field}"),
        reason,
    }
}
