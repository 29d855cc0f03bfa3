//! One scan over a request body: the fields Waypost routes on, borrowed, and where they stand.
//!
//! It covers chat completions, completions, responses, embeddings and rerank, because they share their
//! field names. It validates the whole body and refuses what parsers read differently (duplicate keys).
//! It never copies prompt text. Called by both doors, right after the body has arrived.

use crate::error::{ApiError, Code};
use crate::json::{JsonError, Kind, Scan, Scanner};
use crate::rawstr::RawStr;
use crate::splice::{Edit, Segments};
use bytes::Bytes;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::ops::Range;

mod content;
mod nim;

pub use content::{Content, Message, Part, Parts, Role};
pub use nim::{NimRouter, Strategy};

/// Most top-level keys a request may have. Real ones have fewer than 40.
pub const MAX_TOP_LEVEL_KEYS: usize = 256;
/// Most messages in one conversation.
pub const MAX_MESSAGES: usize = 20_000;

/// What a request needs a model to be able to do, besides text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// It has image parts.
    pub images: bool,
    /// It has audio parts.
    pub audio: bool,
    /// It offers tools or functions.
    pub tools: bool,
    /// It asks for an answer that follows a JSON schema.
    pub json_schema: bool,
}

/// The fields of a request that Waypost reads.
#[derive(Debug, Default)]
pub struct RequestView<'a> {
    /// `model`, when it is a string.
    pub model: Option<RawStr<'a>>,
    /// `stream`; false when absent or null.
    pub stream: bool,
    /// `messages`, in order, or the messages of a Responses `input`; `None` when there are neither.
    pub messages: Option<Vec<Message<'a>>>,
    /// `prompt`, `input` or `query`, unless it holds messages: the text of what is no conversation.
    pub input: Option<Content<'a>>,
    /// `instructions`: the system prompt of the Responses API.
    pub instructions: Option<RawStr<'a>>,
    /// The last item of a Responses `input` is a tool's output or another item that nobody said.
    pub ends_with_tool: bool,
    /// v1's body object.
    pub nim: Option<NimRouter<'a>>,
    /// What a model must be able to do.
    pub needs: Needs,
    /// `max_tokens`, `max_completion_tokens` or `max_output_tokens`: the largest of them.
    pub max_tokens: Option<u64>,
    /// What keeps the request's KV blocks apart from those of others: `cache_salt`, or that of Dynamo's `nvext`.
    pub cache_salt: Option<RawStr<'a>>,
    /// Bytes of prompt text, tool definitions and tool calls as they stand on the wire; images and audio
    /// are not counted.
    pub text_bytes: usize,
    model_value: Option<Range<usize>>,
    nim_member: Option<Range<usize>>,
    chat: bool,
    members: usize,
    after_brace: usize,
}

