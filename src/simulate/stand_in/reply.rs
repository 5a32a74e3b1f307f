//! Answers in the server's words: `{"detail": …}`, a text for its own errors and a list for a body it cannot read.

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use serde_json::{Value, json};

/// An answer before it is on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    pub fn ok(body: &impl Serialize) -> Self {
        Self::json(200, body)
    }

    pub fn json(status: u16, body: &impl Serialize) -> Self {
        let body =
            serde_json::to_string(body).expect("structs with text keys always have a JSON form");
        Self { status, body }
    }

    /// An error of the server itself.
    pub fn detail(status: u16, text: &str) -> Self {
        Self::json(status, &json!({ "detail": text }))
    }

    /// 422: what the validation in front of the server did not like.
    pub fn invalid(mistakes: Vec<Mistake>) -> Self {
        #[derive(Serialize)]
        struct Details {
            detail: Vec<Mistake>,
        }
        Self::json(422, &Details { detail: mistakes })
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// Marks a response which is not to be sent: the connection is closed in its place.
#[derive(Debug, Clone, Copy)]
pub struct HangUp;

/// The response that stands for closing the connection.
pub fn hang_up() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(HangUp);
    response
}

/// The first half of an answer, and then the end of the connection.
pub fn half(reply: &Reply) -> Response<Body> {
    let length = reply.body.len();
    let half = reply.body.as_bytes().iter().take(length / 2).copied();
    let parts = [
        Ok(Bytes::from_iter(half)),
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
    ];
    let mut response = Response::new(Body::from_stream(stream::iter(parts)));
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length.into());
    response
}

/// A good answer that never ends.
pub fn endless() -> Response<Body> {
    let spaces = Bytes::from_static(&[b' '; 16 * 1024]);
    let parts = stream::repeat_with(move || Ok::<_, std::convert::Infallible>(spaces.clone()));
    Response::new(Body::from_stream(parts))
}

/// One entry of a 422 list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mistake {
    #[serde(rename = "type")]
    kind: &'static str,
    loc: Vec<Value>,
    msg: String,
    input: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    ctx: Option<Value>,
}

impl Mistake {
    pub fn new(kind: &'static str, loc: &[&str], msg: &str, input: Value) -> Self {
        let loc = loc.iter().map(|part| Value::from(*part)).collect();
        Self {
            kind,
            loc,
            msg: msg.to_owned(),
            input,
            ctx: None,
        }
    }

    pub fn context(self, ctx: Value) -> Self {
        Self {
            ctx: Some(ctx),
            ..self
        }
    }
}

/// The body of `POST /call`, as far as the server reads it. Other fields are ignored and kept nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DialRequest {
    pub to: String,
    pub caller_id: Option<String>,
    pub message: Option<String>,
}

impl DialRequest {
    /// Reads a body; the error is the 422.
    pub fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, Reply> {
        if body.is_empty() {
            return Err(Reply::invalid(vec![Mistake::new(
                "missing",
                &["body"],
                "Field required",
                Value::Null,
            )]));
        }
        if !is_json(headers) {
            let text = String::from_utf8_lossy(body).into_owned();
            return Err(Reply::invalid(vec![not_an_object(Value::from(text))]));
        }
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            let mut mistake =
                Mistake::new("json_invalid", &["body"], "JSON decode error", json!({}));
            mistake
                .loc
                .push(Value::from(error.column().saturating_sub(1)));
            Reply::invalid(vec![mistake.context(json!({ "error": "Expecting value" }))])
        })?;
        let fields = match &value {
            Value::Object(fields) => fields,
            Value::Null => {
                return Err(Reply::invalid(vec![Mistake::new(
                    "missing",
                    &["body"],
                    "Field required",
                    Value::Null,
                )]));
            }
            other => return Err(Reply::invalid(vec![not_an_object(other.clone())])),
        };
        let mut mistakes = Vec::new();
        let mut text = |name: &str, optional: bool| match fields.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            None | Some(Value::Null) if optional => None,
            None => {
                mistakes.push(Mistake::new(
                    "missing",
                    &["body", name],
                    "Field required",
                    value.clone(),
                ));
                None
            }
            Some(other) => {
                let msg = "Input should be a valid string";
                mistakes.push(Mistake::new(
                    "string_type",
                    &["body", name],
                    msg,
                    other.clone(),
                ));
                None
            }
        };
        let (to, caller_id, message) = (
            text("to", false),
            text("caller_id", true),
            text("message", true),
        );
        match to {
            Some(to) if mistakes.is_empty() => Ok(Self {
                to,
                caller_id,
                message,
            }),
            _ => Err(Reply::invalid(mistakes)),
        }
    }
}

fn not_an_object(input: Value) -> Mistake {
    let msg = "Input should be a valid dictionary or object to extract fields from";
    Mistake::new("model_attributes_type", &["body"], msg, input)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<DialRequest, Reply> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json; charset=utf-8"),
        );
        DialRequest::parse(&headers, body.as_bytes())
    }

    fn mistake_of(body: &str) -> (String, String) {
        let reply = parse(body).unwrap_err();
        assert_eq!(reply.status, 422);
        let value: Value = serde_json::from_str(&reply.body).unwrap();
        let first = &value["detail"][0];
        (
            first["type"].as_str().unwrap().to_owned(),
            first["loc"].to_string(),
        )
    }

    #[test]
    fn unknown_fields_and_nulls_are_fine() {
        let request = parse(r#"{"to":"+1","caller_id":null,"x":{"y":1}}"#).unwrap();
        assert_eq!(
            request,
            DialRequest {
                to: "+1".to_owned(),
                ..DialRequest::default()
            }
        );
    }

    #[test]
    fn bodies_which_cannot_be_read_are_422_with_a_list() {
        let cases = [
            ("", "missing", r#"["body"]"#),
            ("null", "missing", r#"["body"]"#),
            ("{}", "missing", r#"["body","to"]"#),
            (r#"{"to":null}"#, "string_type", r#"["body","to"]"#),
            (r#"{"to":17}"#, "string_type", r#"["body","to"]"#),
            (
                r#"{"to":"+1","message":5}"#,
                "string_type",
                r#"["body","message"]"#,
            ),
            ("[]", "model_attributes_type", r#"["body"]"#),
            ("{to}", "json_invalid", r#"["body",1]"#),
        ];
        for (body, kind, loc) in cases {
            assert_eq!(
                mistake_of(body),
                (kind.to_owned(), loc.to_owned()),
                "{body}"
            );
        }
        let without_type =
            DialRequest::parse(&HeaderMap::new(), br#"{"to":"+12015550123"}"#).unwrap_err();
        assert!(
            without_type.body.contains("model_attributes_type"),
            "{}",
            without_type.body
        );
    }
}
