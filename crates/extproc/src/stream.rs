//! One stream, which is one HTTP request: reads messages, drives the two halves and the case, and says the
//! replies. It reads on while the judge is at work, so that an abort or an answer by Envoy itself is seen.
//!
//! A stream with a request in hand is never closed in good order before its end: Envoy would drop what it has
//! not got back and call it a success. Dropping a stream drops its case.

use crate::attributes::{self, DESTINATION, SERVED};
use crate::budget::{Counts, Share};
use crate::grpc::Messages;
use crate::judge::{Case, Fault, Judge, Verdict};
use crate::modes::{self, Body, Modes};
use crate::options::Options;
use crate::pb::envoy::service::ext_proc::v3::processing_request::Request as Kind;
use crate::pb::envoy::service::ext_proc::v3::{
    HttpHeaders, ProcessingRequest, ProcessingResponse, ProtocolConfiguration,
};
use crate::replies;
use crate::request::{Ask, RequestHalf, Start, Step};
use crate::response::{ResponseHalf, Said};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;
use tonic::{Code, Status};

/// Envoy opens a stream with its first message; one that stays empty for this long is closed.
const FIRST_MESSAGE_TIME: Duration = Duration::from_secs(10);
/// Messages about the request that may wait for the verdict. Reading pauses when there are more.
const LATER_MESSAGES: usize = 32;
/// Bytes of bodies in them.
const LATER_BYTES: usize = 1 << 20;

const SERVED_MODES: &str =
    "use NONE (0), STREAMED (1), BUFFERED (2), BUFFERED_PARTIAL (3) or FULL_DUPLEX_STREAMED (4)";

/// What all streams share.
#[derive(Debug)]
pub(crate) struct Shared<J> {
    pub(crate) judge: J,
    pub(crate) options: Options,
    pub(crate) counts: Arc<Counts>,
    /// The log has the word on a mode that is not served.
    pub(crate) told_of_mode: AtomicBool,
}

/// Why a stream ends before its two directions do.
enum Stop {
    /// The other side went away, in whatever way.
    Gone,
    /// The stream fails with this.
    Failed(Status),
}

type Flow<T> = Result<T, Stop>;

/// See the module.
pub(crate) struct Exchange<J: Judge> {
    shared: Arc<Shared<J>>,
    input: Messages,
    output: Sender<ProcessingResponse>,
    modes: Modes,
    case: Option<J::Case>,
    request: RequestHalf,
    response: ResponseHalf,
    later: Later,
    /// Envoy only shows copies and takes no replies.
    observing: bool,
}

impl<J: Judge> Exchange<J> {
    pub(crate) fn new(shared: Arc<Shared<J>>, input: Messages, output: Sender<ProcessingResponse>) -> Self {
        let modes = shared.options.modes;
        let share = Share::new(Arc::clone(&shared.counts), shared.options.held_bytes);
        Self {
            shared,
            input,
            output,
            modes,
            case: None,
            request: RequestHalf::new(share),
            response: ResponseHalf::new(modes.response),
            later: Later::default(),
            observing: false,
        }
    }

    /// Serves the stream to its end.
    pub(crate) async fn run(mut self) -> Result<(), Status> {
        let stop = self.converse().await;
        self.response.finish(&mut self.case);
        match stop {
            Ok(()) | Err(Stop::Gone) => Ok(()),
            Err(Stop::Failed(status)) => Err(status),
        }
    }

    async fn converse(&mut self) -> Flow<()> {
        let first = timeout(FIRST_MESSAGE_TIME, self.input.message()).await;
        let late = |_| Stop::Failed(Status::deadline_exceeded("no message on the stream"));
        let mut message = heard(first.map_err(late)?)?;
        if let Some(config) = message.protocol_config.take() {
            self.modes = Modes::from_wire(&config).ok_or_else(|| self.not_served(&config))?;
            self.response = ResponseHalf::new(self.modes.response);
        }
        loop {
            self.take(message).await?;
            if self.request.is_done() && self.response.is_done() {
                return Ok(());
            }
            message = match self.later.pop() {
                Some(message) => message,
                None => self.next().await?,
            };
        }
    }

