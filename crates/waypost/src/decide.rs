//! `waypost decide`: which model a request would go to, and why; nothing is sent to a model.
//!
//! Requests come one a line and are decided several at once, because classifiers may be servers; answers keep the order
//! of the lines. A bad line is answered with its error. Called by `main`.

mod request;

use crate::cli::Decide;
use crate::data::unpacked;
use crate::error::Error;
use crate::lines::{self, Line};
use crate::offline::Offline;
use crate::print;
use request::Request;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use waypost_config::{Classifier, Policy, PolicyIndex};
use waypost_router::{Ask, Brain, Context, Decision, Via};
use waypost_wire::{ApiError, Code, RequestView};

/// Longest line, in bytes: as much as the gateway takes by default.
const MAX_LINE_BYTES: usize = 10 * 1024 * 1024;
/// Requests decided at once.
const AT_ONCE: usize = 16;
/// Lines that wait to be decided.
const WAITING: usize = 4;
const BUFFER_BYTES: usize = 64 * 1024;
/// What some editors begin a file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line of input, or that it was too long.
type Numbered = (usize, Option<Vec<u8>>);
/// A line of output, and whether it is a Decision.
type Told = (Value, bool);

pub(crate) fn run(options: &Decide) -> Result<(), Error> {
    let offline = Offline::open(&options.config)?;
    let policy = options.policy.as_deref().map(|name| offline.policy(name)).transpose()?;
    crate::serve::runtime()?.block_on(async {
        let brain = Arc::new(offline.brain(None)?);
        if options.jsonl {
            return stream(&brain, policy).await;
        }
        let text = options.text.clone().map_or_else(prompt, Ok)?;
        match decide(&brain, policy, &Request::of_text(&text, None), "1").await {
            Ok(advice) => print(&format!("{advice:#}\n")),
            Err(error) => Err(Error::Data(error.message)),
        }
    })
}

/// The one prompt, from standard input.
fn prompt() -> Result<String, Error> {
    let text = lines::all(MAX_LINE_BYTES)?;
    match text.trim().is_empty() {
        true => Err(Error::Usage(
            "no text to decide: give it as an argument or on standard input, or a request a line with --jsonl"
                .to_owned(),
        )),
        false => Ok(text),
    }
}

/// Decides every line of standard input.
async fn stream(brain: &Arc<Brain>, policy: Option<PolicyIndex>) -> Result<(), Error> {
    let mut lines = read_lines()?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
    let at_once = if remembers(brain, policy) { 1 } else { AT_ONCE };
    let mut under_way: VecDeque<JoinHandle<Told>> = VecDeque::new();
    let (mut ended, mut bad) = (false, 0);
    loop {
        tokio::select! {
            line = lines.recv(), if !ended && under_way.len() < at_once => match line {
                Some(line) => under_way.push_back(tokio::spawn(answer(Arc::clone(brain), policy, line?))),
                None => ended = true,
            },
            Some(told) = first(&mut under_way) => {
                let (told, good) = told?;
                bad += usize::from(!good);
                serde_json::to_writer(&mut out, &told).map_err(io::Error::from)?;
                out.write_all(b"\n")?;
                if under_way.is_empty() {
                    // The next line may be long in coming; whoever sent the last ones has their answers.
                    out.flush()?;
                }
            },
            else => break,
        }
    }
    out.flush()?;
    match bad {
        0 => Ok(()),
        1 => Err(Error::Data("one line could not be decided; its answer says why".to_owned())),
        _ => Err(Error::Data(format!("{bad} lines could not be decided; their answers say why"))),
    }
}

async fn first(under_way: &mut VecDeque<JoinHandle<Told>>) -> Option<Result<Told, Error>> {
    let done = under_way.front_mut()?.await;
    under_way.pop_front();
    Some(done.map_err(|error| Error::Internal(format!("deciding broke: {error}"))))
}

