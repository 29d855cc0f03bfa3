//! Which conversation a request belongs to, and what is remembered of conversations.
//!
//! A conversation is known by a session header, or else by its first messages. Memory is bounded; the longest unused is
//! forgotten first. What follows from it is decided in `policy`. Called by the brain.

use crate::context::Context;
use lru::LruCache;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, Serializer};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use waypost_config::ModelIndex;
use waypost_policy::{Memory, Turn};
use waypost_wire::{Message, Part, RequestView, Role};
use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_seed};

/// Conversations remembered, in all. About 150 bytes each.
const MAX_CONVERSATIONS: usize = 65_536;
/// Locks they are shared out over.
const SHARDS: usize = 16;
/// Longest user turn that is taken for a complaint, in bytes: who writes more asks for something else.
const MAX_COMPLAINT_BYTES: usize = 240;
/// What people say when an answer was no good, in lower case. A phrase counts at the start of a turn or after a mark.
const COMPLAINTS: [&str; 33] = [
    "try again",
    "please try again",
    "again please",
    "retry",
    "redo",
    "do it again",
    "do that again",
    "regenerate",
    "that's wrong",
    "thats wrong",
    "that is wrong",
    "this is wrong",
    "you're wrong",
    "you are wrong",
    "wrong answer",
    "wrong",
    "incorrect",
    "that's incorrect",
    "that is incorrect",
    "that's not right",
    "that is not right",
    "that's not correct",
    "that is not correct",
    "not correct",
    "that's not what i asked",
    "that is not what i asked",
    "not what i asked",
    "it doesn't work",
    "it does not work",
    "this doesn't work",
    "still wrong",
    "still doesn't work",
    "you made a mistake",
];

/// A conversation, as the Decision shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Conversation {
    /// A hash of its session header or first messages. It is shown hashed once more, with a salt of this process: openings are
    /// easily guessed.
    #[serde(serialize_with = "salted")]
    pub key: u128,
    /// What the request is to it.
    pub turn: &'static str,
    /// The model that answered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub had: Option<Arc<str>>,
    /// What leaving that model's cache adds to the cost, in US dollars.
    pub extra_usd: f64,
    /// What was remembered of it, for whoever decides the request again.
    #[serde(skip)]
    pub recalled: Option<Recalled>,
}

/// What is remembered of a conversation. The model goes by its name: a reload may number them anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recalled {
    /// The model that answered last, or was last recommended.
    pub model: Arc<str>,
    /// Prompt tokens that its cache holds, as far as can be told.
    pub cached_tokens: u64,
    /// Expected cost of its prompts so far, in US dollars.
    pub spent_usd: f64,
    /// What leaving warm caches has added to it.
    pub extra_usd: f64,
    /// When the last request came, Unix time in milliseconds.
    pub at_ms: u64,
}

impl Recalled {
    /// As the policy takes it; `model` is the index of the model.
    pub(crate) fn memory(&self, model: ModelIndex) -> Memory {
        let Self { cached_tokens, spent_usd, extra_usd, at_ms, .. } = *self;
        Memory { model, cached_tokens, spent_usd, extra_usd, at_ms }
    }
}

fn salted<S: Serializer>(key: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    static SALT: OnceLock<u64> = OnceLock::new();
    let salt = *SALT.get_or_init(|| RandomState::new().build_hasher().finish());
    let shown = xxh3_128_with_seed(&key.to_le_bytes(), salt);
    serializer.collect_str(&format_args!("{shown:032x}"))
}

/// The conversation's key; `None` where there is neither a session header nor a message. Clients with different keys never
/// share one.
pub(crate) fn key(view: &RequestView<'_>, context: &Context<'_>) -> Option<u128> {
    let mut hash = Xxh3::new();
    if let Some(client) = context.headers.get(http::header::AUTHORIZATION) {
        hash.update(client.as_bytes());
    }
    if let Some(session) = context.session() {
        hash.update(b"session\0");
        hash.update(session);
        return Some(hash.digest128());
    }
    let messages = view.messages.as_ref()?;
    let first_user = messages.iter().position(|message| message.role == Role::User)?;
    let system = view.instructions.into_iter();
    system.for_each(|text| hash.update(text.decode().as_bytes()));
    for message in &messages[..=first_user] {
        hash.update(&[0, message.role as u8]);
        for part in message.content.parts() {
            match part {
                Part::Text(text) | Part::Image(Some(text)) => hash.update(text.decode().as_bytes()),
                _ => hash.update(&[1]),
            }
        }
    }
    Some(hash.digest128())
}

/// Whether a conversation that is known by its beginning has only just begun: many begin with the same words.
pub(crate) fn begins(view: &RequestView<'_>, context: &Context<'_>) -> bool {
    let answered = |message: &Message<'_>| matches!(message.role, Role::Assistant | Role::Tool);
    context.session().is_none()
        && !view.ends_with_tool
        && !view.messages.as_deref().unwrap_or_default().iter().any(answered)
}

/// What the request is to its conversation.
pub(crate) fn turn(view: &RequestView<'_>) -> Turn {
    let Some([earlier @ .., last]) = view.messages.as_deref() else { return Turn::default() };
    let answered = earlier.iter().any(|message| message.role == Role::Assistant);
    Turn {
        tool_loop: last.role != Role::User || view.ends_with_tool,
        complaint: answered && last.role == Role::User && !view.ends_with_tool && complains(last),
        failed: false,
    }
}

