//! ZMTP 3, as far as a subscriber and a dealer need it: greeting, READY, subscribe, frames.
//!
//! Own code for one reason: the `zeromq` crate (0.7) reserves memory for whatever length a peer declares
//! (nine bytes abort the process), gathers multipart messages without end, and has no option that bounds
//! either. Here a message over the bound is read past without being kept. No CURVE, no PLAIN. Called by
//! the ZMQ and Dynamo sources.

use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::decode::MAX_BATCH_BYTES;

/// Most bytes of a message, all its frames together: a batch with topic and sequence number.
pub(crate) const MAX_MESSAGE_BYTES: usize = MAX_BATCH_BYTES + (64 << 10);
/// Most frames of a message.
const MAX_FRAMES: usize = 8;
/// Most bytes of a command, such as READY with its properties.
const MAX_COMMAND_BYTES: usize = 4 << 10;
/// Time for connecting, and for greeting and READY.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of room that are kept from one message to the next.
const MAX_KEPT_BYTES: usize = 256 << 10;
/// A peer whose machine has gone is noticed after this and [`KEEPALIVE_TRIES`] intervals.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TRIES: u32 = 3;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What we are to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Subscriber,
    Dealer,
}

impl Role {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Subscriber => b"SUB",
            Self::Dealer => b"DEALER",
        }
    }

    fn takes(self, peer: &[u8]) -> bool {
        match self {
            Self::Subscriber => matches!(peer, b"PUB" | b"XPUB"),
            Self::Dealer => matches!(peer, b"ROUTER" | b"REP" | b"DEALER"),
        }
    }
}

/// The frames of one message, in a buffer that is used again.
#[derive(Debug, Default)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Message {
    pub(crate) fn frames(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        (0..self.ends.len()).map(|number| {
            let start = number.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
            let end = self.ends.get(number).copied().unwrap_or(start);
            self.bytes.get(start..end).unwrap_or(&[])
        })
    }

    /// The frames, if there are so many.
    pub(crate) fn exactly<const N: usize>(&self) -> Option<[&[u8]; N]> {
        let mut frames = self.frames();
        (frames.len() == N).then(|| std::array::from_fn(|_| frames.next().unwrap_or(&[])))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(MAX_KEPT_BYTES);
        self.ends.clear();
    }
}

/// What has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Message,
    /// Of too many bytes or frames; read past. Told before its last frame has come.
    Oversized,
}

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    /// A message that was too large is not over: so many bytes of its frame, and whether more frames follow.
    skipping: Option<(u64, bool)>,
}

impl Connection {
    /// Connects to `tcp://host:port` and shakes hands.
    pub(crate) async fn connect(address: &str, role: Role) -> io::Result<Self> {
        let stream = timeout(HANDSHAKE_TIMEOUT, TcpStream::connect(host(address)?)).await??;
        Self::shake(stream, role).await
    }

    /// Shakes hands on a connection that was accepted.
    pub(crate) async fn shake(stream: TcpStream, role: Role) -> io::Result<Self> {
        keep_alive(&stream)?;
        let mut connection = Self { stream: BufReader::with_capacity(64 << 10, stream), skipping: None };
        timeout(HANDSHAKE_TIMEOUT, connection.handshake(role)).await??;
        Ok(connection)
    }

    async fn handshake(&mut self, role: Role) -> io::Result<()> {
        // Signature, version 3.0 (any newer peer speaks it), mechanism, filler.
        let mut greeting = [0; 64];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        greeting[12..16].copy_from_slice(b"NULL");
        self.stream.write_all(&greeting).await?;
        self.stream.read_exact(&mut greeting).await?;
        let mechanism = greeting.get(12..32).unwrap_or_default();
        if greeting[0] != 0xff || greeting[9] & 1 == 0 || greeting[10] < 3 {
            return Err(wrong("not a ZMTP 3 peer"));
        }
        if mechanism.split(|byte| *byte == 0).next() != Some(b"NULL") {
            return Err(wrong("the peer asks for a security mechanism other than NULL"));
        }
        let mut ready = b"\x05READY\x0bSocket-Type".to_vec();
        ready.extend((role.name().len() as u32).to_be_bytes());
        ready.extend(role.name());
        if role == Role::Dealer {
            ready.extend(b"\x08Identity\0\0\0\0");
        }
        self.write_frame(COMMAND, &ready).await?;
        let (flags, length) = self.frame_head().await?;
        if flags & COMMAND == 0 {
            return Err(wrong("a message before READY"));
        }
        let command = self.command(length).await?;
        let properties = command.strip_prefix(b"\x05READY").ok_or_else(|| wrong("refused by the peer"))?;
        let kind = property(properties, b"socket-type").unwrap_or_default();
        if role.takes(kind) { Ok(()) } else { Err(wrong("the peer's socket is of another type")) }
    }

