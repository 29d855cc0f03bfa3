//! A request body to what a chat template reads: messages, tools, and what else the engine hands it.
//!
//! The shapes are those vLLM makes of a chat request before it renders: of a message only the fields that it
//! keeps, tools with every field of its model, arguments of calls as objects. Keys stay in the client's
//! order. Images are hashed and never copied. Called by the tokenizer.

use crate::error::Error;
use indexmap::IndexMap;
use minijinja::Value;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Most messages in one conversation, as in `waypost_wire::view`.
const MAX_MESSAGES: usize = waypost_wire::view::MAX_MESSAGES;

/// The fields of a chat request that decide on its prompt. Others do not matter here.
#[derive(Deserialize)]
pub(crate) struct ChatRequest<'a> {
    #[serde(borrow, default)]
    pub(crate) messages: Vec<Message<'a>>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    documents: Value,
    #[serde(default)]
    chat_template_kwargs: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    chat_template: Option<Value>,
    #[serde(default)]
    reasoning_effort: Value,
    #[serde(default)]
    add_generation_prompt: Option<bool>,
    #[serde(default)]
    continue_final_message: Option<bool>,
    #[serde(default)]
    pub(crate) add_special_tokens: Option<bool>,
}

/// One message, as it came.
#[derive(Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<Content<'a>>,
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
    #[serde(default)]
    tool_call_id: Value,
    #[serde(default)]
    name: Value,
    #[serde(default)]
    reasoning: Value,
    #[serde(default)]
    reasoning_content: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Parts(#[serde(borrow)] Vec<Part<'a>>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Typed(#[serde(borrow)] Box<TypedPart<'a>>),
}

#[derive(Deserialize)]
struct TypedPart<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    image_url: Option<Url<'a>>,
    #[serde(borrow, default)]
    video_url: Option<Url<'a>>,
    #[serde(borrow, default)]
    audio_url: Option<Url<'a>>,
    #[serde(borrow, default)]
    input_audio: Option<Audio<'a>>,
    #[serde(borrow, default)]
    uuid: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Url<'a> {
    Plain(#[serde(borrow)] Cow<'a, str>),
    Wrapped {
        #[serde(borrow)]
        url: Cow<'a, str>,
    },
}

#[derive(Deserialize)]
struct Audio<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// A part, understood.
enum Piece<'p> {
    Text(&'p str),
    /// Its modality, and the hash of what identifies it.
    Media(&'static str, u64),
}

/// How a template reads content (vLLM's `chat_template_content_format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentFormat {
    /// As one text; text parts are joined by line breaks.
    Text,
    /// As a list of parts that it walks.
    Parts,
}

/// An object in the order of its keys.
pub(crate) type ValueMap = IndexMap<Value, Value>;

/// Stands where the engine puts the placeholder of a model's image, which is not known here.
pub(crate) const MEDIA_STAND_IN: &str = "\u{fffc}";

impl<'a> ChatRequest<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let request: Self = serde_json::from_slice(body).map_err(Error::request)?;
        if request.messages.is_empty() || request.messages.len() > MAX_MESSAGES {
            return Err(Error::request(format!("it has {} messages", request.messages.len())));
        }
        if request.chat_template.as_ref().is_some_and(|t| !t.is_none()) {
            return Err(Error::request("it brings its own chat template"));
        }
        Ok(request)
    }

    pub(crate) fn has_tools(&self) -> bool {
        self.tools.is_some()
    }

    /// `continue_final_message`; with it no generation prompt may be added.
    pub(crate) fn continues(&self) -> Result<bool, Error> {
        let continues = self.kwarg("continue_final_message", self.continue_final_message) == Some(true);
        if continues && self.adds_generation_prompt() {
            return Err(Error::request(
                "continue_final_message and add_generation_prompt exclude each other",
            ));
        }
        Ok(continues)
    }

    pub(crate) fn adds_generation_prompt(&self) -> bool {
        self.kwarg("add_generation_prompt", self.add_generation_prompt).unwrap_or(true)
    }

    /// A field that `chat_template_kwargs` may hold too; the request's own counts first.
    fn kwarg(&self, name: &str, own: Option<bool>) -> Option<bool> {
        let within = || self.chat_template_kwargs.as_ref()?.get(name).map(Value::is_true);
        own.or_else(within)
    }

    /// The variables of the template besides the messages, those that count more coming later.
    pub(crate) fn variables(&self) -> Result<Vec<(Value, Value)>, Error> {
        let mut all: Vec<(Value, Value)> = Vec::new();
        all.push((Value::from("documents"), none_if_absent(&self.documents)));
        if let Some(kwargs) = &self.chat_template_kwargs {
            all.extend(kwargs.iter().map(|(k, v)| (Value::from(k.as_str()), v.clone())));
        }
        if !self.reasoning_effort.is_none() && !self.reasoning_effort.is_undefined() {
            all.push((Value::from("reasoning_effort"), self.reasoning_effort.clone()));
        }
        let tools = self.tools.as_ref().map(|tools| tools.iter().map(tool).collect::<Result<Value, _>>());
        all.push((Value::from("tools"), tools.transpose()?.unwrap_or_else(|| Value::from(()))));
        Ok(all)
    }

    /// The messages as the template sees them, up to the media `until` if one is given, and the hashes of
    /// the media in them.
    pub(crate) fn conversation(
        &self,
        format: ContentFormat,
        until: Option<usize>,
    ) -> Result<(Vec<Value>, Vec<u64>), Error> {
        let mut media = Vec::new();
        let mut all = Vec::with_capacity(self.messages.len());
        for message in &self.messages {
            all.push(message.value(format, until, &mut media)?);
            if until.is_some_and(|until| media.len() > until) {
                break;
            }
        }
        Ok((all, media))
    }
}