/// Whether a policy that may decide remembers conversations: then their requests are decided one after the other, as
/// they would be in life.
fn remembers(brain: &Brain, policy: Option<PolicyIndex>) -> bool {
    let policies = &brain.snapshot().policies;
    let sticky = |policy: &Policy| policy.sticky.is_some();
    match policy.map(|policy| &policies[policy]) {
        None => policies.iter().any(sticky),
        Some(Policy { classifier: Classifier::Split(split), .. }) => {
            split.arms.iter().any(|(arm, _)| sticky(&policies[*arm]))
        }
        Some(policy) => sticky(policy),
    }
}

/// Standard input line by line, read by a thread of its own: it cannot be waited for in any other way.
fn read_lines() -> Result<Receiver<io::Result<Numbered>>, Error> {
    let (sender, receiver) = channel(WAITING);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        if let Err(error) = send_lines(&sender) {
            // Nobody listens any more, or hears of it now.
            let _ = sender.blocking_send(Err(error));
        }
    })?;
    Ok(receiver)
}

fn send_lines(to: &Sender<io::Result<Numbered>>) -> io::Result<()> {
    let mut input = unpacked(io::stdin().lock())?;
    let mut line = Vec::new();
    for number in 1.. {
        let text = match lines::next(&mut input, MAX_LINE_BYTES, &mut line)? {
            Line::End => break,
            Line::TooLong => None,
            Line::Whole if line.trim_ascii().is_empty() => continue,
            Line::Whole if number == 1 => Some(line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line).to_vec()),
            Line::Whole => Some(line.clone()),
        };
        if to.blocking_send(Ok((number, text))).is_err() {
            break;
        }
    }
    Ok(())
}

async fn answer(brain: Arc<Brain>, policy: Option<PolicyIndex>, (number, line): Numbered) -> Told {
    let request = match line {
        Some(line) => Request::read(&line),
        None => {
            let message = format!("The line is longer than {MAX_LINE_BYTES} bytes.");
            Err(ApiError::new(Code::RequestTooLarge, message))
        }
    };
    let decided = match request {
        Ok(request) => decide(&brain, policy, &request, &number.to_string()).await,
        Err(error) => Err(error),
    };
    match decided {
        Ok(advice) => (advice, true),
        Err(error) => {
            let mut told: Value = serde_json::from_str(&error.to_json()).unwrap_or_else(|_| json!({}));
            told["line"] = json!(number);
            (told, false)
        }
    }
}

/// What is to be done with one request.
async fn decide(
    brain: &Brain,
    policy: Option<PolicyIndex>,
    request: &Request,
    id: &str,
) -> Result<Value, ApiError> {
    let view = RequestView::parse(&request.body)?;
    if view.input.is_none() {
        waypost_door::need_messages(&view)?;
    }
    let (ask, via) = asked(brain, policy, &view, request)?;
    let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let mut decision = Decision { id: id.to_owned(), at_unix_ms: at_ms, ..Decision::default() };
    let context = Context::new(&request.headers, at_ms);
    brain.guard(&ask, &view, &context, &mut decision).await?;
    let plan = brain.route(ask, via, &view, &context, &mut decision).await?;
    decision.model = decision.plan.first().map(|first| Arc::clone(&first.model));
    decision.fallback = Brain::fallback_at(&decision, 0);
    Ok(brain.advice(&plan, &decision))
}

/// The policy of the command line, else what the request names, else the default policy.
fn asked(
    brain: &Brain,
    policy: Option<PolicyIndex>,
    view: &RequestView<'_>,
    request: &Request,
) -> Result<(Ask, Via), ApiError> {
    let named = waypost_door::policy_header(&request.headers)?;
    let unnamed =
        view.nim.is_none() && named.is_none() && view.model.is_none_or(|model| model.decode().is_empty());
    match policy.or(brain.snapshot().default_policy.filter(|_| unnamed)) {
        Some(policy) => Ok((Ask::Classify(policy), Via::VirtualModel)),
        None => brain.ask(view, named),
    }
}
