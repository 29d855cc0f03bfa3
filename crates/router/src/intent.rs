//! Intent policies: a small model reads what routes there are and what was said, and names one.
//!
//! Asks within the policy's deadline, once more where that may help, and never guesses: without a clear answer there is
//! no label, and the policy's default is taken. The same question is asked once, however many ask it. Called by
//! `classifying`.

mod answer;
mod call;
mod confidence;
mod memory;
mod question;
mod record;
mod terms;

pub use record::IntentRecord;

use crate::brain::Brain;
use crate::decision::{Attempt, millis};
use answer::{Misread, Names};
use call::{Line, Trouble};
use confidence::Token;
use memory::{Look, Memory};
use question::Question;
pub(crate) use record::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant as Clock;
use terms::{Extra, Offer, Terms};
use tokio::time::{Instant, timeout_at};
use waypost_config::{Intent, Policy};
use waypost_picker::{Ask, Pick};
use waypost_wire::{RequestView, Usage};

/// The first try and one more.
const MAX_TRIES: usize = 2;

/// One policy's way to an intent.
#[derive(Debug)]
pub(crate) struct Asker {
    intent: Arc<Intent>,
    question: Question,
    names: Names,
    terms: Terms,
    memory: Memory<Found, Failure>,
}

/// A good answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    /// Position among the labels.
    pub(crate) label: usize,
    /// 0 to 1, where the server gave log-probabilities.
    pub(crate) confidence: Option<f32>,
}

/// The part of a completion that is read.
#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    /// Read apart: what is wrong with it must not cost the answer.
    logprobs: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<Token>>,
}

impl Asker {
    pub(crate) fn new(intent: &Arc<Intent>) -> Self {
        let labels: Arc<[Arc<str>]> = intent.labels().into_iter().map(Arc::from).collect();
        Self {
            question: Question::new(intent),
            terms: Terms::new(intent.guided, &labels),
            names: Names::new(&labels),
            memory: Memory::new(intent.cache, intent.concurrency),
            intent: Arc::clone(intent),
        }
    }

    /// What the conversation wants, or why that is not known; and what it took to find out.
    pub(crate) async fn ask(
        &self,
        brain: &Brain,
        policy: &Policy,
        view: &RequestView<'_>,
    ) -> (Result<Found, Failure>, IntentRecord) {
        let begun = Clock::now();
        let patience = policy.classify_timeout;
        let deadline = Instant::from_std(begun) + patience;
        let line = Line { brain, model: self.intent.model, deadline, patience };
        let mut record = IntentRecord { model: Arc::clone(&line.model().name), ..IntentRecord::default() };
        let question = self.question.about(view, policy.compat_v1);
        let outcome = self.answer(line, &question, &mut record).await;
        record.cost_usd = line
            .model()
            .price
            .filter(|_| !record.tries.is_empty())
            .map(|price| price.cost_usd(record.prompt_tokens, record.completion_tokens));
        record.ms = millis(begun.elapsed());
        (outcome, record)
    }

    /// From memory, from whoever is asking already, or from the model.
    async fn answer(
        &self,
        line: Line<'_>,
        question: &str,
        record: &mut IntentRecord,
    ) -> Result<Found, Failure> {
        let key = self.memory.key(question);
        loop {
            match self.memory.look(key) {
                Look::Known(found) => {
                    record.cached = true;
                    return Ok(found);
                }
                Look::Busy => return Err(Failure::Busy),
                Look::Ask(asking) => {
                    let outcome = self.question(line, question, record).await;
                    asking.answered(outcome);
                    return outcome;
                }
                Look::Asked(mut waiting) => {
                    match timeout_at(line.deadline, waiting.wait_for(Option::is_some)).await {
                        Err(_) => return Err(Failure::Timeout),
                        Ok(Ok(outcome)) => {
                            record.shared = true;
                            return (*outcome).unwrap_or(Err(Failure::Unavailable));
                        }
                        // Whoever asked went away with its client: look again, perhaps to ask.
                        Ok(Err(_)) => {}
                    }
                }
            }
        }
    }

    /// Asks the model, and once more, elsewhere if that is possible, when the first try brought nothing.
    async fn question(
        &self,
        line: Line<'_>,
        question: &str,
        record: &mut IntentRecord,
    ) -> Result<Found, Failure> {
        let brain = line.brain;
        brain.budget().deposit(brain.now());
        let mut tried = SmallVec::<[usize; MAX_TRIES]>::new();
        let mut outcome = Err(Failure::Unavailable);
        for attempt in 0..MAX_TRIES {
            let limited = record.tries.last().is_some_and(|last| last.status == Some(429));
            let Some(pick) = pick(line, &tried, !limited) else { break };
            if attempt > 0 && !brain.budget().withdraw(brain.now()) {
                break;
            }
            tried.push(pick.index);
            outcome = self.at_endpoint(line, &pick, question, record).await;
            let may_help = !matches!(outcome, Ok(_) | Err(Failure::Refused));
            if !may_help || Instant::now() >= line.deadline {
                break;
            }
        }
        outcome
    }