fn none_if_absent(value: &Value) -> Value {
    if value.is_undefined() { Value::from(()) } else { value.clone() }
}

impl Message<'_> {
    fn value(
        &self,
        format: ContentFormat,
        until: Option<usize>,
        media: &mut Vec<u64>,
    ) -> Result<Value, Error> {
        let mut fields = ValueMap::default();
        let mut set = |name: &str, value: Value| fields.insert(Value::from(name), value);
        set("role", Value::from(self.role.as_ref()));
        set("content", self.content(format, until, media)?);
        if self.role == "assistant" {
            if let Some(calls) = self.tool_calls.as_ref().filter(|calls| !calls.is_empty()) {
                let calls: Result<Value, Error> = calls.iter().map(call).collect();
                set("tool_calls", calls?);
            }
            let reasoning = [&self.reasoning, &self.reasoning_content];
            if let Some(reasoning) = reasoning.into_iter().find(|r| r.as_str().is_some_and(|r| !r.is_empty()))
            {
                set("reasoning", reasoning.clone());
                set("reasoning_content", reasoning.clone());
            }
        }
        if self.role == "tool" && self.tool_call_id.as_str().is_some() {
            set("tool_call_id", self.tool_call_id.clone());
        }
        if self.name.as_str().is_some() {
            set("name", self.name.clone());
        }
        Ok(Value::from_object(fields))
    }

    fn content(
        &self,
        format: ContentFormat,
        until: Option<usize>,
        media: &mut Vec<u64>,
    ) -> Result<Value, Error> {
        let pieces = match &self.content {
            None => Vec::new(),
            Some(Content::Text(text)) if format == ContentFormat::Text => {
                return Ok(Value::from(text.as_ref()));
            }
            Some(Content::Text(text)) => vec![Piece::Text(text)],
            Some(Content::Parts(parts)) => parts.iter().map(Part::piece).collect::<Result<_, _>>()?,
        };
        let mut shown = Vec::with_capacity(pieces.len());
        let mut cut = false;
        for piece in &pieces {
            match piece {
                Piece::Media(_, hash) => {
                    media.push(*hash);
                    cut |= until.is_some_and(|until| media.len() > until);
                    if cut {
                        break;
                    }
                    shown.push(piece);
                }
                Piece::Text(_) => shown.push(piece),
            }
        }
        Ok(match format {
            ContentFormat::Parts => shown.into_iter().map(Piece::part).collect(),
            ContentFormat::Text => Value::from(joined(&shown, cut)),
        })
    }
}