impl<'a> RequestView<'a> {
    /// Scans `body` once.
    ///
    /// # Errors
    /// 400 naming the byte, the key or the field that cannot stand.
    pub fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        let text = std::str::from_utf8(body)
            .map_err(|e| invalid_json(&format!("not UTF-8 at byte {}", e.valid_up_to())))?;
        let mut view = Self::default();
        view.scan(&mut Scanner::new(text)).map_err(|e| match e {
            Problem::Json(e) => invalid_json(&e.to_string()),
            Problem::Api(e) => e,
        })?;
        Ok(view)
    }

    fn scan(&mut self, s: &mut Scanner<'a>) -> Result<(), Problem> {
        if s.kind()? != Kind::Object {
            return Err(s.error("the body must be a JSON object").into());
        }
        s.enter(b'{', "expected an object")?;
        self.after_brace = s.pos();
        // Most requests have fewer keys: no allocation.
        let mut keys: SmallVec<[RawStr<'a>; 16]> = SmallVec::new();
        let mut comma_before = None;
        let mut more = s.first(b'}');
        while more {
            s.space();
            let start = s.pos();
            let key = s.key()?;
            refuse_duplicate(&keys, key)?;
            keys.push(key);
            if keys.len() > MAX_TOP_LEVEL_KEYS {
                return Err(s.error("more than 256 top-level keys").into());
            }
            let value = s.pos();
            self.member(s, key, value)?;
            let end = s.pos();
            more = s.more(b'}')?;
            let comma_after = more.then(|| s.pos() - 1);
            if key.is("nim-llm-router") {
                self.nim_member = Some(match (comma_before, comma_after) {
                    (Some(comma), _) => comma..end,
                    (None, Some(comma)) => start..comma + 1,
                    (None, None) => start..end,
                });
            }
            comma_before = comma_after;
        }
        self.members = keys.len();
        if s.at_end() { Ok(()) } else { Err(s.error("unexpected text after the JSON object").into()) }
    }

    fn member(&mut self, s: &mut Scanner<'a>, key: RawStr<'a>, value: usize) -> Result<(), Problem> {
        let name = key.decode();
        match name.as_ref() {
            "model" => {
                match s.kind()? {
                    Kind::String => self.model = Some(s.string()?),
                    Kind::Null => s.skip()?,
                    _ => return Err(wrong_type("model", "a string")),
                }
                self.model_value = Some(value..s.pos());
            }
            "stream" => match s.kind()? {
                Kind::Bool => self.stream = s.boolean()?,
                Kind::Null => s.skip()?,
                _ => return Err(wrong_type("stream", "true or false")),
            },
            "messages" => {
                self.messages = Some(self.scan_messages(s)?);
                self.chat = true;
            }
            "prompt" | "input" | "query" => content::scan_input(s, self)?,
            "instructions" => self.scan_instructions(s)?,
            "nim-llm-router" => self.nim = Some(nim::scan(s)?),
            "tools" | "functions" => {
                let empty = s.kind()? != Kind::Array || {
                    let mut probe = s.clone();
                    probe.take(b'[') && probe.take(b']')
                };
                self.needs.tools |= !empty;
                s.skip()?;
                // The model reads the definitions as text.
                self.text_bytes += s.pos() - value;
            }
            "cache_salt" => self.scan_salt(s)?,
            "nvext" if s.kind()? == Kind::Object => {
                s.object::<Problem>(|s, key| match key.is("cache_salt") {
                    true => self.scan_salt(s),
                    false => Ok(s.skip()?),
                })?
            }
            // Chat's place for it, and the Responses API's.
            "response_format" => self.needs.json_schema |= asks_for_schema(s)?,
            "text" => self.needs.json_schema |= text_asks_for_schema(s)?,
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                if s.kind()? == Kind::Number {
                    let tokens = s.number()?.parse().ok();
                    self.max_tokens = self.max_tokens.max(tokens);
                } else {
                    s.skip()?;
                }
            }
            _ => s.skip()?,
        }
        Ok(())
    }

    fn scan_salt(&mut self, s: &mut Scanner<'a>) -> Result<(), Problem> {
        if s.kind()? == Kind::String {
            self.cache_salt = Some(s.string()?);
            return Ok(());
        }
        Ok(s.skip()?)
    }

    /// The Responses API's system prompt.
    fn scan_instructions(&mut self, s: &mut Scanner<'a>) -> Result<(), Problem> {
        if s.kind()? == Kind::String {
            let text = s.string()?;
            self.text_bytes += text.raw_len();
            self.instructions = Some(text);
            return Ok(());
        }
        Ok(s.skip()?)
    }

    fn scan_messages(&mut self, s: &mut Scanner<'a>) -> Result<Vec<Message<'a>>, Problem> {
        if s.kind()? != Kind::Array {
            return Err(wrong_type("messages", "an array"));
        }
        s.enter(b'[', "expected an array")?;
        let mut messages = Vec::new();
        let mut more = s.first(b']');
        while more {
            let message = content::scan_message(s, messages.len(), self)?;
            content::push_message(&mut messages, message, s)?;
            more = s.more(b']')?;
        }
        Ok(messages)
    }

    /// The body to send upstream: v1's object removed and `model` set to `upstream_id`, every other
    /// byte the client's own.
    #[must_use]
    pub fn rewrite(&self, body: &Bytes, upstream_id: &str) -> Segments {
        let mut edits = SmallVec::new();
        if let Some(range) = &self.nim_member {
            edits.push(Edit { range: range.clone(), with: Bytes::new() });
        }
        let keep = self.model.is_some_and(|model| model.is(upstream_id));
        if !keep {
            let id = serde_json::Value::from(upstream_id).to_string();
            edits.push(match &self.model_value {
                Some(range) => Edit { range: range.clone(), with: id.into() },
                None => self.insert_model(&id),
            });
        }
        Segments::new(body, edits)
    }

    fn insert_model(&self, id: &str) -> Edit {
        let left = self.members - usize::from(self.nim_member.is_some());
        let comma = if left > 0 { "," } else { "" };
        Edit { range: self.after_brace..self.after_brace, with: format!("\"model\":{id}{comma}").into() }
    }

    /// Whether it has `messages`, as chat completions have, and not another API's form of a conversation.
    #[must_use]
    pub fn is_chat(&self) -> bool {
        self.chat
    }

    /// The text of the request that is not a conversation, or of its last message: what v1 classified.
    #[must_use]
    pub fn last_content(&self) -> Option<Content<'a>> {
        match &self.messages {
            Some(messages) => messages.last().map(|m| m.content),
            None => self.input,
        }
    }
}