    /// Asks for messages whose first frame begins with `topic`.
    pub(crate) async fn subscribe(&mut self, topic: &[u8]) -> io::Result<()> {
        self.write_frame(0, &[&[1], topic].concat()).await
    }

    /// Sends one message.
    pub(crate) async fn send(&mut self, frames: &[&[u8]]) -> io::Result<()> {
        for (number, frame) in frames.iter().enumerate() {
            let flags = if number + 1 < frames.len() { MORE } else { 0 };
            self.write_frame(flags, frame).await?;
        }
        Ok(())
    }

    /// Waits for a message. Pings are answered on the way.
    pub(crate) async fn receive(&mut self, into: &mut Message) -> io::Result<Arrival> {
        into.clear();
        self.skip().await?;
        loop {
            let (flags, length) = self.frame_head().await?;
            if flags & COMMAND != 0 {
                let command = self.command(length).await?;
                self.answer(&command).await?;
                continue;
            }
            let room = MAX_MESSAGE_BYTES.saturating_sub(into.bytes.len());
            if length > room as u64 || into.ends.len() >= MAX_FRAMES {
                into.clear();
                self.skipping = Some((length, flags & MORE != 0));
                return Ok(Arrival::Oversized);
            }
            let read = (&mut self.stream).take(length).read_to_end(&mut into.bytes).await?;
            if (read as u64) < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            into.ends.push(into.bytes.len());
            if flags & MORE == 0 {
                return Ok(Arrival::Message);
            }
        }
    }

    /// Reads past what is left of a message that was too large, keeping none of it.
    async fn skip(&mut self) -> io::Result<()> {
        while let Some((length, more)) = self.skipping {
            discard(&mut self.stream, length).await?;
            self.skipping = None;
            if more {
                let (flags, length) = self.frame_head().await?;
                self.skipping = Some((length, flags & (MORE | COMMAND) != 0));
            }
        }
        Ok(())
    }

    async fn frame_head(&mut self) -> io::Result<(u8, u64)> {
        let flags = self.stream.read_u8().await?;
        let length = match flags & LONG {
            0 => u64::from(self.stream.read_u8().await?),
            _ => self.stream.read_u64().await?,
        };
        Ok((flags, length))
    }

    async fn command(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_COMMAND_BYTES);
        let mut command = vec![0; length.ok_or_else(|| wrong("a command that is too long"))?];
        self.stream.read_exact(&mut command).await?;
        Ok(command)
    }

    async fn answer(&mut self, command: &[u8]) -> io::Result<()> {
        let Some(ping) = command.strip_prefix(b"\x04PING") else { return Ok(()) };
        let context = ping.get(2..).unwrap_or_default(); // behind the time to live
        self.write_frame(COMMAND, &[b"\x04PONG", context].concat()).await
    }

    async fn write_frame(&mut self, flags: u8, body: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(body.len() + 9);
        match u8::try_from(body.len()) {
            Ok(length) => frame.extend([flags, length]),
            Err(_) => {
                frame.push(flags | LONG);
                frame.extend((body.len() as u64).to_be_bytes());
            }
        }
        frame.extend(body);
        self.stream.write_all(&frame).await
    }
}

/// Has the system notice when the peer's machine is gone, for a reader would wait for ever.
pub(crate) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_TRIES);
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Reads past so many bytes, keeping none.
pub(crate) async fn discard(stream: &mut BufReader<TcpStream>, mut length: u64) -> io::Result<()> {
    while length > 0 {
        let here = stream.fill_buf().await?.len();
        if here == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let step = here.min(usize::try_from(length).unwrap_or(usize::MAX));
        stream.consume(step);
        length -= step as u64;
    }
    Ok(())
}

/// `host:port` of `tcp://host:port`; `*` is every address of this machine.
pub(crate) fn host(address: &str) -> io::Result<String> {
    let host = address.strip_prefix("tcp://").ok_or_else(|| wrong("not a tcp:// address"))?;
    Ok(host.strip_prefix("*:").map_or_else(|| host.to_owned(), |port| format!("0.0.0.0:{port}")))
}

pub(crate) fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The value of a property; names are compared without case.
fn property<'a>(mut properties: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    loop {
        let (length, rest) = properties.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (length, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        properties = rest;
    }
}