    async fn next(&mut self) -> Flow<ProcessingRequest> {
        let message = self.input.message().await;
        let fault = match message.as_ref().map_err(Status::code) {
            // Longer than the longest message: the one body message of a buffered mode.
            Err(Code::OutOfRange) => Fault::TooLarge(self.shared.options.body_limit),
            Err(Code::ResourceExhausted) => Fault::Full,
            _ => return heard(message),
        };
        if !self.request.waits_for_body() {
            return heard(message);
        }
        self.refuse(fault).await?;
        Err(Stop::Gone)
    }

    async fn take(&mut self, mut message: ProcessingRequest) -> Flow<()> {
        self.observing |= message.observability_mode;
        if self.observing {
            return Ok(());
        }
        let Some(kind) = message.request.take() else {
            return Err(self.invalid("a message of an unknown kind"));
        };
        match kind {
            Kind::RequestHeaders(headers) => {
                let step = self.open(headers, &message)?;
                self.follow(step).await
            }
            Kind::RequestBody(piece) => {
                let step = self.request.body(piece);
                self.follow(step).await
            }
            Kind::RequestTrailers(_) => {
                let step = self.request.trailers();
                self.follow(step).await
            }
            Kind::ResponseHeaders(headers) => {
                if self.request.answered() {
                    self.shared.counts.overtaken.fetch_add(1, Relaxed);
                }
                let served = attributes::served(&message);
                let said = self.response.head(headers, served, &mut self.case);
                self.pass(said).await
            }
            Kind::ResponseBody(piece) => {
                let said = self.response.body(piece, &mut self.case);
                self.pass(said).await
            }
            Kind::ResponseTrailers(_) => {
                let said = self.response.trailers(&mut self.case);
                self.pass(said).await
            }
        }
    }

    fn open(&mut self, headers: HttpHeaders, message: &ProcessingRequest) -> Flow<Step> {
        if self.request.has_started() {
            return Err(self.invalid("a request's headers twice"));
        }
        let metadata = message.metadata_context.as_ref();
        let (head, tunnel) = attributes::head(headers, metadata, self.modes);
        let judge = &self.shared.judge;
        let placed = |name: &_| judge.picks() && (*name == DESTINATION || *name == SERVED);
        let steers = |name: &_| placed(name) || judge.steers(name);
        let strip: Vec<_> = head.headers.keys().filter(|name| steers(name)).cloned().collect();
        let length = length(&head.headers);
        let ends = head.ends;
        self.case = judge.open(head);
        let allowed = self.shared.options.mode_override;
        let ask = |better: Option<Modes>| better.filter(|_| allowed);
        let Some(case) = &self.case else {
            let better = ask(self.modes.unseen());
            self.response.ask_for(better);
            return Ok(self.request.unjudged(self.modes.request, better, ends, &strip));
        };
        let body = match () {
            () if ends => Body::Absent,
            () if tunnel => Body::Tunnel,
            () if !case.needs_body() => Body::Unneeded,
            () => Body::Needed,
        };
        let better = ask(self.modes.better(body));
        self.response.ask_for(better);
        let mode = better.unwrap_or(self.modes).request;
        let limit = case.body_limit().min(self.shared.options.body_limit);
        let plan = modes::plan(mode, body);
        Ok(self.request.head(Start { mode, plan, better, strip, limit, length }))
    }

    async fn follow(&mut self, step: Step) -> Flow<()> {
        match step {
            Step::Say(replies) => self.say(replies).await,
            Step::Refuse(fault) => self.refuse(fault).await,
            Step::Invalid(why) => Err(self.invalid(why)),
            Step::Ignore => {
                self.shared.counts.ignored.fetch_add(1, Relaxed);
                Ok(())
            }
            Step::Judge(ask) => match self.judge(ask).await? {
                Some(Verdict::Go(go)) => {
                    let replies = self.request.judged(go);
                    self.say(replies).await?;
                    self.request.release();
                    Ok(())
                }
                Some(Verdict::No(refusal)) => self.answer(replies::immediate(refusal)).await,
                None => Ok(()),
            },
        }
    }

