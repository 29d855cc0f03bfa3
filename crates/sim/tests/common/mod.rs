//! A raw client, so that the tests see what is really on the wire: head, chunks, and how the connection ended.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use waypost_sim::{Engine, Options};

/// Nothing in these tests takes longer, unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn start(options: Options) -> Engine {
    Engine::start("127.0.0.1:0".parse().unwrap(), options).await.unwrap()
}

/// How the server ended the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Reset,
}

/// All bytes of a response, and how it ended.
pub(crate) struct Wire {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: End,
}

pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: sim\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

/// A connection on which one request was written.
pub(crate) async fn open(addr: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads until the server closes the connection.
pub(crate) async fn drain(mut stream: TcpStream) -> Wire {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the server closes the connection");
    let end = match read {
        Ok(_) => End::Eof,
        Err(e) if e.kind() == ErrorKind::ConnectionReset => End::Reset,
        Err(e) => panic!("{e}"),
    };
    Wire { bytes, end }
}

/// Sends one request on a connection of its own.
pub(crate) async fn send(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &Value) -> Wire {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = format!("connection: close\r\n{headers}");
    drain(open(addr, &request(method, path, &headers, &body)).await).await
}

pub(crate) async fn get(addr: SocketAddr, path: &str) -> Wire {
    send(addr, "GET", path, "", &Value::Null).await
}

pub(crate) async fn post(addr: SocketAddr, path: &str, body: &Value) -> Wire {
    send(addr, "POST", path, "", body).await
}

/// A chat request with these fields on top of the usual ones.
pub(crate) fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "sim-small", "messages": [{"role": "user", "content": "Good morning"}]});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

pub(crate) const CHAT: &str = "/v1/chat/completions";

impl Wire {
    pub(crate) fn head(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.split()]).unwrap()
    }

    fn split(&self) -> usize {
        let end = self.bytes.windows(4).position(|w| w == b"\r\n\r\n");
        end.expect("a complete head") + 4
    }

    pub(crate) fn status(&self) -> u16 {
        self.head()[9..12].parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head().lines().skip(1);
        let mut pairs = lines.filter_map(|l| l.split_once(": "));
        pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The bytes after the head as they came, chunk sizes included.
    pub(crate) fn raw_body(&self) -> &[u8] {
        &self.bytes[self.split()..]
    }

    /// The chunks of a chunked body, and whether the terminating one came.
    pub(crate) fn chunks(&self) -> (Vec<&[u8]>, bool) {
        let mut rest = self.raw_body();
        let mut chunks = Vec::new();
        while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
            let size = std::str::from_utf8(&rest[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                return (chunks, true);
            }
            chunks.push(&rest[end + 2..end + 2 + size]);
            rest = &rest[end + 4 + size..];
        }
        (chunks, false)
    }

    /// The body without the chunking.
    pub(crate) fn body(&self) -> Vec<u8> {
        if self.header("transfer-encoding") == Some("chunked") {
            self.chunks().0.concat()
        } else {
            self.raw_body().to_vec()
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body()).expect("a JSON body")
    }

    /// The payloads of the SSE events.
    pub(crate) fn events(&self) -> Vec<String> {
        let body = String::from_utf8(self.body()).unwrap();
        assert!(body.ends_with("\n\n"), "the last event is complete");
        let data = |event: &str| {
            let line = event.lines().find(|l| l.starts_with("data: "));
            line.expect("a data line")[6..].to_owned()
        };
        body.split_terminator("\n\n").map(data).collect()
    }

    /// The events as JSON, without the closing `[DONE]`, which must be there.
    pub(crate) fn json_events(&self) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        events.iter().map(|e| serde_json::from_str(e).unwrap()).collect()
    }
}

pub(crate) const COMPLETIONS: &str = "/v1/completions";

/// Token numbers, one after the other.
pub(crate) fn ids(from: u32, count: u32) -> Vec<u32> {
    (from..from + count).collect()
}

/// A completion of token numbers, one token long where `extra` does not say otherwise.
pub(crate) async fn complete(addr: SocketAddr, prompt: &[u32], extra: Value) -> Value {
    let mut body = json!({"model": "sim-small", "prompt": prompt, "max_tokens": 1});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    let answer = post(addr, COMPLETIONS, &body).await;
    assert_eq!(answer.status(), 200, "{}", answer.json());
    answer.json()
}

/// Tokens that the answer says were cached.
pub(crate) fn cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}
