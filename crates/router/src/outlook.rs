//! What an auto policy knows before it chooses: the expected quality, tokens, cost and latency of each contestant.
//!
//! Quality comes from learned outcomes, in process, or from v2's network over embeddings. Prices are the configuration's;
//! latency is what Waypost has observed, or else what the outcomes told. Called by `classifying` and the brain.

use crate::context::Context;
use crate::decision::{Escalation, Tier};
use crate::embedding::Embedder;
use crate::latency::Latency;
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use waypost_classify::outcomes::{Expected as Learnt, OUTCOMES_FILE, OutcomeModel};
use waypost_config::{Auto, Contestant, Snapshot};
use waypost_policy::{BYTES_PER_TOKEN, Demand, Expected};
use waypost_vision::{Network, v2_input, v2_text};
use waypost_wire::{ApiError, Code, Part, RequestView, Role};

/// Tokens that an answer is expected to have where nothing tells.
pub const ANSWER_TOKENS: f64 = 300.0;
/// Characters of a conversation that are embedded for v2's network; CLIP reads 77 tokens of them.
const MAX_EMBEDDED_BYTES: usize = 4096;

/// What tells the quality of a policy's contestants. Columns are in step with them.
#[derive(Debug)]
pub(crate) enum Oracle {
    Outcomes { model: Arc<OutcomeModel>, columns: Vec<usize> },
    Network { network: Arc<Network>, embedder: Arc<Embedder>, columns: Vec<usize> },
}

/// What is expected of the contestants, in their order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outlook {
    pub(crate) learnt: Vec<Learnt>,
    pub(crate) tier: Tier,
    pub(crate) escalation: Option<Escalation>,
}

/// A contestant, as the Decision shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    /// Its name.
    pub model: Arc<str>,
    /// Expected quality, 0 to 1.
    #[serde(serialize_with = "four_digits")]
    pub quality: f32,
    /// Expected cost in US dollars, where it has a price.
    pub cost_usd: Option<f64>,
    /// Expected milliseconds to the end of the answer, where something is known.
    #[serde(serialize_with = "whole_micros")]
    pub latency_ms: Option<f64>,
    /// What was observed of the model when it was considered: milliseconds before the first token, and per token.
    #[serde(skip)]
    pub observed: Option<(f64, f64)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn four_digits<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    crate::decision::round(f64::from(*value)).serialize(serializer)
}

fn whole_micros<S: Serializer>(ms: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    ms.map(|ms| (ms * 1e3).round() / 1e3).serialize(serializer)
}

impl Oracle {
    /// Holds what was learnt against the contestants.
    ///
    /// # Errors
    /// A sentence naming the contestant that was never learnt about.
    pub(crate) fn outcomes(model: Arc<OutcomeModel>, auto: &Auto) -> Result<Self, String> {
        let columns = columns(model.models(), auto, "the outcomes know")?;
        Ok(Self::Outcomes { model, columns })
    }

    /// The same for a network, whose every output must be a contestant's: a name that nobody knows is a slip, and v2
    /// would send its prompts to a default in silence.
    ///
    /// # Errors
    /// A sentence naming the output or contestant without a counterpart, or telling that the vectors do not fit.
    pub(crate) fn network(
        network: Arc<Network>,
        embedder: Arc<Embedder>,
        auto: &Auto,
    ) -> Result<Self, String> {
        let columns = columns(network.models(), auto, "the network knows")?;
        let unknown =
            network.models().iter().find(|name| auto.contestants.iter().all(|c| c.known_as != **name));
        if let Some(name) = unknown {
            return Err(format!(
                "the network has an output for `{name}`, and no model of the policy goes by that name; map it under \
                 `names`"
            ));
        }
        if !network.inputs().is_multiple_of(2) {
            return Err(format!(
                "the network takes {} numbers, which are no text's and image's vector in a row",
                network.inputs()
            ));
        }
        if let Some(dims) = embedder.dims().filter(|dims| 2 * dims != network.inputs()) {
            return Err(format!(
                "the network takes {} numbers, and `{}` makes {dims} for a text and {dims} for an image",
                network.inputs(),
                embedder.settings.name
            ));
        }
        Ok(Self::Network { network, embedder, columns })
    }

    /// What training found, in words.
    pub(crate) fn advice(&self) -> Option<&str> {
        match self {
            Self::Outcomes { model, .. } => Some(model.advice()),
            Self::Network { .. } => None,
        }
    }
}

fn columns(names: &[Arc<str>], auto: &Auto, what: &str) -> Result<Vec<usize>, String> {
    let column = |known_as: &Arc<str>| {
        names.iter().position(|name| name == known_as).ok_or_else(|| {
            format!("{what} nothing of `{known_as}`, only of {}; map names under `names`", names.join(", "))
        })
    };
    auto.contestants.iter().map(|contestant| column(&contestant.known_as)).collect()
}

