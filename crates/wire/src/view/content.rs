//! Messages and their content: who speaks, and where the text stands.
//!
//! Parts arrays, null contents and tool calls are all normal here; text is located, never copied.
//! Called by the request view; read by the router when it builds the prompt to classify.

use super::{Problem, RequestView, duplicate_key, wrong_type};
use crate::json::{Kind, Scanner};
use crate::rawstr::RawStr;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `system` or `developer`.
    System,
    /// `user`.
    User,
    /// `assistant`.
    Assistant,
    /// `tool` or `function`.
    Tool,
    /// Any other word; forwarded as it is.
    Other,
}

/// One message of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Content<'a>,
    /// It carries `tool_calls` or `function_call`.
    pub calls_tools: bool,
}

/// Where the text of a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// Absent or null.
    None,
    /// A plain string.
    Text(RawStr<'a>),
    /// An array: content parts, strings, or token numbers. Kept as its validated source text.
    Parts(&'a str),
}

impl<'a> Content<'a> {
    /// The pieces of text in it, in order.
    pub fn texts(self) -> impl Iterator<Item = RawStr<'a>> {
        self.parts().filter_map(|part| match part {
            Part::Text(text) => Some(text),
            _ => None,
        })
    }

    /// All that it holds, in order.
    #[must_use]
    pub fn parts(self) -> Parts<'a> {
        match self {
            Self::None => Parts { single: None, rest: None },
            Self::Text(text) => Parts { single: Some(text), rest: None },
            Self::Parts(source) => {
                let mut scanner = Scanner::new(source);
                let open = scanner.enter(b'[', "expected an array").is_ok() && scanner.first(b']');
                Parts { single: None, rest: open.then_some(scanner) }
            }
        }
    }
}

/// One piece of a [`Content`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text.
    Text(RawStr<'a>),
    /// An image, and its URL where one is given.
    Image(Option<RawStr<'a>>),
    /// A recording.
    Audio,
    /// Anything else: a file, a token number.
    Other,
}

/// Iterator over the parts of a [`Content`].
#[derive(Debug)]
pub struct Parts<'a> {
    single: Option<RawStr<'a>>,
    rest: Option<Scanner<'a>>,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        if let Some(text) = self.single.take() {
            return Some(Part::Text(text));
        }
        let scanner = self.rest.as_mut()?;
        // The source was validated by the first scan, so an error here only means the end.
        let part = scan_part(scanner).ok();
        if !scanner.more(b']').unwrap_or(false) {
            self.rest = None;
        }
        part
    }
}

/// One element of a content array. A key that is read may stand once: upstreams may take the other one.
fn scan_part<'a>(s: &mut Scanner<'a>) -> Result<Part<'a>, Problem> {
    match s.kind()? {
        Kind::String => return Ok(Part::Text(s.string()?)),
        Kind::Object => {}
        _ => {
            s.skip()?;
            return Ok(Part::Other);
        }
    }
    let (mut kind, mut text, mut url) = (None, None, None);
    s.object(|s, key| {
        let slot = match (key.is("type"), key.is("text"), key.is("image_url")) {
            (true, ..) => Some(&mut kind),
            (_, true, _) => Some(&mut text),
            (.., true) => Some(&mut url),
            _ => None,
        };
        let value = match s.kind()? {
            Kind::String => Some(s.string()?),
            // Chat completions wrap the URL, responses do not.
            Kind::Object if key.is("image_url") => scan_url(s)?,
            _ => s.skip().map(|()| None)?,
        };
        if slot.is_some_and(|slot| slot.replace(value).is_some()) {
            return Err(duplicate_key(&key.decode()));
        }
        Ok(())
    })?;
    Ok(match (kind.flatten(), text.flatten()) {
        (Some(kind), _) if kind.is("image_url") || kind.is("input_image") || kind.is("image") => {
            Part::Image(url.flatten())
        }
        (Some(kind), _) if kind.is("input_audio") || kind.is("audio_url") => Part::Audio,
        (_, Some(text)) => Part::Text(text),
        _ => Part::Other,
    })
}

/// `{"url": …}`.
fn scan_url<'a>(s: &mut Scanner<'a>) -> Result<Option<RawStr<'a>>, Problem> {
    let mut url = None;
    s.object(|s, key| {
        let value = if s.kind()? == Kind::String { Some(s.string()?) } else { s.skip().map(|()| None)? };
        if key.is("url") && url.replace(value).is_some() {
            return Err(duplicate_key("image_url.url"));
        }
        Ok(())
    })?;
    Ok(url.flatten())
}