    /// The verdict, or `None` when Envoy answers the request by itself first; reads on meanwhile.
    async fn judge(&mut self, ask: Ask) -> Flow<Option<Verdict>> {
        let Self { case, input, later, request, shared, .. } = self;
        let Some(case) = case else { return Ok(None) };
        let mut verdict = std::pin::pin!(async {
            match ask {
                Ask::Whole(body) => case.decide(body).await,
                Ask::Blind(why) => case.decide_blind(why).await,
            }
        });
        loop {
            let message = tokio::select! {
                biased;
                verdict = &mut verdict => return Ok(Some(verdict)),
                message = input.message(), if later.has_room() => heard(message)?,
            };
            match &message.request {
                Some(Kind::ResponseHeaders(_) | Kind::ResponseBody(_) | Kind::ResponseTrailers(_)) => {
                    later.push(message);
                    return Ok(None);
                }
                Some(Kind::RequestBody(_) | Kind::RequestTrailers(_)) if request.has_ended() => {
                    shared.counts.ignored.fetch_add(1, Relaxed);
                }
                _ => later.push(message),
            }
        }
    }

    async fn refuse(&mut self, fault: Fault) -> Flow<()> {
        self.shared.counts.faults.fetch_add(1, Relaxed);
        let Some(case) = &mut self.case else { return Ok(()) };
        let refusal = case.fault(fault);
        self.answer(replies::immediate(refusal)).await
    }

    /// Answers the request here: nothing more comes of it, and its case is over.
    async fn answer(&mut self, reply: ProcessingResponse) -> Flow<()> {
        self.case = None;
        self.request.close();
        self.response.close();
        self.say(vec![reply]).await
    }

    async fn pass(&mut self, said: Said) -> Flow<()> {
        match said {
            Ok(Some(replies)) => self.say(replies).await,
            Ok(None) => self.follow(Step::Ignore).await,
            Err(why) => Err(self.invalid(why)),
        }
    }

    /// Waits while Envoy is slow to take them; a reset ends the wait together with the stream.
    async fn say(&mut self, replies: Vec<ProcessingResponse>) -> Flow<()> {
        for reply in replies {
            self.output.send(reply).await.map_err(|_| Stop::Gone)?;
        }
        Ok(())
    }

    /// Envoy is configured for a mode that is not served: every stream of it ends here, so it is said once.
    fn not_served(&self, config: &ProtocolConfiguration) -> Stop {
        self.shared.counts.protocol_errors.fetch_add(1, Relaxed);
        let (request, response) = (config.request_body_mode, config.response_body_mode);
        if !self.shared.told_of_mode.swap(true, Relaxed) {
            tracing::error!(
                request,
                response,
                "a body mode of Envoy's processing_mode is not served: {SERVED_MODES}"
            );
        }
        Stop::Failed(Status::unimplemented(format!(
            "body mode {request} of requests or {response} of responses is not served: {SERVED_MODES}"
        )))
    }

    fn invalid(&self, why: &'static str) -> Stop {
        self.shared.counts.protocol_errors.fetch_add(1, Relaxed);
        tracing::debug!(why, "an ext_proc stream makes no sense");
        Stop::Failed(Status::invalid_argument(why))
    }
}

/// The next message. How a stream ends says nothing: Envoy resets it when all went well, and closes it in good
/// order when the client broke off.
fn heard(message: Result<Option<ProcessingRequest>, Status>) -> Flow<ProcessingRequest> {
    message.map_err(Stop::Failed)?.ok_or(Stop::Gone)
}

fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Messages that came while the judge was at work.
#[derive(Debug, Default)]
struct Later {
    messages: VecDeque<ProcessingRequest>,
    bytes: usize,
}

impl Later {
    fn has_room(&self) -> bool {
        self.messages.len() < LATER_MESSAGES && self.bytes < LATER_BYTES
    }

    fn push(&mut self, message: ProcessingRequest) {
        self.bytes += weight(&message);
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<ProcessingRequest> {
        let message = self.messages.pop_front()?;
        self.bytes -= weight(&message);
        Some(message)
    }
}

fn weight(message: &ProcessingRequest) -> usize {
    match &message.request {
        Some(Kind::RequestBody(piece) | Kind::ResponseBody(piece)) => piece.body.len(),
        _ => 0,
    }
}
