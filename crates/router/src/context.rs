//! What stands around a request: who sent it, when, and, where it is decided again, what was known then.
//!
//! Doors make it from the head of a request; `waypost replay` from a line of a log. Read by the brain.

use crate::conversations::Recalled;
use crate::decision::{Asked, Tier};
use http::HeaderMap;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use waypost_classify::encoder::{Branch, Encoding};

/// Headers that name a conversation, in the order in which they are looked at: ours, Switchyard's and Dynamo's.
const SESSION_HEADERS: [&str; 3] = ["x-session-id", "x-switchyard-session-id", "x-dynamo-session-id"];

/// See the module.
#[derive(Debug)]
pub struct Context<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// Unix time of arrival, in milliseconds: the only clock that decisions go by.
    pub at_ms: u64,
    /// For a request that is decided again.
    pub given: Option<&'a Given>,
    encoded: OnceLock<Encoded>,
}

/// A text as the encoder was given it, and its output: the guard and the policy mostly ask about the same.
#[derive(Debug)]
struct Encoded {
    excerpt: Arc<str>,
    encoding: Encoding,
}

/// What was known when a request was decided first. Deciding by it again gives the same bits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// The policy that decided: what was said outside this process stands only under it.
    pub policy: Option<Arc<str>>,
    /// Of each model by name: milliseconds before the first token, and per token.
    pub latencies: HashMap<Arc<str>, (f64, f64)>,
    /// What was remembered of the conversation, if anything; absent where that is not known.
    pub memory: Option<Option<Recalled>>,
    /// The policy that a split sent the request to.
    pub arm: Option<Arc<str>>,
    /// The encoder was wanted, and this came of it.
    pub encoder: Option<Asked>,
    /// What a classifier or an embeddings server outside this process led to.
    pub remote: Option<Remote>,
}

/// The answer of something outside this process, as the log has it.
#[derive(Debug, Clone, PartialEq)]
pub enum Remote {
    /// A classifier of this kind chose this label, with this confidence.
    Label(Arc<str>, Option<f32>, Tier),
    /// The network over embeddings expected this quality of each model, by name.
    Qualities(HashMap<Arc<str>, f32>),
    /// It failed.
    Failed,
}

impl Given {
    /// What was said outside this process for `policy`.
    pub(crate) fn said_for(&self, policy: &str) -> Option<&Remote> {
        self.remote.as_ref().filter(|_| self.policy.as_deref() == Some(policy))
    }
}

impl<'a> Context<'a> {
    /// Of a request that is decided for the first time.
    #[must_use]
    pub fn new(headers: &'a HeaderMap, at_ms: u64) -> Self {
        Self { headers, at_ms, given: None, encoded: OnceLock::new() }
    }

    /// Of one that is decided again, by what was known then.
    #[must_use]
    pub fn again(self, given: Option<&'a Given>) -> Self {
        Self { given, ..self }
    }

    /// The encoder's output for a text that it was given for this request already.
    pub(crate) fn encoding(&self, excerpt: &str, branch: Branch) -> Option<Encoding> {
        let kept = self.encoded.get()?;
        (*kept.excerpt == *excerpt && kept.encoding.branch() == branch).then(|| kept.encoding.clone())
    }

    /// Keeps the encoder's output; the first one stays.
    pub(crate) fn keep(&self, excerpt: Arc<str>, encoding: &Encoding) {
        self.encoded.get_or_init(|| Encoded { excerpt, encoding: encoding.clone() });
    }

    /// The conversation's name, where the client gives one.
    #[must_use]
    pub fn session(&self) -> Option<&'a [u8]> {
        let named = |name: &&str| self.headers.get(*name).map(http::HeaderValue::as_bytes);
        SESSION_HEADERS.iter().find_map(|name| named(name).filter(|value| !value.is_empty()))
    }
}

/// A session header's name, for whoever keeps requests for later.
#[must_use]
pub fn session_headers() -> &'static [&'static str] {
    &SESSION_HEADERS
}