/// The content of a message: null, a string, or an array of parts.
fn scan_content<'a>(
    s: &mut Scanner<'a>,
    name: impl Fn() -> String,
    view: &mut RequestView<'a>,
) -> Result<Content<'a>, Problem> {
    match s.kind()? {
        Kind::Null => {
            s.skip()?;
            Ok(Content::None)
        }
        Kind::String => {
            let text = s.string()?;
            view.text_bytes += text.raw_len();
            Ok(Content::Text(text))
        }
        Kind::Array => {
            let start = s.pos();
            let source = s.rest();
            s.enter(b'[', "expected an array")?;
            let mut more = s.first(b']');
            while more {
                match scan_part(s)? {
                    Part::Text(text) => view.text_bytes += text.raw_len(),
                    Part::Image(_) => view.needs.images = true,
                    Part::Audio => view.needs.audio = true,
                    Part::Other => {}
                }
                more = s.more(b']')?;
            }
            Ok(Content::Parts(&source[..s.pos() - start]))
        }
        _ => Err(wrong_type(&name(), "a string, an array of parts, or null")),
    }
}

/// `prompt`, `input` or `query`. In the Responses API `input` may be a conversation: its items with a
/// role become messages.
pub(super) fn scan_input<'a>(s: &mut Scanner<'a>, view: &mut RequestView<'a>) -> Result<(), Problem> {
    if s.kind()? != Kind::Array {
        view.input = Some(scan_content(s, || "input".to_owned(), view)?);
        return Ok(());
    }
    let (start, source) = (s.pos(), s.rest());
    let mut items = Vec::new();
    s.enter(b'[', "expected an array")?;
    let mut more = s.first(b']');
    while more {
        let (mut probe, before) = (s.clone(), s.pos());
        if s.kind()? == Kind::Object {
            let message = scan_fields(s, || format!("input[{}]", items.len()), view)?;
            if let Some(message) = message {
                view.ends_with_tool = false;
                push_message(&mut items, message, s)?;
            } else {
                // A content part, or an item such as a tool's output.
                let part = scan_part(&mut probe)?;
                view.ends_with_tool = part == Part::Other;
                match part {
                    Part::Image(_) => view.needs.images = true,
                    Part::Audio => view.needs.audio = true,
                    Part::Text(_) | Part::Other => view.text_bytes += s.pos() - before,
                }
            }
        } else if let Part::Text(text) = scan_part(s)? {
            view.text_bytes += text.raw_len();
        }
        more = s.more(b']')?;
    }
    if items.is_empty() {
        view.input = Some(Content::Parts(&source[..s.pos() - start]));
    } else {
        view.messages.get_or_insert(items);
    }
    Ok(())
}

/// Adds a message, within the bound on their number.
pub(super) fn push_message<'a>(
    messages: &mut Vec<Message<'a>>,
    message: Message<'a>,
    s: &Scanner<'a>,
) -> Result<(), Problem> {
    if messages.len() == super::MAX_MESSAGES {
        return Err(s.error("more than 20000 messages").into());
    }
    messages.push(message);
    Ok(())
}

/// One element of `messages`.
pub(super) fn scan_message<'a>(
    s: &mut Scanner<'a>,
    index: usize,
    view: &mut RequestView<'a>,
) -> Result<Message<'a>, Problem> {
    if s.kind()? != Kind::Object {
        return Err(wrong_type(&format!("messages[{index}]"), "an object"));
    }
    scan_fields(s, || format!("messages[{index}]"), view)?
        .ok_or_else(|| wrong_type(&format!("messages[{index}].role"), "present: a string such as 'user'"))
}

/// The fields of a message; `None` when it has no role.
fn scan_fields<'a>(
    s: &mut Scanner<'a>,
    name: impl Fn() -> String,
    view: &mut RequestView<'a>,
) -> Result<Option<Message<'a>>, Problem> {
    let (mut role, mut content, mut calls_tools) = (None, None, false);
    s.object(|s, key| {
        if key.is("role") {
            if role.replace(scan_role(s, &name)?).is_some() {
                return Err(duplicate_key(&format!("{}.role", name())));
            }
        } else if key.is("content") {
            if content.replace(scan_content(s, || format!("{}.content", name()), view)?).is_some() {
                return Err(duplicate_key(&format!("{}.content", name())));
            }
        } else if key.is("tool_calls") || key.is("function_call") {
            calls_tools |= s.kind()? != Kind::Null;
            let start = s.pos();
            s.skip()?;
            // The model reads the calls as text.
            view.text_bytes += s.pos() - start;
        } else {
            s.skip()?;
        }
        Ok(())
    })?;
    Ok(role.map(|role| Message { role, content: content.unwrap_or(Content::None), calls_tools }))
}

fn scan_role(s: &mut Scanner<'_>, name: impl Fn() -> String) -> Result<Role, Problem> {
    if s.kind()? != Kind::String {
        return Err(wrong_type(&format!("{}.role", name()), "a string"));
    }
    Ok(match s.string()?.decode().as_ref() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        _ => Role::Other,
    })
}
