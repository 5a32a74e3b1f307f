//! Reads the fields of one JSON object, with errors that name the field.
//!
//! A field that is null counts as missing: the contracts that are read here make no difference.

use serde_json::{Map, Value};

use super::{Error, timestamp};
use crate::domain::Timestamp;
use crate::domain::ids::CallId;
use crate::domain::input::Direction;

/// How times without a zone are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clock {
    /// As local time of the sender's machine.
    Local(chrono_tz::Tz),
    /// Not at all.
    Zoned,
}

impl Clock {
    fn read(self, text: &str) -> Result<Timestamp, timestamp::Error> {
        match self {
            Self::Local(zone) => timestamp::parse(text, zone),
            Self::Zoned => timestamp::parse_zoned(text),
        }
    }
}

/// The fields of one object; none when the object itself is missing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    /// Where the object stands, with a dot behind; for error messages.
    path: &'static str,
    map: Option<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    /// The fields of a whole body.
    pub(super) fn of_body(body: &'a Value) -> Result<Self, Error> {
        let map = body.as_object().ok_or(Error::Body { expected: "object" })?;
        Ok(Self::of_map(map))
    }

    pub(super) fn of_map(map: &'a Map<String, Value>) -> Self {
        Self {
            path: "",
            map: Some(map),
        }
    }

    /// The fields of `data`.
    pub(super) fn of_data(data: Option<&'a Value>) -> Result<Self, Error> {
        let map = match data {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(_) => {
                return Err(Error::WrongType {
                    field: "data".to_owned(),
                    expected: "an object",
                });
            }
        };
        Ok(Self { path: "data.", map })
    }

    /// Whether the object is there at all.
    pub(super) fn is_present(&self) -> bool {
        self.map.is_some()
    }

    /// The object as JSON without blanks, keys in order.
    pub(super) fn canonical(&self) -> Option<String> {
        let map = self.map?;
        // serde_json's map is in order by itself; a test sees to it that it stays so.
        Some(serde_json::to_string(map).expect("a JSON object can be written"))
    }

    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// A field of any type.
    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::WrongType {
                field: self.path(key),
                expected: "a string",
            }),
        }
    }

    /// A text that must be there.
    pub(super) fn text_required(&self, key: &str) -> Result<&'a str, Error> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    /// A number.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.value(key)
            .map(|value| {
                value.as_f64().ok_or_else(|| Error::WrongType {
                    field: self.path(key),
                    expected: "a number",
                })
            })
            .transpose()
    }

    /// A time.
    pub(super) fn time(&self, key: &str, clock: Clock) -> Result<Option<Timestamp>, Error> {
        self.text(key)?
            .map(|text| {
                clock.read(text).map_err(|reason| Error::Timestamp {
                    field: self.path(key),
                    reason,
                })
            })
            .transpose()
    }

    /// Who called whom; an empty text says nothing.
    pub(super) fn direction(&self, key: &str) -> Result<Option<Direction>, Error> {
        match self.text(key)? {
            None | Some("") => Ok(None),
            Some(text) => match Direction::parse(text) {
                Some(direction) => Ok(Some(direction)),
                None => Err(Error::Direction {
                    field: self.path(key),
                }),
            },
        }
    }

    /// The id of the call, which must be there.
    pub(super) fn call_id(&self, key: &str) -> Result<CallId, Error> {
        CallId::parse(self.text_required(key)?).map_err(|reason| Error::CallId {
            field: self.path(key),
            reason,
        })
    }

    pub(super) fn missing(&self, key: &str) -> Error {
        Error::Missing {
            field: self.path(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_is_missing_and_another_type_is_wrong() {
        let body = json!({"a": null, "b": 1, "c": "x", "d": "up"});
        let fields = Fields::of_body(&body).unwrap();
        assert_eq!(fields.text("a"), Ok(None));
        assert_eq!(fields.text("z"), Ok(None));
        assert_eq!(fields.text("c"), Ok(Some("x")));
        assert_eq!(fields.text("b").unwrap_err().code(), "wrong_type");
        assert_eq!(
            fields.text_required("a").unwrap_err().code(),
            "missing_field"
        );
        assert_eq!(fields.number("c").unwrap_err().code(), "wrong_type");
        assert_eq!(
            fields.direction("d").unwrap_err().code(),
            "invalid_direction"
        );
    }

    #[test]
    fn errors_name_the_place_of_the_field() {
        let data = json!({"content": 5});
        let fields = Fields::of_data(Some(&data)).unwrap();
        let said = fields.text("content").unwrap_err().to_string();
        assert_eq!(said, "`data.content` must be a string");
    }

    #[test]
    fn the_canonical_form_has_no_order_and_no_blanks() {
        let of = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            Fields::of_data(Some(&value)).unwrap().canonical().unwrap()
        };
        assert_eq!(
            of("{\"b\": [1, 2.50],\n \"a\\u0062\": {\"y\": \"\\u00fc\", \"x\": null}}"),
            "{\"ab\":{\"x\":null,\"y\":\"ü\"},\"b\":[1,2.5]}"
        );
        assert_eq!(of("{}"), "{}");
        assert_eq!(Fields::of_data(None).unwrap().canonical(), None);
    }
}