/// The model in a folder that `waypost train --outcomes` wrote; the file itself may be named too.
///
/// # Errors
/// When it cannot be read, is larger than 256 MiB, damaged, foreign, or learned with another encoder or
/// other built-in classifiers; the error names it.
pub fn read_outcomes(
    engine: &waypost_classify::Engine,
    folder: &Path,
) -> Result<OutcomeModel, waypost_classify::Error> {
    let (shown, bytes) = crate::ready::read_bounded(folder, OUTCOMES_FILE)?;
    OutcomeModel::open(&shown, &bytes, engine.fingerprint())
}

/// What was observed of each contestant: milliseconds before the first token, and per token.
pub(crate) fn observed(
    snapshot: &Snapshot,
    auto: &Auto,
    latencies: &[Arc<Latency>],
    context: &Context<'_>,
) -> Vec<Option<(f64, f64)>> {
    let of = |model: usize| match context.given {
        Some(given) => given.latencies.get(&snapshot.models[model].name).copied(),
        None => latencies[model].line(),
    };
    auto.contestants.iter().map(|contestant| of(contestant.model)).collect()
}

/// The contestants as the policy's rule compares them.
pub(crate) fn expected(
    snapshot: &Snapshot,
    auto: &Auto,
    outlook: &Outlook,
    demand: &Demand,
    observed: &[Option<(f64, f64)>],
) -> Vec<Expected> {
    let prompt_tokens = demand.text_bytes / BYTES_PER_TOKEN;
    // No limit, or one that engines refuse.
    let most = if demand.max_tokens == 0 { f64::INFINITY } else { demand.max_tokens as f64 };
    let each = auto.contestants.iter().zip(&outlook.learnt).enumerate();
    each.map(|(contestant, (entry, learnt))| {
        let model = &snapshot.models[entry.model];
        let tokens = learnt.tokens.map_or(ANSWER_TOKENS, f64::from).min(most);
        let took = observed[contestant].map(|(first, per_token)| first + per_token * tokens);
        Expected {
            model: entry.model,
            contestant,
            quality: learnt.quality,
            cost_usd: model.price.map(|price| price.cost_usd(prompt_tokens, tokens.round() as u64)),
            latency_ms: took.or(learnt.latency_ms.map(f64::from)),
        }
    })
    .collect()
}

/// Asks v2's network.
pub(crate) async fn by_network(
    network: &Network,
    embedder: &Embedder,
    columns: &[usize],
    view: &RequestView<'_>,
    timeout: Duration,
) -> Result<Outlook, ApiError> {
    let (text, image) = v2_prompt(view);
    let vectors = embedder.vectors(text, image, timeout).await?;
    let half = network.inputs() / 2;
    for vector in std::iter::once(&vectors.text).chain(&vectors.image) {
        if vector.len() != half {
            let message =
                format!("The network takes vectors of {half} numbers; one of {} came.", vector.len());
            return Err(ApiError::new(Code::ClassifierInvalid, message));
        }
    }
    let input = v2_input(&vectors.text, vectors.image.as_deref());
    let invalid =
        |error| ApiError::new(Code::ClassifierInvalid, format!("The embeddings do not fit: {error}."));
    let qualities = network.predict(&input).map_err(invalid)?;
    let learnt = columns.iter().map(|c| Learnt { quality: qualities[*c], tokens: None, latency_ms: None });
    Ok(Outlook { learnt: learnt.collect(), tier: Tier::Network, escalation: None })
}

/// What the network said the first time. Nothing is known of contestants that could not take the request, and nothing
/// is asked of them.
pub(crate) fn repeat(snapshot: &Snapshot, auto: &Auto, known: &HashMap<Arc<str>, f32>) -> Outlook {
    let quality = |c: &Contestant| known.get(&snapshot.models[c.model].name).copied().unwrap_or(0.0);
    let learnt =
        auto.contestants.iter().map(|c| Learnt { quality: quality(c), tokens: None, latency_ms: None });
    Outlook { learnt: learnt.collect(), tier: Tier::Network, escalation: None }
}

/// The conversation as v2 embeds it, and the URL of its first image.
fn v2_prompt(view: &RequestView<'_>) -> (String, Option<String>) {
    let messages = view.messages.as_deref().unwrap_or_default();
    let mut image = None;
    let mut said: Vec<(&str, Vec<String>)> = Vec::new();
    let mut left = MAX_EMBEDDED_BYTES;
    let contents =
        messages.iter().map(|m| (role(m.role), m.content)).chain(view.input.map(|input| ("", input)));
    for (role, content) in contents {
        let mut texts = Vec::new();
        for part in content.parts() {
            match part {
                Part::Text(text) if left > 0 => {
                    let mut piece = String::new();
                    text.push_head_tail(left.min(text.raw_len()), &mut piece);
                    left = left.saturating_sub(piece.len());
                    texts.push(piece);
                }
                // An image without an address is still one: it must not pass for none.
                Part::Image(url) if image.is_none() => {
                    image = Some(url.map(|url| url.decode().into_owned()).unwrap_or_default());
                }
                _ => {}
            }
        }
        said.push((role, texts));
    }
    let text = v2_text(said.iter().map(|(role, texts)| (*role, texts.iter().map(String::as_str))));
    (text, image)
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
        Role::Other => "",
    }
}