    /// Asks one endpoint, for less where it refuses an extra.
    async fn at_endpoint(
        &self,
        line: Line<'_>,
        pick: &Pick,
        question: &str,
        record: &mut IntentRecord,
    ) -> Result<Found, Failure> {
        let mut offer = self.terms.offer();
        let mut given_up = SmallVec::<[Extra; 4]>::new();
        loop {
            record.guided = Some(offer.guided());
            let (outcome, trouble) = self.once(line, pick, question, offer, record).await;
            let less = match trouble {
                None => {
                    self.terms.learn(&given_up);
                    record.refused.extend(given_up.iter().map(|extra| extra.as_str()));
                    return outcome;
                }
                Some(Trouble::Status(status, message)) if matches!(status.as_u16(), 400 | 422) => {
                    self.terms.less(offer, &message)
                }
                Some(_) => None,
            };
            let Some((less, extra)) = less else { return outcome };
            given_up.push(extra);
            offer = less;
        }
    }

    /// One request, written down.
    async fn once(
        &self,
        line: Line<'_>,
        pick: &Pick,
        question: &str,
        offer: Offer,
        record: &mut IntentRecord,
    ) -> (Result<Found, Failure>, Option<Trouble>) {
        let body = self.terms.body(&line.model().upstream_id, question, offer);
        let begun = Clock::now();
        let posted = line.post(pick, body.into()).await;
        let outcome = match &posted {
            Ok(answer) => {
                if let Some(usage) = Usage::find(answer) {
                    record.prompt_tokens += usage.prompt_tokens;
                    record.completion_tokens += usage.completion_tokens;
                }
                self.read(answer)
            }
            Err(Trouble::Late) => Err(Failure::Timeout),
            Err(Trouble::TooLong) => Err(Failure::Unreadable),
            Err(Trouble::Connect | Trouble::Cut) => Err(Failure::Unavailable),
            Err(Trouble::Status(status, _)) if matches!(status.as_u16(), 429 | 500..) => {
                Err(Failure::Unavailable)
            }
            Err(Trouble::Status(..)) => Err(Failure::Refused),
        };
        let result = match (&posted, outcome) {
            (Err(trouble), _) => trouble.word(),
            (Ok(_), Ok(_)) => "ok",
            (Ok(_), Err(Failure::UnknownRoute)) => "unknown_route",
            (Ok(_), Err(_)) => "unreadable",
        };
        record.tries.push(Attempt {
            model: Arc::clone(&line.model().name),
            endpoint: Arc::clone(pick.booking.endpoint().base()),
            status: posted.as_ref().map_or_else(Trouble::status, |_| Some(200)),
            result,
            ms: millis(begun.elapsed()),
        });
        (outcome, posted.err())
    }

    fn read(&self, answer: &[u8]) -> Result<Found, Failure> {
        let completion: Completion = serde_json::from_slice(answer).map_err(|_| Failure::Unreadable)?;
        let choice = completion.choices.first().ok_or(Failure::Unreadable)?;
        let content = choice.message.content.as_deref().ok_or(Failure::Unreadable)?;
        let named = self.names.read(content).map_err(|misread| match misread {
            Misread::Unreadable => Failure::Unreadable,
            Misread::Unknown => Failure::UnknownRoute,
        })?;
        let logprobs =
            choice.logprobs.as_deref().and_then(|raw| serde_json::from_str::<Logprobs>(raw.get()).ok());
        let tokens = logprobs.and_then(|logprobs| logprobs.content);
        let confidence = tokens.and_then(|tokens| confidence::confidence(&tokens, &self.names, named.label));
        Ok(Found { label: named.label, confidence })
    }
}

/// Picks and books an endpoint: a healthy one not tried yet, then a doubtful one, then with `again` one already tried.
fn pick(line: Line<'_>, tried: &[usize], again: bool) -> Option<Pick> {
    let (pool, now) = (line.brain.pool(line.model), line.brain.now());
    let pick = |tried, desperate| pool.pick(&Ask::any(tried, desperate), now).ok();
    let fresh = pick(tried, false).or_else(|| pick(tried, true));
    fresh.or_else(|| again.then(|| pick(&[], true)).flatten())
}
