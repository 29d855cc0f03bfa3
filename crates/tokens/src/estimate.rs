//! Pseudo tokens for endpoints whose tokenizer is not at hand: four bytes of text for one token.
//!
//! A conversation's next turn starts with the pseudo tokens of this one, which is all that a prefix index
//! asks. They never equal an engine's own. Reads the borrowed view, builds no JSON tree. Called by the
//! router.

use crate::tokenizer::Encoded;
use waypost_wire::json::{Kind, Scanner};
use waypost_wire::{Content, Part, RequestView, Role};

/// Bytes of text that stand for one token, the usual estimate for English (llm-d's too).
pub const BYTES_PER_PSEUDO_TOKEN: usize = 4;

/// Begins a pseudo token that is no text: UTF-8 never holds it.
const MARK: u8 = 0xff;

/// The prompt of `view`, the scan of `body`, in pseudo tokens.
#[must_use]
pub fn estimate(view: &RequestView<'_>, body: &[u8]) -> Encoded {
    let mut out = Encoded::default();
    // Templates print tools before everything that is said.
    if view.needs.tools
        && let Some(tools) = tools(body)
    {
        push(&mut out, b'f', |out| text(out, tools));
    }
    if let Some(instructions) = view.instructions {
        push(&mut out, b's', |out| text(out, &instructions.decode()));
    }
    match &view.messages {
        Some(messages) => {
            // Else the second of two messages moves the first.
            let bytes: usize = messages.iter().map(|message| bytes(message.content)).sum();
            out.ids.reserve(bytes / BYTES_PER_PSEUDO_TOKEN + 2 * messages.len());
            for message in messages {
                push(&mut out, role(message.role), |out| content(out, message.content));
            }
        }
        None => content(&mut out, view.input.unwrap_or(Content::None)),
    }
    out
}

/// Of a message that is one text.
fn bytes(content: Content<'_>) -> usize {
    if let Content::Text(text) = content { text.raw_len() } else { 0 }
}

fn role(role: Role) -> u8 {
    match role {
        Role::System => b's',
        Role::User => b'u',
        Role::Assistant => b'a',
        Role::Tool => b't',
        Role::Other => b'o',
    }
}

/// A mark, and what stands behind it.
fn push(out: &mut Encoded, tag: u8, fill: impl FnOnce(&mut Encoded)) {
    out.ids.push(u32::from_le_bytes([MARK, tag, MARK, MARK]));
    fill(out);
}

fn content(out: &mut Encoded, content: Content<'_>) {
    for part in content.parts() {
        match part {
            Part::Text(raw) => text(out, &raw.decode()),
            Part::Image(url) => {
                let hash = url.map_or(0, |url| waypost_wire::media_hash(&url.decode()));
                out.media.push((out.ids.len(), hash));
                out.ids.push(u32::from_le_bytes([MARK, b'i', MARK, MARK]));
            }
            Part::Audio | Part::Other => out.ids.push(u32::from_le_bytes([MARK, b'x', MARK, MARK])),
        }
    }
}

/// Each text starts with a token of its own, so that what follows it does not move it.
fn text(out: &mut Encoded, text: &str) {
    let (whole, rest) = text.as_bytes().as_chunks::<BYTES_PER_PSEUDO_TOKEN>();
    out.ids.extend(whole.iter().map(|bytes| u32::from_le_bytes(*bytes)));
    if !rest.is_empty() {
        let mut last = [0; BYTES_PER_PSEUDO_TOKEN];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        out.ids.push(u32::from_le_bytes(last));
    }
}

/// The source text of `tools` or `functions`.
fn tools(body: &[u8]) -> Option<&str> {
    let mut found = None;
    let mut scanner = Scanner::new(std::str::from_utf8(body).ok()?);
    let scanned: Result<(), waypost_wire::json::JsonError> = scanner.object(|s, key| {
        let wanted = (key.is("tools") || key.is("functions")) && s.kind()? == Kind::Array;
        let (start, source) = (s.pos(), s.rest());
        s.skip()?;
        if wanted {
            found = source.get(..s.pos() - start);
        }
        Ok(())
    });
    scanned.ok().and(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Encoded {
        estimate(&RequestView::parse(body.as_bytes()).unwrap(), body.as_bytes())
    }

    #[test]
    fn the_next_turn_starts_with_this_one() {
        let tools = r#""tools":[{"type":"function","function":{"name":"f"}}]"#;
        let first = r#"{"role":"system","content":"Be brief."},{"role":"user","content":"Wie heißt du?"}"#;
        let now = of(&format!(r#"{{"messages":[{first}],{tools}}}"#));
        let more = r#"{"role":"assistant","content":"Waypost."},{"role":"user","content":[{"type":"text","text":"And"}]}"#;
        let next = of(&format!(r#"{{{tools},"messages":[{first},{more}]}}"#));
        assert!(next.ids.starts_with(&now.ids) && next.ids.len() == now.ids.len() + 1 + 2 + 1 + 1);
        let without = of(&format!(r#"{{"messages":[{first}]}}"#));
        assert!(!now.ids.starts_with(&without.ids), "tools come first");
    }

    #[test]
    fn roles_texts_and_images_tell_prompts_apart() {
        let prompts = [
            r#"{"messages":[{"role":"user","content":"abc"}]}"#,
            r#"{"messages":[{"role":"system","content":"abc"}]}"#,
            r#"{"messages":[{"role":"user","content":"ab"},{"role":"user","content":"c"}]}"#,
            r#"{"prompt":"abc"}"#,
        ];
        let all: Vec<_> = prompts.iter().map(|body| of(body).ids).collect();
        for (n, ids) in all.iter().enumerate() {
            assert!(!ids.is_empty() && all.iter().filter(|other| *other == ids).count() == 1, "{n}");
        }
        let image = |url: &str| {
            of(&format!(
                r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"What?"}},{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]}}"#
            ))
        };
        let (a, b) = (image("https://e.org/a.png"), image("data:image/png;base64,AAAA"));
        assert_eq!((a.media[0].0, &a.ids), (3, &b.ids));
        assert_ne!(a.media[0].1, b.media[0].1);
    }
}