/// Media first, then the text, as vLLM places what the client's text does not place. Of a message that is
/// cut at its media, nothing can be told beyond them.
fn joined(shown: &[&Piece<'_>], cut: bool) -> String {
    let media = shown.iter().filter(|piece| matches!(piece, Piece::Media(..))).map(|_| MEDIA_STAND_IN);
    let texts = shown.iter().filter_map(|piece| match piece {
        Piece::Text(text) if !cut => Some(*text),
        _ => None,
    });
    media.chain(texts).collect::<Vec<_>>().join("\n")
}

impl Piece<'_> {
    fn part(&self) -> Value {
        let mut fields = ValueMap::default();
        let kind = match self {
            Self::Text(_) => "text",
            Self::Media(modality, _) => modality,
        };
        fields.insert(Value::from("type"), Value::from(kind));
        if let Self::Text(text) = self {
            fields.insert(Value::from("text"), Value::from(*text));
        }
        Value::from_object(fields)
    }
}

impl Part<'_> {
    fn piece(&self) -> Result<Piece<'_>, Error> {
        let part = match self {
            Self::Text(text) => return Ok(Piece::Text(text)),
            Self::Typed(part) => part,
        };
        let kind = part.kind.as_deref();
        let media = |modality, source: Option<&str>| {
            let source = part.uuid.as_deref().or(source);
            source.map(|source| Piece::Media(modality, waypost_wire::media_hash(source)))
        };
        let url = |url: &Option<Url<'_>>| match url {
            Some(Url::Plain(url) | Url::Wrapped { url }) => Some(url.as_ref().to_owned()),
            None => None,
        };
        let found = match kind {
            None | Some("text" | "input_text" | "output_text") => part.text.as_deref().map(Piece::Text),
            Some("refusal") => part.refusal.as_deref().map(Piece::Text),
            Some("thinking") => part.thinking.as_deref().map(Piece::Text),
            Some("image_url" | "input_image") => media("image", url(&part.image_url).as_deref()),
            Some("video_url") => media("video", url(&part.video_url).as_deref()),
            Some("audio_url") => media("audio", url(&part.audio_url).as_deref()),
            Some("input_audio") => media("audio", part.input_audio.as_ref().map(|audio| audio.data.as_ref())),
            Some(_) => None,
        };
        found.ok_or_else(|| Error::request(format!("a part of type {kind:?} does not hold what it should")))
    }
}

/// A tool with the fields of vLLM's model in its order, absent ones null, and what else the client sent.
fn tool(tool: &Value) -> Result<Value, Error> {
    let function = attr(tool, "function");
    if attr(&function, "name").as_str().is_none() {
        return Err(Error::request("a tool has no function with a name"));
    }
    let mut fields = ValueMap::default();
    for name in ["name", "description", "parameters"] {
        fields.insert(Value::from(name), none_if_absent(&attr(&function, name)));
    }
    extend(&mut fields, &function)?;
    let mut all = ValueMap::default();
    all.insert(Value::from("type"), Value::from("function"));
    all.insert(Value::from("function"), Value::from_object(fields));
    extend(&mut all, tool)?;
    Ok(Value::from_object(all))
}

/// A call whose `arguments` are an object, as templates expect; clients send it as text. In vLLM's order, which is that of
/// its types and not the client's: `id`, `function` with `arguments` before `name`, `type`. Templates that print a call
/// whole show it.
fn call(call: &Value) -> Result<Value, Error> {
    let function = attr(call, "function");
    let arguments = attr(&function, "arguments");
    let parsed = match arguments.as_str() {
        Some("") => Value::from_object(ValueMap::default()),
        Some(text) => serde_json::from_str(text)
            .map_err(|e| Error::request(format!("the arguments of a tool call are not JSON: {e}")))?,
        None if arguments.is_none() || arguments.is_undefined() => Value::from_object(ValueMap::default()),
        None => arguments,
    };
    let mut inner = ValueMap::default();
    inner.insert(Value::from("arguments"), parsed);
    extend(&mut inner, &function)?;
    let mut fields = ValueMap::default();
    if let Ok(id) = call.get_attr("id")
        && !id.is_undefined()
    {
        fields.insert(Value::from("id"), id);
    }
    fields.insert(Value::from("function"), Value::from_object(inner));
    extend(&mut fields, call)?;
    Ok(Value::from_object(fields))
}

fn attr(value: &Value, name: &str) -> Value {
    value.get_attr(name).unwrap_or_default()
}

/// Adds the fields of `from` that are not there yet.
fn extend(fields: &mut ValueMap, from: &Value) -> Result<(), Error> {
    for key in from.try_iter().map_err(Error::request)? {
        if !fields.contains_key(&key) {
            let value = from.get_item(&key).map_err(Error::request)?;
            fields.insert(key, value);
        }
    }
    Ok(())
}
