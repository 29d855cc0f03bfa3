//! What a prompt is made of: text in its several JSON forms, laid out as the bytes that are counted and cached.
//!
//! Pictures and sounds count as a fixed number of tokens and are told apart by a hash. Nothing is kept.

use serde::Deserialize;
use serde_json::Value;

use crate::text::{TOKEN_BYTES, hash};

/// Tokens that a part of a message counts for if it is not text.
const MEDIA_TOKENS: usize = 256;

/// One message of a conversation.
#[derive(Deserialize)]
pub(crate) struct Message {
    role: String,
    content: Option<Content>,
    tool_calls: Option<Value>,
}

impl Message {
    /// What a user says, when it is plain text.
    pub(crate) fn said(&self) -> Option<&str> {
        match &self.content {
            Some(Content::Text(text)) if self.role == "user" => Some(text),
            _ => None,
        }
    }
}

/// The content of a message.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Value>),
}

/// An input of the completions and embeddings endpoints: text or token numbers, one or many.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

/// Lays out messages, each with its role, and the tools before them.
pub(crate) fn layout(messages: &[Message], tools: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for tool in tools {
        out.extend_from_slice(tool.to_string().as_bytes());
        out.push(b'\n');
    }
    for message in messages {
        out.extend_from_slice(message.role.as_bytes());
        out.push(b'\n');
        match &message.content {
            Some(Content::Text(text)) => out.extend_from_slice(text.as_bytes()),
            Some(Content::Parts(parts)) => parts.iter().for_each(|part| push_part(&mut out, part)),
            None => {}
        }
        if let Some(calls) = &message.tool_calls {
            out.extend_from_slice(calls.to_string().as_bytes());
        }
        out.push(b'\n');
    }
    out
}

fn push_part(out: &mut Vec<u8>, part: &Value) {
    if let Some(text) = part.get("text").and_then(Value::as_str) {
        out.extend_from_slice(text.as_bytes());
    } else {
        let mark = hash(0, part.to_string().as_bytes()).to_le_bytes();
        out.extend(mark.iter().cycle().take(MEDIA_TOKENS * TOKEN_BYTES));
    }
}

impl Input {
    /// The bytes of each input.
    pub(crate) fn prompts(self) -> Vec<Vec<u8>> {
        // A token number takes as many bytes as a token counts for, so the counts come out right.
        let bytes = |tokens: Vec<u32>| tokens.into_iter().flat_map(u32::to_le_bytes).collect();
        match self {
            Input::Text(text) => vec![text.into_bytes()],
            Input::Texts(texts) => texts.into_iter().map(String::into_bytes).collect(),
            Input::Tokens(tokens) => vec![bytes(tokens)],
            Input::TokenLists(lists) => lists.into_iter().map(bytes).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokens;
    use serde_json::json;

    fn layout_of(messages: Value) -> Vec<u8> {
        let messages: Vec<Message> = serde_json::from_value(messages).unwrap();
        layout(&messages, &[])
    }

    #[test]
    fn text_and_a_text_part_are_the_same_prompt() {
        assert_eq!(
            layout_of(json!([{"role":"user","content":"hi"}])),
            layout_of(json!([{"role":"user","content":[{"type":"text","text":"hi"}]}]))
        );
    }

    #[test]
    fn a_picture_counts_fixed_and_is_told_apart() {
        let picture = |url: &str| {
            layout_of(json!([{"role":"user","content":[
                {"type":"image_url","image_url":{"url":url}}]}]))
        };
        assert_ne!(picture("data:a"), picture("data:b"));
        let large = picture(&"x".repeat(100_000));
        assert!((256..260).contains(&tokens(large.len())));
    }

    #[test]
    fn token_numbers_count_as_tokens() {
        let input: Input = serde_json::from_value(json!([[1, 2, 3], [4]])).unwrap();
        let counts: Vec<u32> = input.prompts().iter().map(|p| tokens(p.len())).collect();
        assert_eq!(counts, [3, 1]);
    }
}
