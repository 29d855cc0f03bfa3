//! From a conversation to the text that is classified.
//!
//! The *focus* is the last user turn: the task at hand, also while tools are being called. The
//! *context* is the system prompt and the user turns before it, which decide when the focus says
//! little ("now in French"). Both are bounded, head and tail kept. Under `compat: v1` the focus is the
//! last message, whatever its role, and there is no context. Called by the brain.

use waypost_classify::Prompt;
use waypost_wire::{Content, Message, RawStr, RequestView, Role};

/// Most bytes of the focus: about 8,000 tokens.
const FOCUS_MAX_BYTES: usize = 32 * 1024;
/// Most bytes of the system prompt.
const SYSTEM_MAX_BYTES: usize = 1024;
/// Most bytes of each earlier user turn.
const EARLIER_MAX_BYTES: usize = 1024;
/// Earlier user turns that are read.
const EARLIER_TURNS: usize = 2;

/// Text to classify.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PromptText {
    /// The last user turn.
    pub focus: String,
    /// Earlier user turns, the latest last, after the system prompt.
    pub context: String,
}

impl PromptText {
    /// Reads it from a request.
    #[must_use]
    pub fn of(view: &RequestView<'_>, v1: bool) -> Self {
        let mut text = Self::default();
        match &view.messages {
            Some(messages) if !v1 => text.read_conversation(messages, view.instructions),
            _ => push(view.last_content().unwrap_or(Content::None), FOCUS_MAX_BYTES, &mut text.focus),
        }
        text
    }

    fn read_conversation(&mut self, messages: &[Message<'_>], instructions: Option<RawStr<'_>>) {
        let user = |m: &&Message<'_>| m.role == Role::User;
        let Some(last) = messages.iter().rposition(|m| m.role == Role::User) else {
            // No user has spoken: whatever stands last is the task.
            let last = messages.last().map_or(Content::None, |m| m.content);
            return push(last, FOCUS_MAX_BYTES, &mut self.focus);
        };
        push(messages[last].content, FOCUS_MAX_BYTES, &mut self.focus);
        if let Some(instructions) = instructions {
            push(Content::Text(instructions), SYSTEM_MAX_BYTES, &mut self.context);
        } else if let Some(system) = messages.iter().find(|m| m.role == Role::System) {
            push(system.content, SYSTEM_MAX_BYTES, &mut self.context);
        }
        let earlier: Vec<_> = messages[..last].iter().rev().filter(user).take(EARLIER_TURNS).collect();
        for message in earlier.into_iter().rev() {
            push(message.content, EARLIER_MAX_BYTES, &mut self.context);
        }
    }

    /// As classifiers in this process take it.
    pub(crate) fn prompt(&self) -> Prompt<'_> {
        Prompt { focus: &self.focus, context: &self.context }
    }

    /// One string for a classifier that takes no other: the focus first, because such models read the
    /// head of a text.
    #[must_use]
    pub fn joined(mut self) -> String {
        if !self.context.is_empty() {
            self.focus.push_str("\n\n");
            self.focus.push_str(&self.context);
        }
        self.focus
    }
}

/// Appends the text of `content`, parts joined by line breaks, within about `max` bytes.
fn push(content: Content<'_>, max: usize, out: &mut String) {
    let total: usize = content.texts().map(|t| t.raw_len()).sum();
    let start = out.len();
    if start > 0 && total > 0 {
        out.push('\n');
    }
    for (i, text) in content.texts().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        // Each part gets its share, so that a long part in front cannot hide the question behind it.
        let share = if total <= max { text.raw_len() } else { (max * text.raw_len() / total).max(256) };
        text.push_head_tail(share, out);
        if out.len() - start > 2 * max {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str, v1: bool) -> PromptText {
        PromptText::of(&RequestView::parse(body.as_bytes()).unwrap(), v1)
    }

    const TALK: &str = r#"{"messages":[
        {"role":"system","content":"Be kind."},
        {"role":"user","content":"one"},{"role":"assistant","content":"a"},
        {"role":"user","content":"two"},{"role":"assistant","content":"b"},
        {"role":"user","content":"three"},{"role":"assistant","content":null,"tool_calls":[{}]},
        {"role":"user","content":[{"type":"text","text":"now in"},{"type":"image_url"},{"type":"text","text":"French"}]},
        {"role":"assistant","tool_calls":[{}]},
        {"role":"tool","content":"{\"rows\":3}"}]}"#;

    #[test]
    fn the_last_user_turn_is_the_focus_and_what_led_to_it_the_context() {
        let text = of(TALK, false);
        assert_eq!(text.focus, "now in\nFrench");
        assert_eq!(text.context, "Be kind.\ntwo\nthree");
        assert_eq!(text.joined(), "now in\nFrench\n\nBe kind.\ntwo\nthree");
    }

    #[test]
    fn compat_v1_reads_the_last_message_only() {
        assert_eq!(of(TALK, true).focus, "{\"rows\":3}");
        assert_eq!(of(TALK, true).context, "");
        assert_eq!(of(r#"{"prompt":"p"}"#, false).focus, "p");
        assert_eq!(of(r#"{"messages":[{"role":"assistant","content":"x"}]}"#, false).focus, "x");
    }

    #[test]
    fn long_texts_keep_head_and_tail() {
        let long = format!("HEAD {} TAIL", "x ".repeat(60_000));
        let body = serde_json::json!({"messages":[{"role":"user","content":long}]}).to_string();
        let text = of(&body, false);
        assert!(text.focus.starts_with("HEAD") && text.focus.ends_with("TAIL"));
        assert!(text.focus.len() <= FOCUS_MAX_BYTES + 8);
    }
}
