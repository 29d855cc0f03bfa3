//! A closed loop of requests over kept-alive HTTP/1.1 connections, and a crowd of requests that are open at once.
//!
//! Bodies come from a file, one a line, and are sent in turn; [`MARK`] in one becomes another number each time it is sent. An
//! answer counts when it is a whole 200.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Eight characters, so that a prompt that begins with them was never seen before.
const MARK: &[u8] = b"########";
const PATH: &str = "/v1/chat/completions";
/// Not counted: connections open, and what grows at first has grown.
const WARM_UP: Duration = Duration::from_millis(500);

/// What all connections share.
struct Bodies {
    lines: Vec<Line>,
    next: AtomicUsize,
    salt: u32,
}

struct Line {
    text: Bytes,
    mark: Option<usize>,
}

impl Bodies {
    fn read(path: &str) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)?;
        let line = |line: &str| {
            let mark = line.as_bytes().windows(MARK.len()).position(|part| part == MARK);
            Line { text: Bytes::from(line.to_owned()), mark }
        };
        let lines: Vec<Line> = text.lines().map(line).collect();
        if lines.is_empty() {
            return Err(format!("{path} has no bodies").into());
        }
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed()?;
        Ok(Self { lines, next: AtomicUsize::new(0), salt: (since.as_millis() as u32).rotate_left(12) })
    }

    fn next(&self) -> Bytes {
        let number = self.next.fetch_add(1, Relaxed);
        let Line { text, mark } = &self.lines[number % self.lines.len()];
        let Some(mark) = mark else { return text.clone() };
        let mut text = text.to_vec();
        // Of every run another: the time is in it.
        text[*mark..mark + MARK.len()]
            .copy_from_slice(format!("{:08x}", self.salt ^ number as u32).as_bytes());
        text.into()
    }
}

async fn connect(port: u16) -> Result<SendRequest<Full<Bytes>>, Error> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One request and its whole answer; its status.
async fn ask(sender: &mut SendRequest<Full<Bytes>>, body: Bytes, wait_ms: u64) -> Result<StatusCode, Error> {
    let mut request =
        Request::post(PATH).header(header::HOST, "bench").header(header::CONTENT_TYPE, "application/json");
    // Not to be sent as 0: a timer's tick is a millisecond.
    if wait_ms > 0 {
        request = request.header("x-wait-ms", wait_ms);
    }
    let request = request.body(Full::new(body))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let mut answer = response.into_body();
    while let Some(frame) = answer.frame().await {
        frame?;
    }
    Ok(status)
}

/// `connections` clients, each with one request at a time, for `seconds`. Latencies in milliseconds.
pub(crate) async fn load(port: u16, bodies: &str, connections: usize, seconds: f64) -> Result<Value, Error> {
    let bodies = Arc::new(Bodies::read(bodies)?);
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs_f64(seconds);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let bodies = Arc::clone(&bodies);
        clients.spawn(client(port, bodies, from, until));
    }
    let (mut all, mut errors, mut sent) = (Vec::new(), 0_usize, 0_usize);
    while let Some(done) = clients.join_next().await {
        let (latencies, bad, asked) = done?;
        all.extend(latencies);
        errors += bad;
        sent += asked;
    }
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all.get((all.len().saturating_sub(1) as f64 * share) as usize).copied();
    let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
    Ok(json!({
        "n": all.len(), "sent": sent, "errors": errors, "rps": all.len() as f64 / seconds, "mean_ms": mean,
        "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99),
    }))
}

async fn client(port: u16, bodies: Arc<Bodies>, from: Instant, until: Instant) -> (Vec<f64>, usize, usize) {
    let (mut latencies, mut bad, mut sent) = (Vec::new(), 0, 0);
    let mut sender = None;
    while Instant::now() < until {
        let mut open = match sender.take() {
            Some(open) => open,
            None => match connect(port).await {
                Ok(open) => open,
                Err(_) => {
                    bad += 1;
                    continue;
                }
            },
        };
        let begun = Instant::now();
        sent += 1;
        match ask(&mut open, bodies.next(), 0).await {
            Ok(StatusCode::OK) => {
                if begun >= from {
                    latencies.push(begun.elapsed().as_secs_f64() * 1e3);
                }
                sender = Some(open);
            }
            Ok(_) => {
                bad += 1;
                sender = Some(open);
            }
            // The connection is gone; the next request opens another.
            Err(_) => bad += 1,
        }
    }
    (latencies, bad, sent)
}

/// `requests` requests at once, to an engine that answers after `milliseconds`.
pub(crate) async fn hold(
    port: u16,
    bodies: &str,
    requests: usize,
    milliseconds: u64,
) -> Result<Value, Error> {
    let bodies = Arc::new(Bodies::read(bodies)?);
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..requests {
        let body = bodies.next();
        crowd.spawn(async move { ask(&mut connect(port).await?, body, milliseconds).await });
    }
    let (mut answered, mut errors) = (0, Vec::new());
    while let Some(done) = crowd.join_next().await {
        match done? {
            Ok(StatusCode::OK) => answered += 1,
            Ok(status) => errors.push(status.to_string()),
            Err(error) => errors.push(error.to_string()),
        }
    }
    Ok(json!({"n": answered, "errors": errors.len(), "first_error": errors.first()}))
}
