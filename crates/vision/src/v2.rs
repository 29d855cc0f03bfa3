//! What LLM Router v2's network was fed: the text of a conversation, and two vectors in a row.
//!
//! Pure functions over what a request holds; facts from v2's source. Called by the router before
//! [`Network::predict`](crate::Network::predict).

/// What v2 embeds when a conversation has no text at all.
const NOTHING: &str = "routing query";

/// A conversation as v2 embeds it: `[ROLE]: text` of each message, joined by single spaces.
///
/// `messages` gives each message's role and the texts in it: the one string of its content, or its text parts in order,
/// without the parts of other types. Only the start of the result counts: CLIP reads 77 tokens.
pub fn v2_text<'a, T>(messages: impl IntoIterator<Item = (&'a str, T)>) -> String
where
    T: IntoIterator<Item = &'a str>,
{
    let mut words: Vec<String> = Vec::new();
    for (role, texts) in messages {
        if !role.is_empty() {
            words.push(format!("[{}]:", role.to_uppercase()));
        }
        let texts = texts.into_iter().map(str::trim).filter(|text| !text.is_empty());
        words.extend(texts.map(str::to_owned));
    }
    if words.is_empty() { NOTHING.to_owned() } else { words.join(" ") }
}

/// The network's input: the text's vector, then that of the first image, or as many zeros.
pub fn v2_input(text: &[f32], image: Option<&[f32]>) -> Vec<f32> {
    match image {
        Some(image) => [text, image].concat(),
        None => {
            let mut input = text.to_vec();
            input.resize(2 * text.len(), 0.0);
            input
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{v2_input, v2_text};

    #[test]
    fn a_conversation_reads_as_v2_writes_it() {
        let messages = [
            ("system", vec!["Be brief."]),
            ("user", vec!["  What is this? ", "", "And that?\n"]),
            ("assistant", vec!["  "]),
        ];
        assert_eq!(v2_text(messages), "[SYSTEM]: Be brief. [USER]: What is this? And that? [ASSISTANT]:");
        assert_eq!(v2_text([("", vec!["hi"])]), "hi");
        assert_eq!(v2_text([("", vec![" "])]), "routing query");
        assert_eq!(v2_text::<Vec<&str>>([]), "routing query");
    }

    #[test]
    fn no_image_is_as_many_zeros() {
        assert_eq!(v2_input(&[1.0, 2.0], None), [1.0, 2.0, 0.0, 0.0]);
        assert_eq!(v2_input(&[1.0, 2.0], Some(&[3.0, 4.0])), [1.0, 2.0, 3.0, 4.0]);
    }
}
