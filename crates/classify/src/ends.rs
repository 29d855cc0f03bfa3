//! Both ends of a text that is too long to be read whole.
//!
//! Called by `features` and the encoder's session, each with its own measure. (`pii` needs the offsets too.)

/// All of `text` and nothing, or its first `head` and last `tail` bytes, cut at characters.
pub(crate) fn of(text: &str, head: usize, tail: usize) -> (&str, &str) {
    if text.len() <= head + tail {
        return (text, "");
    }
    let end = text.ceil_char_boundary(text.len() - tail);
    (&text[..text.floor_char_boundary(head)], &text[end..])
}