fn complains(message: &Message<'_>) -> bool {
    let bytes: usize = message.content.texts().map(|text| text.raw_len()).sum();
    if bytes > MAX_COMPLAINT_BYTES {
        return false;
    }
    let text: Vec<_> = message.content.texts().map(|text| text.decode().to_lowercase()).collect();
    let text = text.join("\n").replace('\u{2019}', "'");
    let sentences = text.split(['.', '!', '?', ',', ';', ':', '\n']).map(str::trim);
    sentences.into_iter().any(|sentence| {
        let sentence = ["no ", "sorry ", "hmm ", "but ", "well ", "i think "]
            .iter()
            .find_map(|filler| sentence.strip_prefix(filler))
            .unwrap_or(sentence);
        COMPLAINTS.iter().any(|phrase| {
            let rest = sentence.strip_prefix(phrase);
            // A single word must be all that is said: "wrong" is a complaint, "wrong turns in Rome" is a topic.
            let goes_on =
                |rest: &str| phrase.contains(' ') && rest.starts_with(' ') && !rest.starts_with(" later");
            rest.is_some_and(|rest| rest.is_empty() || goes_on(rest))
        })
    })
}

type Shard = Mutex<LruCache<u128, Recalled>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Conversations {
    shards: Vec<Shard>,
}

impl Conversations {
    pub(crate) fn new() -> Self {
        let capacity = NonZeroUsize::new(MAX_CONVERSATIONS / SHARDS).unwrap_or(NonZeroUsize::MIN);
        Self { shards: (0..SHARDS).map(|_| Mutex::new(LruCache::new(capacity))).collect() }
    }

    /// What is remembered of `key` that is no older than `keep_ms`.
    pub(crate) fn recall(&self, key: u128, now_ms: u64, keep_ms: u64) -> Option<Recalled> {
        let mut shard = self.shard(key).lock();
        let found = shard.get(&key)?;
        if now_ms.saturating_sub(found.at_ms) > keep_ms {
            shard.pop(&key);
            return None;
        }
        Some(found.clone())
    }

    pub(crate) fn remember(&self, key: u128, recalled: Recalled) {
        self.shard(key).lock().put(key, recalled);
    }

    /// Another model answered than was to.
    pub(crate) fn correct(&self, key: u128, model: &Arc<str>) {
        if let Some(known) = self.shard(key).lock().get_mut(&key) {
            known.model = Arc::clone(model);
        }
    }

    /// Conversations remembered now.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, key: u128) -> &Shard {
        &self.shards[(key as usize) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use serde_json::json;

    fn said(messages: &serde_json::Value) -> Turn {
        let body = json!({"messages": messages}).to_string();
        turn(&RequestView::parse(body.as_bytes()).unwrap())
    }

    fn after_an_answer(text: &str) -> bool {
        said(&json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
            {"role": "user", "content": text}]))
        .complaint
    }

    #[test]
    fn complaints_are_told_from_topics() {
        for text in [
            "Try again",
            "that's wrong!",
            "No, that\u{2019}s not right.",
            "Wrong.",
            "I think that is wrong",
            "Hmm, that is incorrect. Look at the second line.",
            "sorry that is not what i asked for",
            "It doesn't work when n is 0",
        ] {
            assert!(after_an_answer(text), "{text}");
        }
        for text in [
            "What is wrong with this code?",
            "wrong turns in Rome: write a story",
            "Which answers are incorrect?",
            "Explain retry policies",
            "try again later messages: how do I implement them?",
            "thanks!",
            "",
        ] {
            assert!(!after_an_answer(text), "{text}");
        }
        assert!(!after_an_answer(&format!("try again {}", "x".repeat(300))), "too long");
        assert!(
            !said(&json!([{"role": "user", "content": "try again"}])).complaint,
            "nothing was answered yet"
        );
    }

    #[test]
    fn a_tool_loop_is_one() {
        let call = json!({"role": "assistant", "tool_calls": [{}]});
        assert!(
            said(&json!([{"role": "user", "content": "q"}, call, {"role": "tool", "content": "1"}]))
                .tool_loop
        );
        assert!(!said(&json!([{"role": "user", "content": "q"}])).tool_loop);
    }

    #[test]
    fn a_conversation_is_known_by_its_header_or_its_beginning() {
        let of = |body: &serde_json::Value, session: Option<&str>| {
            let body = body.to_string();
            let mut headers = HeaderMap::new();
            if let Some(session) = session {
                headers.insert("x-dynamo-session-id", session.parse().unwrap());
            }
            let context = Context::new(&headers, 0);
            key(&RequestView::parse(body.as_bytes()).unwrap(), &context)
        };
        let short =
            json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]});
        let mut long = short.clone();
        long["messages"]
            .as_array_mut()
            .unwrap()
            .extend([json!({"role": "assistant", "content": "a"}), json!({"role": "user", "content": "r"})]);
        assert_eq!(of(&short, None), of(&long, None));
        assert_ne!(of(&short, None), of(&json!({"messages": [{"role": "user", "content": "q"}]}), None));
        assert_eq!(of(&short, Some("1")), of(&json!({"prompt": "x"}), Some("1")));
        assert_ne!(of(&short, Some("1")), of(&short, Some("2")));
        assert_eq!(of(&json!({"prompt": "x"}), None), None);
    }

    #[test]
    fn memory_ends_and_is_bounded() {
        let memory =
            Recalled { model: "m".into(), cached_tokens: 1, spent_usd: 0.0, extra_usd: 0.0, at_ms: 1000 };
        let all = Conversations::new();
        all.remember(7, memory.clone());
        assert!(all.recall(7, 2000, 1000).is_some());
        all.correct(7, &"other".into());
        assert_eq!(&*all.recall(7, 2000, 1000).unwrap().model, "other");
        assert!(all.recall(7, 2001, 1000).is_none() && all.len() == 0);
        (0..2 * MAX_CONVERSATIONS as u128).for_each(|key| all.remember(key, memory.clone()));
        assert_eq!(all.len(), MAX_CONVERSATIONS);
    }
}
