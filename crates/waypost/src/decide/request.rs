//! A request as a line of input has it: a body, a text, or a body with headers.
//!
//! Part of `decide`.

use crate::data::not_json;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use waypost_wire::{ApiError, Code};

/// See the module.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) body: Vec<u8>,
    pub(crate) headers: HeaderMap,
}

/// The fields that say which kind of object a line is.
#[derive(Deserialize)]
struct Kind<'a> {
    text: Option<Value>,
    model: Option<Value>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
    headers: Option<BTreeMap<String, String>>,
}

impl Request {
    /// A chat of one user turn.
    pub(crate) fn of_text(text: &str, model: Option<&str>) -> Self {
        let mut body = json!({"messages": [{"role": "user", "content": text}]});
        if let Some(model) = model {
            body["model"] = json!(model);
        }
        Self { body: body.to_string().into_bytes(), headers: HeaderMap::new() }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// Says what the line is instead of a request.
    pub(super) fn read(line: &[u8]) -> Result<Self, ApiError> {
        let invalid = |message: String| ApiError::new(Code::InvalidJson, message);
        if !line.trim_ascii_start().starts_with(b"{") {
            // A list would pass for the fields in their order.
            return Err(invalid("The line is not a JSON object.".to_owned()));
        }
        let kind: Kind<'_> = serde_json::from_slice(line)
            .map_err(|error| invalid(format!("The line is {}.", not_json(&error))))?;
        let own = |body: &[u8], headers| Self { body: body.to_vec(), headers };
        let headers = headers(kind.headers.iter().flatten())?;
        match kind {
            Kind { request: Some(request), .. } => Ok(own(request.get().as_bytes(), headers)),
            Kind { messages: Some(_), .. } | Kind { input: Some(_), .. } | Kind { prompt: Some(_), .. } => {
                Ok(own(line, HeaderMap::new()))
            }
            Kind { text: Some(Value::String(text)), model, .. } => {
                Ok(Self { headers, ..Self::of_text(&text, model.as_ref().and_then(Value::as_str)) })
            }
            Kind { text: Some(_), .. } => {
                Err(ApiError::new(Code::InvalidType, "'text' must be a string.").param("text"))
            }
            Kind { .. } => {
                let message = "The line has none of 'messages', 'input', 'prompt', 'text' and 'request'.";
                Err(ApiError::new(Code::MissingParameter, message))
            }
        }
    }
}

/// Headers of these names and values.
///
/// # Errors
/// Names the one that cannot be a header.
fn headers<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> Result<HeaderMap, ApiError> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => headers.insert(name, value),
            _ => {
                let shown: String = name.chars().take(64).collect();
                let message = format!("'{shown}' in 'headers' cannot be a header.");
                return Err(ApiError::new(Code::InvalidValue, message).param("headers"));
            }
        };
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<(Value, Option<String>), String> {
        let request = Request::read(line.as_bytes()).map_err(|error| error.message)?;
        let session = request.headers.get("x-session-id").map(|value| value.to_str().unwrap().to_owned());
        Ok((serde_json::from_slice(&request.body).unwrap(), session))
    }

    #[test]
    fn all_forms_of_a_line_are_read_and_the_rest_is_refused_by_name() {
        let chat = json!({"messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(read(r#"{"text": "hi"}"#), Ok((chat.clone(), None)));
        assert_eq!(read(&chat.to_string()), Ok((chat.clone(), None)));
        let mut named = chat.clone();
        named["model"] = json!("m");
        assert_eq!(read(r#"{"text": "hi", "model": "m"}"#), Ok((named, None)));
        let wrapped = json!({"request": chat, "headers": {"X-Session-Id": "7"}});
        assert_eq!(read(&wrapped.to_string()), Ok((chat, Some("7".to_owned()))));
        let responses = r#"{"input": "hi", "text": {"format": {"type": "text"}}}"#;
        assert_eq!(read(responses), Ok((serde_json::from_str(responses).unwrap(), None)));
        for (bad, wanted) in [
            ("{}", "none of"),
            (r#"{"text":5}"#, "must be a string"),
            ("[1]", "not a JSON object"),
            ("{\"text\"", "not JSON"),
            (r#"{"text":"x","headers":{"a b":"c"}}"#, "'a b' in 'headers'"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(wanted), "{bad}: {error}");
        }
    }
}
