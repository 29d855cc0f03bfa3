//! What all requests to the management API share, and how their work is kept away from everybody else's.
//!
//! A request takes a place before its body is read, and another one before it takes processor time, on a thread that no
//! connection waits for. Called by `paths`.

use crate::input::{self, Text};
use crate::refusal::Refusal;
use crate::{batch, eval, intent, pii, security};
use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use waypost_classify::pii::Detector;
use waypost_classify::{Builtin, Verdict};
use waypost_config::Limits;
use waypost_door::{Gateway, incoming};
use waypost_router::{Brain, Escalation};

/// Largest request in bytes, as in vLLM Semantic Router.
const MAX_BODY_BYTES: usize = 10 << 20;
/// Requests that may have a body in memory at once.
const MAX_BODIES: usize = 16;
/// How long a request waits for a place.
const QUEUE_TIME: Duration = Duration::from_secs(10);

/// What a path asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task {
    /// What a text is about, and where it would be sent.
    Intent,
    /// Personal data in it.
    Pii,
    /// Whether it attacks the model.
    Security,
    /// Many texts at once.
    Batch,
    /// The first three together.
    Combined,
    /// Everything that is known of it.
    Eval {
        /// Every branch of the policy, too.
        trace: bool,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) detector: Detector,
    bodies: Arc<Semaphore>,
    /// As many threads as half the cores, so that requests at other doors keep theirs.
    work: Arc<Semaphore>,
}

/// What a built-in classifier says of a text.
#[derive(Debug)]
pub(crate) struct Seen {
    builtin: Builtin,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
}

impl Desk {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Result<Self, waypost_classify::Error> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            gateway,
            detector: Detector::embedded()?,
            bodies: Arc::new(Semaphore::new(MAX_BODIES)),
            work: Arc::new(Semaphore::new((cores / 2).max(1))),
        })
    }

    /// Reads a request and answers it.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        task: Task,
        request: Request<Incoming>,
    ) -> Result<Value, Refusal> {
        let _place = place(&self.bodies).await?;
        let limits = Limits { body_bytes: MAX_BODY_BYTES, ..self.gateway.brain().snapshot().limits };
        let (head, body) = request.into_parts();
        let body = incoming::read(&head.headers, body, &limits).await?;
        let place = place(&self.work).await?;
        let (desk, runtime) = (Arc::clone(self), Handle::current());
        let work = move || {
            // Kept to the end of the work, also where the client has left.
            let _place = place;
            runtime.block_on(desk.work(task, &body))
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Refusal::broken()))
    }

    async fn work(&self, task: Task, body: &Bytes) -> Result<Value, Refusal> {
        // One brain for the whole request: a reload in between must not mix two configurations.
        let brain = self.gateway.brain();
        match task {
            Task::Intent => intent::answer(self, &brain, &input::parse(body)?).await,
            Task::Pii => pii::answer(self, &input::parse(body)?),
            Task::Security => security::answer(self, &brain, &input::parse(body)?).await,
            Task::Batch => batch::answer(self, &brain, &input::parse(body)?).await,
            Task::Combined => batch::combined(self, &brain, input::parse(body)?).await,
            Task::Eval { trace } => eval::answer(self, &brain, &input::parse(body)?, trace).await,
        }
    }

    /// Asks a built-in classifier, tier by tier as for a request.
    pub(crate) async fn see(&self, brain: &Brain, builtin: Builtin, text: &Text) -> Seen {
        let begun = Instant::now();
        let patience = brain.snapshot().encoder.deadline;
        let (verdict, escalation) = brain.classifiers().ask(builtin, text.prompt(), patience).await;
        self.note(builtin.name(), escalation.as_ref());
        Seen { builtin, verdict, took: begun.elapsed() }
    }

    /// Counts that a classifier wanted the encoder, if it did.
    pub(crate) fn note(&self, classifier: &str, escalation: Option<&Escalation>) {
        if let Some(escalation) = escalation {
            self.gateway.note_escalation(classifier, escalation);
        }
    }
}

async fn place(places: &Arc<Semaphore>) -> Result<tokio::sync::OwnedSemaphorePermit, Refusal> {
    match timeout(QUEUE_TIME, Arc::clone(places).acquire_owned()).await {
        Ok(Ok(place)) => Ok(place),
        Ok(Err(_)) | Err(_) => Err(Refusal::busy()),
    }
}

impl Seen {
    /// The likeliest label.
    pub(crate) fn label(&self) -> &'static str {
        self.builtin.labels().get(self.verdict.label).copied().unwrap_or_default()
    }

    /// Its probability.
    pub(crate) fn confidence(&self) -> f64 {
        f64::from(self.verdict.confidence)
    }

    /// Every label with its probability.
    pub(crate) fn probabilities(&self) -> Value {
        let labels = self.builtin.labels().iter().map(|label| (*label).to_owned());
        labels.zip(self.verdict.probabilities.iter().map(|p| share(f64::from(*p)))).collect()
    }
}

/// A probability as it is written: to four decimals.
pub(crate) fn share(value: f64) -> Value {
    waypost_router::round(value).into()
}

/// Whole milliseconds, as the API has them.
pub(crate) fn whole_ms(took: Duration) -> u64 {
    took.as_millis() as u64
}