fn refuse_duplicate(keys: &[RawStr<'_>], key: RawStr<'_>) -> Result<(), Problem> {
    let name: Cow<'_, str> = key.decode();
    if keys.iter().any(|seen| seen.is(&name)) {
        return Err(duplicate_key(&name));
    }
    Ok(())
}

/// True for `{"type": "json_schema", …}`.
fn asks_for_schema(s: &mut Scanner<'_>) -> Scan<bool> {
    let mut found = false;
    if s.kind()? != Kind::Object {
        return s.skip().map(|()| false);
    }
    s.object(|s, key| {
        if key.is("type") && s.kind()? == Kind::String {
            found = s.string()?.is("json_schema");
            return Ok(());
        }
        s.skip()
    })?;
    Ok(found)
}

/// True for `{"format": {"type": "json_schema", …}}`, the `text` of the Responses API. `text` may be
/// anything elsewhere.
fn text_asks_for_schema(s: &mut Scanner<'_>) -> Scan<bool> {
    let mut found = false;
    if s.kind()? != Kind::Object {
        return s.skip().map(|()| false);
    }
    s.object(|s, key| {
        if key.is("format") {
            found = asks_for_schema(s)?;
            return Ok(());
        }
        s.skip()
    })?;
    Ok(found)
}

/// Either the JSON is broken, or its meaning is.
#[derive(Debug)]
pub(crate) enum Problem {
    Json(JsonError),
    Api(ApiError),
}

impl From<JsonError> for Problem {
    fn from(e: JsonError) -> Self {
        Self::Json(e)
    }
}

fn invalid_json(detail: &str) -> ApiError {
    ApiError::new(Code::InvalidJson, format!("The request body is not valid JSON: {detail}."))
}

pub(crate) fn wrong_type(param: &str, wanted: &str) -> Problem {
    Problem::Api(ApiError::new(Code::InvalidType, format!("'{param}' must be {wanted}.")).param(param))
}

pub(crate) fn duplicate_key(name: &str) -> Problem {
    let message =
        format!("The key '{name}' stands twice in the request; parsers disagree on which one counts.");
    Problem::Api(ApiError::new(Code::DuplicateKey, message).param(name))
}

#[cfg(test)]
mod tests;
