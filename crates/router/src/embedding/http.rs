//! Servers that turn texts and images into vectors: OpenAI's embeddings API, and Jina's CLIP-as-service.
//!
//! Both are asked for text and image in one request. Answers are bounded and checked. Called by `embedding`.

use super::Vectors;
use crate::client;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use waypost_config::Secret;
use waypost_wire::{ApiError, Code};

/// Connect timeout; the policy's own deadline covers the rest.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest answer read, in bytes: two vectors of 8,192 numbers are below 400 KiB.
const MAX_ANSWER_BYTES: usize = 2 << 20;
/// Longest vector, in numbers.
const MAX_DIMS: usize = 16_384;

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    url: Arc<str>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// NVCLIP takes images as data URLs among the inputs.
    OpenAi {
        model: Arc<str>,
        api_key: Secret,
    },
    Jina,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    embedding: Vec<f32>,
    /// OpenAI's place of a vector among the inputs.
    index: Option<usize>,
}

impl Server {
    pub(crate) fn openai(url: &Arc<str>, model: &Arc<str>, api_key: &Secret) -> Self {
        let form = Form::OpenAi { model: Arc::clone(model), api_key: api_key.clone() };
        Self { url: Arc::clone(url), form }
    }

    pub(crate) fn jina(base: &str) -> Self {
        Self { url: format!("{base}/post").into(), form: Form::Jina }
    }

    fn body(&self, text: &str, image: Option<&str>) -> Value {
        match &self.form {
            Form::OpenAi { model, .. } => {
                let input: Vec<&str> = std::iter::once(text).chain(image).collect();
                json!({"input": input, "model": model, "encoding_format": "float"})
            }
            Form::Jina => {
                let image = image.map(|url| json!({"uri": url}));
                let data: Vec<Value> = std::iter::once(json!({"text": text})).chain(image).collect();
                json!({"data": data, "execEndpoint": "/"})
            }
        }
    }

    /// Asks once.
    ///
    /// # Errors
    /// When the server is down, says no, or answers nonsense.
    pub(crate) async fn vectors(&self, text: &str, image: Option<&str>) -> Result<Vectors, ApiError> {
        let failed = |what: String| {
            ApiError::new(Code::ClassifierUnavailable, format!("The embeddings server {what}."))
        };
        let body = Bytes::from(self.body(text, image).to_string());
        let mut request =
            http::Request::post(&*self.url).header(http::header::CONTENT_TYPE, "application/json");
        if let Form::OpenAi { api_key, .. } = &self.form
            && !api_key.is_empty()
        {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {}", api_key.expose()));
        }
        let request =
            request.body(body.into()).map_err(|e| failed(format!("has a URL that cannot be used: {e}")))?;
        let answer = client::local(CONNECT_TIMEOUT).request(request).await;
        let answer = answer.map_err(|_| failed("is unreachable".to_owned()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|_| failed("broke off, or its answer is too large".to_owned()))?.to_bytes();
        if !status.is_success() {
            // Its words may repeat the prompt.
            return Err(failed(format!("answered {}", status.as_u16())));
        }
        read(&body, image.is_some()).map_err(|problem| ApiError::new(Code::ClassifierInvalid, problem))
    }
}

fn read(body: &[u8], with_image: bool) -> Result<Vectors, String> {
    let Answer { mut data } = serde_json::from_slice(body).map_err(|_| {
        "The embeddings server's answer has no `data` with an `embedding` in each entry.".to_owned()
    })?;
    let wanted = 1 + usize::from(with_image);
    if data.len() != wanted {
        return Err(format!("The embeddings server answered {} vectors for {wanted} inputs.", data.len()));
    }
    data.sort_by_key(|row| row.index);
    if data.iter().enumerate().any(|(place, row)| row.index.is_some_and(|index| index != place)) {
        return Err("The embeddings server's `index` values are not those of the inputs.".to_owned());
    }
    let sound = |row: &Row| {
        (1..=MAX_DIMS).contains(&row.embedding.len()) && row.embedding.iter().all(|v| v.is_finite())
    };
    if !data.iter().all(sound) {
        return Err("The embeddings server answered an empty, oversized or non-finite vector.".to_owned());
    }
    let image = if with_image { data.pop().map(|row| row.embedding) } else { None };
    let text = data.pop().map(|row| row.embedding).unwrap_or_default();
    Ok(Vectors { text, image })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_put_in_order_and_checked() {
        let two = br#"{"data": [{"index": 1, "embedding": [2, 3]}, {"index": 0, "embedding": [1, 0.5]}]}"#;
        assert_eq!(read(two, true), Ok(Vectors { text: vec![1.0, 0.5], image: Some(vec![2.0, 3.0]) }));
        let jina = br#"{"header": {}, "data": [{"id": "x", "text": "t", "embedding": [1]}]}"#;
        assert_eq!(read(jina, false), Ok(Vectors { text: vec![1.0], image: None }));
        for (bad, with_image) in [
            (&b"[]"[..], false),
            (br#"{"data": []}"#, false),
            (br#"{"data": [{"embedding": [1]}]}"#, true),
            (br#"{"data": [{"index": 1, "embedding": [1]}, {"index": 1, "embedding": [2]}]}"#, true),
            (br#"{"data": [{"embedding": []}]}"#, false),
            (br#"{"data": [{"embedding": [1e40]}]}"#, false),
            (br#"{"data": [{"embedding": "AAAA"}]}"#, false),
        ] {
            assert!(read(bad, with_image).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn the_forms_of_both_servers() {
        let openai =
            Server::openai(&"http://h/v1/embeddings".into(), &"nvidia/nvclip".into(), &Secret::default());
        assert_eq!(
            openai.body("t", Some("data:x")),
            json!({"input": ["t", "data:x"], "model": "nvidia/nvclip", "encoding_format": "float"})
        );
        let jina = Server::jina("http://h:51000");
        assert_eq!(&*jina.url, "http://h:51000/post");
        assert_eq!(jina.body("t", None), json!({"data": [{"text": "t"}], "execEndpoint": "/"}));
    }
}
