//! Is this a CloudEvents 1.0 event in structured JSON? Strict, and by the text of the
//! specification alone.

use serde_json::Value;

/// What is wrong with it.
pub fn mistakes(event: &Value) -> Vec<String> {
    let Some(event) = event.as_object() else {
        return vec!["not an object".to_owned()];
    };
    let mut mistakes = Vec::new();
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    for required in ["specversion", "id", "source", "type"] {
        if text(required).is_empty() {
            mistakes.push(format!("`{required}` is missing or empty"));
        }
    }
    if text("specversion") != "1.0" {
        mistakes.push("`specversion` is not 1.0".to_owned());
    }
    for (name, value) in event {
        let is_name = !name.is_empty()
            && name.len() <= 20
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if name != "data" && name != "data_base64" && !is_name {
            mistakes.push(format!("`{name}` is no name of an attribute"));
        }
        let is_value = match value {
            Value::String(text) => !text.chars().any(char::is_control),
            Value::Bool(_) => true,
            Value::Number(number) => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        if name != "data" && !is_value {
            mistakes.push(format!("`{name}` has a value that no attribute may have"));
        }
    }
    if let Some(time) = event.get("time")
        && !time.as_str().is_some_and(is_rfc_3339)
    {
        mistakes.push("`time` is not of RFC 3339".to_owned());
    }
    if event.contains_key("dataschema") && !is_absolute(text("dataschema")) {
        mistakes.push("`dataschema` is not an absolute URI".to_owned());
    }
    if event.contains_key("datacontenttype") && !text("datacontenttype").contains('/') {
        mistakes.push("`datacontenttype` is not a media type".to_owned());
    }
    if text("source")
        .chars()
        .any(|c| c.is_whitespace() || "<>\"{}|\\^`".contains(c))
    {
        mistakes.push("`source` is not a URI reference".to_owned());
    }
    if event.contains_key("data") && event.contains_key("data_base64") {
        mistakes.push("`data` and `data_base64` are both there".to_owned());
    }
    mistakes
}

/// RFC 3986, 4.3: a scheme and something after it.
fn is_absolute(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, rest)| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(allowed)
            && !rest.is_empty()
            && !rest.contains(char::is_whitespace)
    })
}

/// RFC 3339, 5.6, with days that exist.
pub fn is_rfc_3339(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked(10) else {
        return false;
    };
    let number = |text: &str, digits: usize| {
        let plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse::<u32>().ok()).flatten()
    };
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts[..] else {
        return false;
    };
    let (Some(year), Some(month), Some(day)) = (number(year, 4), number(month, 2), number(day, 2))
    else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    let Some(rest) = rest.strip_prefix(['T', 't']) else {
        return false;
    };
    let (clock, zone) = match rest.find(['Z', 'z', '+', '-']) {
        Some(place) => rest.split_at(place),
        None => return false,
    };
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let clock_of = |text: &str, limits: &[u32]| {
        let parts: Vec<&str> = text.split(':').collect();
        parts.len() == limits.len()
            && parts
                .iter()
                .zip(limits)
                .all(|(part, limit)| number(part, 2).is_some_and(|value| value <= *limit))
    };
    let zone_is_good = matches!(zone, "Z" | "z") || clock_of(&zone[1..], &[23, 59]);
    (1..=days).contains(&day)
        && clock_of(whole, &[23, 59, 60])
        && !fraction.is_empty()
        && fraction.bytes().all(|b| b.is_ascii_digit())
        && zone_is_good
}

#[test]
fn the_checker_knows_good_from_bad() {
    for good in [
        "2026-11-22T12:32:16Z",
        "2024-02-29t00:00:00.000001+05:30",
        "1990-12-31T23:59:60Z",
    ] {
        assert!(is_rfc_3339(good), "{good}");
    }
    for bad in [
        "2026-11-22 12:32:16Z",
        "2026-11-22T12:32:16",
        "2026-02-29T12:32:16Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T12:32:16.Z",
        "2026-11-22T12:32:16+0100",
        "2026-1-2T1:2:3Z",
    ] {
        assert!(!is_rfc_3339(bad), "{bad}");
    }
    let event = serde_json::json!({ "specversion": "1.0", "id": "1", "source": "/a", "type": "b" });
    assert_eq!(mistakes(&event), Vec::<String>::new());
    for (name, bad) in [
        ("id", serde_json::json!("")),
        ("source", serde_json::json!("a b")),
        ("camelCase", serde_json::json!("x")),
        ("nothing", Value::Null),
        ("dataschema", serde_json::json!("relative")),
        ("sequence", serde_json::json!(1_u64 << 40)),
    ] {
        let mut event = event.clone();
        event[name] = bad;
        assert_eq!(mistakes(&event).len(), 1, "{event}");
    }
}
