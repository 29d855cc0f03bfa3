//! From a request to its answer in time: queue, blocks, prefill or its transfer, then token by token.
//!
//! Times are absolute deadlines, so that the timer's millisecond does not add up over a long answer, and with zero
//! latency no timer is touched. All endpoints that compute something come through here.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::answer::{Answer, Form, Kind, Limits, write};
use crate::batch::Place;
use crate::body::Timer;
use crate::core::{Core, Served};
use crate::handoff::{Handoffs, Transfer};
use crate::metrics::{Finish, Held, Meters};
use crate::rank::{Lease, Rank};
use crate::reply::{ApiError, Reply};
use crate::text::{Dice, Pieces, hash, tokens};

/// Tokens of an answer that is not streamed between two looks at the size of the batch.
const STRIDE_TOKENS: usize = 16;

/// A request to generate text.
pub(crate) struct Call {
    pub(crate) model: Served,
    pub(crate) prompt: Vec<u8>,
    /// Keeps the blocks of those who share a salt apart from all others.
    pub(crate) salt: Option<String>,
    pub(crate) tail: Tail,
    pub(crate) transfer: Transfer,
    pub(crate) kind: Kind,
    pub(crate) limits: Limits,
    pub(crate) stream: bool,
    pub(crate) form: Box<dyn Form>,
    pub(crate) arrived: Instant,
    /// Number of the request.
    pub(crate) id: u64,
}

/// How an answer goes on from its prompt in the cache, so that the next turn finds it.
#[derive(Clone, Copy)]
pub(crate) enum Tail {
    /// As text, after these words.
    Text(&'static str),
    /// As token numbers.
    Numbers,
}

/// The number of a token of an answer.
pub(crate) fn token_number(piece: &str) -> u32 {
    hash(0, piece.as_bytes()) as u32
}

impl Tail {
    fn bytes(self, pieces: &Pieces, written: usize) -> Vec<u8> {
        let pieces = (0..written).map(|at| pieces.get(at));
        match self {
            Tail::Text(before) => [before].into_iter().chain(pieces).collect::<String>().into_bytes(),
            Tail::Numbers => pieces.flat_map(|piece| token_number(piece).to_le_bytes()).collect(),
        }
    }
}

/// What a request needs from the batch.
pub(crate) struct Need<'a> {
    prompt: &'a [u8],
    salt: Option<String>,
    answer_tokens: u32,
    transfer: &'a Transfer,
}

impl<'a> Need<'a> {
    /// Only to read a prompt.
    pub(crate) fn read(prompt: &'a [u8]) -> Self {
        Need { prompt, salt: None, answer_tokens: 0, transfer: &Transfer::Alone }
    }
}

/// The reading of a prompt: nothing to wait for, the wait, or when it was done.
enum Reading {
    Wait(Pin<Box<dyn Future<Output = Instant> + Send>>),
    Done(Instant),
}

/// A request in the batch; dropped early it counts as aborted.
pub(crate) struct Run {
    meters: Arc<Meters>,
    rank: Arc<Rank>,
    finish: Finish,
    arrived: Instant,
    reading: Reading,
    pub(crate) prompt_tokens: u32,
    pub(crate) cached_tokens: u32,
    /// Until the blocks are kept for another engine.
    lease: Option<Lease>,
    _place: Place,
    _running: [Held; 2],
}

impl Run {
    /// Waits for a place in the batch and for blocks, and starts to read the prompt.
    pub(crate) async fn start(
        core: &Core,
        model: &Served,
        need: Need<'_>,
        arrived: Instant,
    ) -> Result<Self, ApiError> {
        let (meters, rank) = (&model.meters, &model.rank);
        let place = rank.batch.enter(&meters.waiting).await.map_err(|_| ApiError::queue_full())?;
        let naming = model.naming(need.salt);
        let lease = rank.admit(naming, need.prompt, need.answer_tokens, &meters.waiting).await;
        let running = [meters.running.hold(), rank.running.hold()];
        let prompt_tokens = tokens(need.prompt.len()).max(1);
        meters.cached(prompt_tokens, lease.cached_tokens);
        let brought = match need.transfer {
            Transfer::Alone | Transfer::ToDecode => false,
            Transfer::FromPrefill(remote) => core.handoffs.fetch(remote).await,
            Transfer::Bootstrap => {
                core.handoffs.bootstrap();
                !need.transfer.prefill_only(core.options.role)
            }
        };
        let fresh = f64::from(prompt_tokens - lease.cached_tokens);
        let host = millis(core.options.host_ms_per_token * f64::from(lease.host_tokens));
        let reading = if brought {
            // Moving blocks keeps the network busy, not the GPU: nobody waits for it but this request.
            wait(host + millis(core.options.transfer_ms_per_token * fresh), None)
        } else {
            wait(host + millis(core.options.prefill_ms_per_token * fresh), Some(Arc::clone(rank)))
        };
        Ok(Run {
            meters: Arc::clone(meters),
            rank: Arc::clone(rank),
            finish: Finish::Abort,
            arrived,
            reading,
            prompt_tokens,
            cached_tokens: if brought { prompt_tokens - 1 } else { lease.cached_tokens },
            lease: Some(lease),
            _place: place,
            _running: running,
        })
    }

    /// Waits until the prompt is read.
    pub(crate) async fn read(&mut self) {
        std::future::poll_fn(|cx| self.poll_read(cx)).await;
    }

