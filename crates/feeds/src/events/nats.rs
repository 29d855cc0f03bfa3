//! Dynamo's event plane over core NATS: one subject, messages without headers.
//!
//! Own code: `async-nats` (0.51) gathers whatever length a server declares, queues messages by number and
//! not by bytes, and brings URL and TLS crates that nothing else here needs. No TLS: for NATS within the
//! cluster. Called by [`super::EventFeeds`].

use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::decode::MAX_BATCH_BYTES;
use super::plane::Plane;
use super::zmtp::{discard, keep_alive, wrong};
use crate::pause::pause;

/// Longest line of the protocol, in bytes; the longest is the server's greeting.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// Time for connecting and greeting.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of room that are kept from one message to the next.
const MAX_KEPT_BYTES: usize = 256 << 10;

/// `nats://[user:password@ | token@]host:port/subject`.
#[derive(Debug, PartialEq)]
struct Address<'a> {
    login: Option<&'a str>,
    host: &'a str,
    subject: &'a str,
}

pub(crate) fn is_nats(address: &str) -> bool {
    address.starts_with("nats://")
}

impl<'a> Address<'a> {
    fn parse(address: &'a str) -> Option<Self> {
        let (server, subject) = address.strip_prefix("nats://")?.split_once('/')?;
        let (login, host) = server.rsplit_once('@').map_or((None, server), |(l, h)| (Some(l), h));
        let clean = !subject.is_empty() && !subject.contains(|c: char| c.is_whitespace() || c.is_control());
        clean.then_some(Self { login, host, subject })
    }

    /// What is said first: who we are, and what we want to hear.
    fn opening(&self) -> String {
        let text = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
        let login = match self.login.map(|login| login.split_once(':').ok_or(login)) {
            None => String::new(),
            Some(Ok((user, password))) => {
                format!(r#","user":"{}","pass":"{}""#, text(user), text(password))
            }
            Some(Err(token)) => format!(r#","auth_token":"{}""#, text(token)),
        };
        let Self { subject, .. } = self;
        format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":false,\"lang\":\"rust\",\
             \"version\":\"1\",\"name\":\"waypost\"{login}}}\r\nSUB {subject} 1\r\nPING\r\n"
        )
    }
}

/// Connects to the server, again and again. The address is not logged: it may hold a password.
pub(crate) async fn connect(address: Arc<str>, plane: Arc<Plane>) {
    let mut failures = 0;
    loop {
        let ended = match Address::parse(&address) {
            Some(address) => listen(&address, &plane, &mut failures).await,
            None => Err(wrong("not nats://host:port/subject")),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "no stream of KV events from NATS");
        }
        sleep(pause(failures)).await;
        failures = failures.saturating_add(1);
    }
}

async fn listen(address: &Address<'_>, plane: &Plane, failures: &mut u32) -> io::Result<()> {
    let stream = timeout(HANDSHAKE_TIMEOUT, TcpStream::connect(address.host)).await??;
    keep_alive(&stream)?;
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    let mut line = Vec::new();
    timeout(HANDSHAKE_TIMEOUT, read_line(&mut stream, &mut line)).await??;
    if !line.starts_with(b"INFO ") {
        return Err(wrong("not a NATS server"));
    }
    stream.write_all(address.opening().as_bytes()).await?;
    let mut connected = None;
    let mut payload = Vec::new();
    loop {
        read_line(&mut stream, &mut line).await?;
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        match words.next().unwrap_or_default().to_ascii_uppercase().as_slice() {
            b"MSG" => {
                let size = words.next_back().and_then(|word| str::from_utf8(word).ok()?.parse::<u64>().ok());
                let size = size.ok_or_else(|| wrong("a message without its length"))?;
                if size > MAX_BATCH_BYTES as u64 {
                    plane.shares().for_each(|share| share.stats.oversized.one());
                    discard(&mut stream, size.saturating_add(2)).await?;
                    continue;
                }
                payload.clear();
                payload.shrink_to(MAX_KEPT_BYTES);
                let read = (&mut stream).take(size + 2).read_to_end(&mut payload).await?;
                if (read as u64) < size + 2 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                payload.truncate(read - 2);
                plane.take(&payload);
                yield_now().await;
            }
            b"PING" => stream.write_all(b"PONG\r\n").await?,
            // Our ping is answered once the subscription stands.
            b"PONG" if connected.is_none() => {
                *failures = 0;
                connected = Some(plane.shares().map(|share| share.connected()).collect::<Vec<_>>());
            }
            b"-ERR" => return Err(wrong("refused by the NATS server")),
            _ => {}
        }
    }
}

async fn read_line(stream: &mut BufReader<TcpStream>, line: &mut Vec<u8>) -> io::Result<()> {
    line.clear();
    stream.take(MAX_LINE_BYTES).read_until(b'\n', line).await?;
    match line.last() {
        Some(b'\n') => Ok(()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(_) => Err(wrong("a line that is too long or cut short")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let read = |address| Address::parse(address).map(|a| (a.login, a.host, a.subject));
        assert_eq!(read("nats://h:4222/a.b-c"), Some((None, "h:4222", "a.b-c")));
        assert_eq!(read("nats://u:p@q@h:1/s"), Some((Some("u:p@q"), "h:1", "s")));
        for bad in ["nats://h:4222", "nats://h:4222/", "tcp://h:1/s", "nats://h:1/a b", "nats://h:1/a\r\nPUB"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_login_cannot_break_out_of_its_place() {
        let opening = |address| Address::parse(address).unwrap().opening();
        assert!(opening("nats://u:p\"x@h:1/s").contains(r#","user":"u","pass":"p\"x"}"#));
        assert!(opening("nats://to\\ken@h:1/s").contains(r#","auth_token":"to\\ken"}"#));
        assert!(opening("nats://h:1/s").ends_with("\"name\":\"waypost\"}\r\nSUB s 1\r\nPING\r\n"));
    }
}
