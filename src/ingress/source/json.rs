//! Strict JSON: one text, one meaning.
//!
//! Parsers differ in what they make of a repeated key, a byte order mark or an overflowing number,
//! and what two parsers read differently can pass one and hurt behind the other. So such texts are
//! refused here, before anything looks at them.
//!
//! A whole number beyond 64 bits is accepted but kept as the nearest `f64`; no field that is read
//! is of that kind, and the body is stored beside the event as it came.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use thiserror::Error as ThisError;

/// Deepest nesting of objects and arrays. Real events nest 2 deep; whoever reads the event after
/// us may recurse, so the bound is far below what a stack stands.
pub const DEPTH_MAX: usize = 64;

/// Why bytes are not strict JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum Error {
    /// Nothing there but blanks.
    #[error("the body is empty")]
    Empty,
    /// Some other encoding, or broken UTF-8.
    #[error("the body is not valid UTF-8")]
    NotUtf8,
    /// RFC 8259 forbids it to senders, and readers differ.
    #[error("the body begins with a byte order mark")]
    ByteOrderMark,
    /// Not JSON, or a number that overflows.
    #[error("the body is not valid JSON at line {line} column {column}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 0 or 1; a hint.
        column: usize,
    },
    /// An object names one key twice.
    #[error("the body has an object with a repeated key")]
    DuplicateKey,
    /// Nested beyond [`DEPTH_MAX`].
    #[error("the body nests objects or arrays more than {DEPTH_MAX} deep")]
    TooDeep,
}

impl Error {
    /// A stable word for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty_body",
            Self::NotUtf8 => "invalid_utf8",
            Self::ByteOrderMark => "byte_order_mark",
            Self::Syntax { .. } => "invalid_json",
            Self::DuplicateKey => "duplicate_key",
            Self::TooDeep => "too_deep",
        }
    }
}

/// Reads one JSON text.
///
/// # Errors
/// When the bytes are not UTF-8 JSON with one meaning; see [`Error`].
pub fn parse(bytes: &[u8]) -> Result<Value, Error> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(Error::ByteOrderMark);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::NotUtf8)?;
    if text.trim_ascii().is_empty() {
        return Err(Error::Empty);
    }
    let refusal = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let strict = Strict {
        depth: 0,
        refusal: &refusal,
    };
    let read = strict
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|error| {
        refusal.take().unwrap_or(Error::Syntax {
            line: error.line(),
            column: error.column(),
        })
    })
}

/// Builds a value and refuses on the way what serde_json would let pass. The refusal travels
/// beside serde's error, which carries nothing but text.
#[derive(Clone, Copy)]
struct Strict<'r> {
    depth: usize,
    refusal: &'r Cell<Option<Error>>,
}

impl Strict<'_> {
    fn refuse<E: de::Error>(self, why: Error) -> E {
        self.refusal.set(Some(why));
        E::custom("refused")
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(self.refuse(Error::TooDeep));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let seed = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(seed)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let seed = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(self.refuse(Error::DuplicateKey));
            }
            object.insert(key, entries.next_value_seed(seed)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(text: &str) -> &'static str {
        match parse(text.as_bytes()) {
            Ok(_) => "ok",
            Err(error) => error.code(),
        }
    }

    #[test]
    fn bytes_that_are_not_one_json_text_are_refused() {
        for (bytes, expected) in [
            (&b""[..], "empty_body"),
            (b" \r\n\t", "empty_body"),
            (b"\xef\xbb\xbf{}", "byte_order_mark"),
            (b"\xff\xfe{\0}\0", "invalid_utf8"),
            (b"{\"a\":\"\xc0\xa0\"}", "invalid_utf8"),
            (b"{\0}\0", "invalid_json"),
            (b"{} {}", "invalid_json"),
            (b"{}x", "invalid_json"),
            (b"{'a':1}", "invalid_json"),
            (b"{\"a\":1,}", "invalid_json"),
            (b"// note\n{}", "invalid_json"),
            (b"[NaN]", "invalid_json"),
            (b"[01]", "invalid_json"),
            (b"[1e999]", "invalid_json"),
            (b"[-1e999]", "invalid_json"),
            (b"\"\\ud800\"", "invalid_json"),
            (b"\"\\udc00\\ud800\"", "invalid_json"),
            (b"\"a\nb\"", "invalid_json"),
            (b"\x0c{}", "invalid_json"),
        ] {
            let found = parse(bytes).map_err(Error::code).err();
            assert_eq!(found, Some(expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_repeated_key_is_refused_at_any_depth_and_through_escapes() {
        assert_eq!(code(r#"{"a":1,"a":1}"#), "duplicate_key");
        assert_eq!(code(r#"{"call_id":1,"call_\u0069d":1}"#), "duplicate_key");
        assert_eq!(code(r#"[{"x":[{"a":1,"b":2,"a":3}]}]"#), "duplicate_key");
        assert_eq!(code(r#"{"a":{"a":{"a":1}},"b":{"a":1}}"#), "ok");
        assert_eq!(code(r#"{"a":1,"A":1}"#), "ok");
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(code(&nested(DEPTH_MAX)), "ok");
        assert_eq!(code(&nested(DEPTH_MAX + 1)), "too_deep");
        assert_eq!(code(&"[".repeat(100_000)), "too_deep");
        assert_eq!(code(&"{\"a\":".repeat(1000)), "too_deep");
    }

    #[test]
    fn numbers_that_nothing_reads_do_not_refuse_the_body() {
        assert_eq!(
            code("[1208925819614629174706176, -0.0, 1e-999, 18446744073709551615]"),
            "ok"
        );
    }

    #[test]
    fn an_error_never_repeats_the_content() {
        for text in [r#"{"secret":"x","secret":"x"}"#, r#"{"a":secret}"#] {
            let said = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(!said.contains("secret"), "{said}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_json()) {
            prop_assert_eq!(parse(value.to_string().as_bytes()), Ok(value));
        }

        #[test]
        fn nothing_is_accepted_that_serde_json_refuses(text in "[\\[\\]{}:,\"a-c0-9eE.+ \\\\u-]{0,24}") {
            if let Ok(value) = parse(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(value));
            }
        }
    }
}