    /// When the prompt was read, once it is.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let at = match &mut self.reading {
            Reading::Wait(wait) => ready!(wait.as_mut().poll(cx)),
            Reading::Done(at) => *at,
        };
        self.reading = Reading::Done(at);
        self.meters.first_token(self.prompt_tokens, self.arrived.elapsed());
        Poll::Ready(at)
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

/// Reads for so long, in turn with the other prompts of a rank if there is one to share; at once if it takes no time.
fn wait(cost: Duration, turns: Option<Arc<Rank>>) -> Reading {
    let now = Instant::now();
    if cost.is_zero() {
        return Reading::Done(now);
    }
    Reading::Wait(match turns {
        Some(rank) => Box::pin(rank.read(cost)),
        None => Box::pin(async move {
            tokio::time::sleep_until(now + cost).await;
            now + cost
        }),
    })
}

/// Generates the answer to a call, or begins to if it is streamed.
pub(crate) async fn generate(core: &Core, mut call: Call) -> Result<Reply, ApiError> {
    if call.transfer.prefill_only(core.options.role) {
        call.limits = Limits { max_tokens: Some(1), ..Limits::default() };
    }
    let (model, prompt) = (&call.model, &call.prompt);
    let mut answer = write(
        &call.kind,
        &model.name,
        call.limits,
        core.options.answer_tokens,
        tokens(prompt.len()).max(1),
        &mut Dice::new(hash(model.seed, prompt)),
    );
    let need =
        Need { prompt, salt: call.salt, answer_tokens: answer.usage.completion, transfer: &call.transfer };
    let run = Run::start(core, model, need, call.arrived).await?;
    answer.usage.cached = run.cached_tokens;
    let generation = Generation {
        step_ms: core.options.decode_ms_per_token,
        batch_factor: core.options.batch_factor,
        form: call.form,
        tail: call.tail,
        answer,
        run: Some(run),
        written: 0,
        due: call.arrived,
        ready: VecDeque::new(),
        stage: Stage::Reading,
    };
    if call.stream {
        return Ok(Reply::stream(generation));
    }
    let hold = matches!(call.transfer, Transfer::ToDecode).then_some((&core.handoffs, call.id));
    Ok(Reply::bytes(generation.whole(hold).await, "application/json"))
}

/// An answer on its way.
pub(crate) struct Generation {
    step_ms: f64,
    batch_factor: f64,
    form: Box<dyn Form>,
    tail: Tail,
    answer: Answer,
    /// Until the last token.
    run: Option<Run>,
    /// Tokens written so far.
    written: usize,
    /// When the next token is due.
    due: Instant,
    ready: VecDeque<Bytes>,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Reading,
    Writing,
    Done,
}

impl Generation {
    /// Sets the time of the token that is so many further, at the pace of the batch as it is now.
    fn pace(&mut self, tokens: usize) {
        if let Some(run) = &self.run {
            let others = run.rank.running.get().saturating_sub(1) as f64;
            self.due += millis(self.step_ms * tokens as f64 * (1.0 + self.batch_factor * others));
        }
    }

    /// Leaves the batch; what was written is cached.
    fn settle(&mut self) -> Option<Run> {
        let mut run = self.run.take()?;
        if let Some(lease) = run.lease.as_mut().filter(|_| self.written > 0) {
            lease.grow(&self.tail.bytes(&self.answer.pieces, self.written));
        }
        Some(run)
    }

    /// Waits for the last token and words the answer as one body.
    async fn whole(mut self, hold: Option<(&Arc<Handoffs>, u64)>) -> Bytes {
        if let Some(run) = &mut self.run {
            self.due = std::future::poll_fn(|cx| run.poll_read(cx)).await;
        }
        let mut left = self.answer.pieces.len();
        self.written = left.min(1);
        left -= self.written;
        while left > 0 {
            let stride = left.min(STRIDE_TOKENS);
            self.pace(stride);
            if self.due > Instant::now() {
                tokio::time::sleep_until(self.due).await;
            }
            self.written += stride;
            left -= stride;
        }
        if let Some(mut run) = self.settle() {
            run.meters.generated(self.answer.usage.completion);
            run.finish = self.answer.finish;
            if let (Some((handoffs, request)), Some(lease)) = (hold, run.lease.take()) {
                self.answer.handed = Some(handoffs.hold(request, lease));
            }
        }
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
                    if let Some(run) = &mut self.run {
                        self.due = ready!(run.poll_read(cx));
                    }
                    self.form.open(&mut self.ready);
                    self.stage = Stage::Writing;
                }
                Stage::Writing if self.written < self.answer.pieces.len() => {
                    ready!(timer.poll_until(cx, self.due));
                    if let Some(run) = &self.run {
                        run.meters.generated(1);
                    }
                    self.pace(1);
                    self.written += 1;
                    return Poll::Ready(Some(self.form.piece(self.answer.pieces.get(self.written - 1))));
                }
                Stage::Writing => {
                    self.form.close(&self.answer, &mut self.ready);
                    if let Some(run) = self.settle() {
                        run.end(self.answer.finish);
                    }
                    self.stage = Stage::Done;
                }
                Stage::Done => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.settle();
    }
}

fn millis(ms: f64) -> Duration {
    // Paces are checked to be small and not negative, so this cannot fail; were it to, an hour is noticed.
    const TOO_LONG: Duration = Duration::from_secs(3600);
    Duration::try_from_secs_f64(ms / 1e3).unwrap_or(TOO_LONG)
}
