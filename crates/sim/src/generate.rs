//! From a request to its answer in time: queue, prefix cache, prefill, then token by token.
//!
//! Times are absolute deadlines, so that the timer's millisecond does not add up over a long answer, and with zero
//! latency no timer is touched. All endpoints that compute something come through here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::answer::{Answer, Form, Kind, Limits, write};
use crate::batch::Place;
use crate::body::Timer;
use crate::cache::BLOCK_TOKENS;
use crate::core::{Core, Served};
use crate::metrics::{Finish, Held, Meters};
use crate::reply::{ApiError, Reply};
use crate::text::{Dice, hash, tokens};

/// A request to generate text.
pub(crate) struct Call {
    pub(crate) model: Served,
    pub(crate) prompt: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) limits: Limits,
    pub(crate) stream: bool,
    pub(crate) form: Box<dyn Form>,
    pub(crate) arrived: Instant,
}

/// A request in the batch; dropped early it counts as aborted.
pub(crate) struct Run {
    meters: Arc<Meters>,
    finish: Finish,
    arrived: Instant,
    /// When the prompt will have been read.
    read_at: Instant,
    pub(crate) prompt_tokens: u32,
    pub(crate) cached_tokens: u32,
    _place: Place,
    _running: Held,
    blocks: Vec<Held>,
}

impl Run {
    /// Waits for a place in the batch and starts to read the prompt.
    pub(crate) async fn start(
        core: &Core,
        model: &Served,
        prompt: &[u8],
        arrived: Instant,
    ) -> Result<Self, ApiError> {
        let meters = &model.meters;
        let place = core.batch.enter(&meters.waiting).await.map_err(|_| ApiError::queue_full())?;
        let prompt_tokens = tokens(prompt.len()).max(1);
        // The last token is always computed: its output is what the answer begins with.
        let cached_tokens = core.cache.lookup_and_fill(model.seed, prompt).min(prompt_tokens - 1);
        meters.cached(prompt_tokens, cached_tokens);
        let fresh = f64::from(prompt_tokens - cached_tokens);
        let prefill = millis(core.options.prefill_ms_per_token * fresh);
        Ok(Run {
            meters: Arc::clone(meters),
            finish: Finish::Abort,
            arrived,
            read_at: Instant::now() + prefill,
            prompt_tokens,
            cached_tokens,
            _place: place,
            _running: meters.running.hold(),
            blocks: vec![meters.blocks.hold_many(prompt_tokens.div_ceil(BLOCK_TOKENS))],
        })
    }

    /// Waits until the prompt is read.
    pub(crate) async fn read(&self) {
        until(self.read_at).await;
        self.first_token();
    }

    fn first_token(&self) {
        self.meters.first_token(self.prompt_tokens, self.arrived.elapsed());
    }

    /// Ends the request in good order.
    pub(crate) fn end(mut self, how: Finish) {
        self.finish = how;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.meters.finished(self.finish);
    }
}

/// Generates the answer to a call, or begins to if it is streamed.
pub(crate) async fn generate(core: &Core, call: Call) -> Result<Reply, ApiError> {
    let Call { model, prompt, .. } = &call;
    let mut run = Run::start(core, model, prompt, call.arrived).await?;
    let answer = write(
        &call.kind,
        &model.name,
        call.limits,
        core.options.answer_tokens,
        (run.prompt_tokens, run.cached_tokens),
        &mut Dice::new(hash(model.seed, prompt)),
    );
    let blocks = answer.usage.completion.div_ceil(BLOCK_TOKENS);
    run.blocks.push(run.meters.blocks.hold_many(blocks));
    let generation = Generation {
        step_ms: core.options.decode_ms_per_token,
        form: call.form,
        answer,
        run: Some(run),
        ready: VecDeque::new(),
        stage: Stage::Reading,
    };
    if call.stream {
        return Ok(Reply::stream(generation));
    }
    Ok(Reply::bytes(generation.whole().await, "application/json"))
}

/// An answer on its way.
pub(crate) struct Generation {
    step_ms: f64,
    form: Box<dyn Form>,
    answer: Answer,
    /// Until the last token.
    run: Option<Run>,
    ready: VecDeque<Bytes>,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Reading,
    /// The next token.
    Writing(usize),
    Done,
}

impl Generation {
    /// When this token is due; the first one comes with the end of the prefill.
    fn due(&self, token: usize) -> Option<Instant> {
        let read_at = self.run.as_ref()?.read_at;
        Some(read_at + millis(self.step_ms * token as f64))
    }

    fn end(&mut self) {
        if let Some(run) = self.run.take() {
            run.end(self.answer.finish);
        }
    }

    /// Waits for the last token and words the answer as one body.
    async fn whole(mut self) -> Bytes {
        if let Some(run) = &self.run {
            run.read().await;
            if let Some(due) = self.due(self.answer.pieces.len().saturating_sub(1)) {
                until(due).await;
            }
            run.meters.generated(self.answer.usage.completion);
        }
        self.end();
        self.form.whole(&self.answer).into()
    }

    /// The next event, when it is due; `None` after the last.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>, timer: &mut Timer) -> Poll<Option<Bytes>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(event));
            }
            match self.stage {
                Stage::Reading => {
                    if let Some(run) = &self.run {
                        ready!(timer.poll_until(cx, run.read_at));
                        run.first_token();
                    }
                    self.form.open(&mut self.ready);
                    self.stage = Stage::Writing(0);
                }
                Stage::Writing(at) if at < self.answer.pieces.len() => {
                    if let Some(due) = self.due(at) {
                        ready!(timer.poll_until(cx, due));
                    }
                    if let Some(run) = &self.run {
                        run.meters.generated(1);
                    }
                    self.stage = Stage::Writing(at + 1);
                    return Poll::Ready(Some(self.form.piece(self.answer.pieces.get(at))));
                }
                Stage::Writing(_) => {
                    self.form.close(&self.answer, &mut self.ready);
                    self.end();
                    self.stage = Stage::Done;
                }
                Stage::Done => return Poll::Ready(None),
            }
        }
    }
}

fn millis(ms: f64) -> Duration {
    // Paces are checked to be small and not negative, so this cannot fail; were it to, an hour is noticed.
    const TOO_LONG: Duration = Duration::from_secs(3600);
    Duration::try_from_secs_f64(ms / 1e3).unwrap_or(TOO_LONG)
}

async fn until(deadline: Instant) {
    if deadline > Instant::now() {
        tokio::time::sleep_until(deadline).await;
    }
}
