//! Token usage as engines report it, in every form they use.
//!
//! OpenAI's chat form (`prompt_tokens`, `completion_tokens`), the Responses form (`input_tokens`,
//! `output_tokens`, nested under `response` in streams), in a whole answer or in one event of a stream.
//! It never fails: what cannot be read is no usage. Called while an answer is relayed.

use serde::Deserialize;

/// Tokens of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct Usage {
    /// Tokens read.
    #[serde(alias = "input_tokens", default)]
    pub prompt_tokens: u64,
    /// Tokens written.
    #[serde(alias = "output_tokens", default)]
    pub completion_tokens: u64,
    /// As reported; zero when it was not.
    #[serde(default)]
    total_tokens: u64,
    #[serde(alias = "input_tokens_details", default)]
    prompt_tokens_details: Option<Details>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

impl Usage {
    /// Reads usage from a JSON answer or from the data of one stream event.
    ///
    /// The last key `"usage"` counts, wherever it stands: quotes inside a string are escaped, so the
    /// bytes `"usage"` can only be a key (or a whole value, which no object follows). Parsing just that
    /// object keeps the cost independent of the answer's length.
    #[must_use]
    pub fn find(json: &[u8]) -> Option<Self> {
        const KEY: &[u8] = b"\"usage\"";
        let after = json.get(memchr::memmem::rfind(json, KEY)? + KEY.len()..)?;
        let value = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        if value.first() != Some(&b'{') {
            return None;
        }
        serde_json::Deserializer::from_slice(value).into_iter().next()?.ok()
    }

    /// Prompt and completion together, as reported or added up.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total_tokens.max(self.prompt_tokens.saturating_add(self.completion_tokens))
    }

    /// Prompt tokens that came from the engine's cache, when reported.
    #[must_use]
    pub fn cached(&self) -> Option<u64> {
        self.prompt_tokens_details.and_then(|d| d.cached_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let chat = Usage::find(br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":2}}}"#).unwrap();
        assert_eq!(
            (chat.prompt_tokens, chat.completion_tokens, chat.total(), chat.cached()),
            (3, 4, 7, Some(2))
        );
        let responses = Usage::find(
            br#"{"type":"response.completed","response":{"usage":{"input_tokens":5,"output_tokens":6}}}"#,
        )
        .unwrap();
        assert_eq!((responses.prompt_tokens, responses.completion_tokens, responses.total()), (5, 6, 11));
        assert_eq!(
            Usage::find(br#"{"choices":[{"delta":{"content":"the \"usage\": {"}}],"usage":null}"#),
            None
        );
        assert_eq!(Usage::find(br#"{"kind":"usage","x":{}}"#), None);
        assert_eq!(Usage::find(b"[DONE]"), None);
        assert_eq!(Usage::find(br#"{"usage":{"prompt_tokens":"many"}}"#), None);
    }
}
