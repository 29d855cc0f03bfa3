//! The answer to a question for an intent: routes and a conversation in, `{"route": …}` out.
//!
//! It counts words that the user's last message shares with each description, so that an example runs without a model.
//! It understands nothing: a real model reads the conversation, this reads words. Called by `chat`.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::json;

/// The route when no description shares a word.
const OTHER: &str = "other";
/// Shorter words say nothing about a subject.
const MIN_WORD_CHARS: usize = 3;
/// Words that begin alike are the same: a poor man's stemmer.
const STEM_CHARS: usize = 5;
/// Words of every description.
const STOP: [&str; 32] = [
    "and", "the", "for", "with", "that", "this", "what", "when", "which", "from", "into", "about", "user",
    "wants", "asks", "are", "was", "has", "have", "can", "you", "your", "how", "one", "not", "but", "any",
    "all", "its", "some", "like", "such",
];

#[derive(Deserialize)]
struct Route {
    name: String,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    #[serde(default)]
    content: String,
}

/// The answer, if `question` is of that form.
pub(crate) fn answer(question: &str) -> Option<String> {
    let routes: Vec<Route> = serde_json::from_str(inside(question, "routes")?).ok()?;
    let turns: Vec<Turn> = serde_json::from_str(inside(question, "conversation")?).ok()?;
    let said = turns.iter().rev().find(|turn| turn.role == "user").map_or("", |turn| &turn.content);
    let said = stems(said);
    let shared = |route: &Route| {
        let words = stems(&format!("{} {}", route.name, route.description));
        words.intersection(&said).count()
    };
    let mut best: (usize, &str) = (0, OTHER);
    for route in &routes {
        let count = shared(route);
        // Of equals the first; a word too few is none.
        if count > best.0 {
            best = (count, &route.name);
        }
    }
    Some(json!({"route": best.1}).to_string())
}

/// What stands between a pair of tags on lines of their own.
fn inside<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (open, close) = (format!("\n<{tag}>\n"), format!("\n</{tag}>\n"));
    let start = text.find(&open)? + open.len();
    let end = text[start..].find(&close)?;
    Some(&text[start..start + end])
}

fn stems(text: &str) -> HashSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
    let telling = |word: &String| word.chars().count() >= MIN_WORD_CHARS && !STOP.contains(&word.as_str());
    words.filter(telling).map(|word| word.chars().take(STEM_CHARS).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(said: &str) -> String {
        let routes = r#"[{"name": "hard_question", "description": "Proof or calculation."},
            {"name": "image_question", "description": "About an attached image."}]"#;
        let turns = json!([{"role": "user", "content": "calculate"}, {"role": "user", "content": said}]);
        format!("x\n<routes>\n{routes}\n</routes>\n\n<conversation>\n{turns}\n</conversation>\nRules")
    }

    #[test]
    fn shared_words_of_the_last_message_decide() {
        for (said, route) in [
            ("Please calculate 2 + 2", "hard_question"),
            ("what is this? [image]", "image_question"),
            ("good morning", "other"),
        ] {
            assert_eq!(answer(&question(said)), Some(format!("{{\"route\":\"{route}\"}}")), "{said}");
        }
    }

    #[test]
    fn other_texts_are_no_such_question() {
        assert_eq!(answer("what do <routes> and <conversation> mean?"), None);
        assert_eq!(answer(&question("x").replace("}]", "}")), None);
    }
}
