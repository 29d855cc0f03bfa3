//! From prompt text to a label: the embedded classifier in process, or a KServe server over HTTP.
//!
//! A KServe answer has a deadline and a size limit; whatever goes wrong is told, with v1's status and
//! words, so that the brain can take the policy's default or say no. Called by the brain.

use crate::client;
use crate::decision::{Probabilities, Tier};
use crate::prompt::PromptText;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use std::sync::Arc;
use std::time::Duration;
use waypost_classify::{Classifier as Embedded, Head, Prompt};
use waypost_config::{Classifier, Policy};
use waypost_wire::{ApiError, Code, kserve};

/// Connect timeout to a KServe server; the policy's own deadline covers the rest.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest KServe answer read, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Most of a KServe error body repeated to the client, in characters.
const MAX_ECHO_CHARS: usize = 300;

/// What a classifier said.
#[derive(Debug, Clone)]
pub struct Classified {
    /// The label with the highest probability; `#12` for an index that has no name.
    pub label: Arc<str>,
    /// Its probability; absent when the answer was one-hot.
    pub confidence: Option<f32>,
    /// All labels.
    pub probabilities: Probabilities,
    /// 0 to 1.
    pub difficulty: Option<f32>,
}

/// Everything that can label a prompt.
#[derive(Debug, Clone)]
pub struct Classifiers {
    embedded: Arc<Embedded>,
    task: Arc<[Arc<str>]>,
    complexity: Arc<[Arc<str>]>,
}

impl Classifiers {
    /// The embedded classifier; KServe servers need no preparation.
    #[must_use]
    pub fn new(embedded: Arc<Embedded>) -> Self {
        let names = |head: Head| head.labels().iter().map(|l| Arc::from(*l)).collect();
        Self { embedded, task: names(Head::Task), complexity: names(Head::Complexity) }
    }

    /// The embedded classifier itself.
    #[must_use]
    pub fn embedded(&self) -> &Arc<Embedded> {
        &self.embedded
    }

    /// Which tier answers for a policy.
    #[must_use]
    pub fn tier(policy: &Policy) -> Tier {
        match policy.classifier {
            Classifier::Task | Classifier::Complexity => Tier::Embedded,
            Classifier::Kserve { .. } => Tier::Kserve,
        }
    }

    /// Labels a prompt as `policy` wants it.
    ///
    /// # Errors
    /// When a KServe server is late, down or talks nonsense.
    pub async fn classify(&self, policy: &Policy, text: PromptText) -> Result<Classified, ApiError> {
        match &policy.classifier {
            Classifier::Task => Ok(self.read(Head::Task, &self.task, &text)),
            Classifier::Complexity => Ok(self.read(Head::Complexity, &self.complexity, &text)),
            Classifier::Kserve { url, labels } => {
                let ask = self.ask_kserve(url, text.joined());
                match tokio::time::timeout(policy.classify_timeout, ask).await {
                    Ok(scores) => Ok(name_scores(scores?, labels)),
                    Err(_) => Err(late(policy.classify_timeout)),
                }
            }
        }
    }

    fn read(&self, head: Head, labels: &Arc<[Arc<str>]>, text: &PromptText) -> Classified {
        let verdict = self.embedded.classify(head, &Prompt { focus: &text.focus, context: &text.context });
        Classified {
            label: name(labels, verdict.label),
            confidence: Some(verdict.confidence),
            probabilities: Probabilities { labels: Arc::clone(labels), values: verdict.probabilities },
            difficulty: verdict.difficulty,
        }
    }

    async fn ask_kserve(&self, url: &str, text: String) -> Result<kserve::Scores, ApiError> {
        let body = Bytes::from(kserve::request_body(&text));
        let request = http::Request::post(url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.into())
            .map_err(|e| ApiError::new(Code::Internal, format!("The classifier URL cannot be used: {e}")))?;
        let unreachable = |_| ApiError::new(Code::ClassifierUnavailable, "Triton server is unreachable");
        let answer = client::local(CONNECT_TIMEOUT).request(request).await.map_err(unreachable)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|_| {
            ApiError::new(
                Code::ClassifierInvalid,
                "Invalid Triton response: the body broke off or is too large",
            )
        })?;
        let body = body.to_bytes();
        if !status.is_success() {
            let text: String = String::from_utf8_lossy(&body).chars().take(MAX_ECHO_CHARS).collect();
            // A redirect or an informational status would make no sense to the client.
            let status = if status.as_u16() >= 400 { status.as_u16() } else { 502 };
            return Err(ApiError::new(
                Code::ClassifierFailed(status),
                format!("Triton service error: {text}"),
            ));
        }
        kserve::read_scores(&body).map_err(|message| ApiError::new(Code::ClassifierInvalid, message))
    }
}

fn late(timeout: Duration) -> ApiError {
    let message = format!("Triton server did not answer within {} ms", timeout.as_millis());
    ApiError::new(Code::ClassifierUnavailable, message)
}

fn name_scores(scores: kserve::Scores, labels: &[Arc<str>]) -> Classified {
    Classified {
        label: name(labels, scores.best),
        confidence: (!scores.one_hot).then(|| scores.probabilities[scores.best]),
        probabilities: Probabilities {
            labels: (0..scores.probabilities.len()).map(|i| name(labels, i)).collect(),
            values: scores.probabilities,
        },
        difficulty: None,
    }
}

fn name(labels: &[Arc<str>], index: usize) -> Arc<str> {
    labels.get(index).cloned().unwrap_or_else(|| format!("#{index}").into())
}
