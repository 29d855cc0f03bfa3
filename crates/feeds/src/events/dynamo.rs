//! The messages of Dynamo's own event plane: many workers' events, already under the hashes that we use.
//!
//! Pure, and as tolerant as [`super::decode`]. Called by `super::plane`; fuzzed.

use waypost_picker::{Block, Tier};

use super::decode::{MAX_BATCH_BYTES, MAX_EVENTS_PER_BATCH, MAX_TOKENS_PER_EVENT};
use super::msgpack::{Malformed, Reader, Token, hash};

/// Version of the frame around an envelope.
const FRAME_VERSION: u8 = 1;
/// The topic of KV events.
const TOPIC: &str = "kv-events";

/// One event of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterEvent {
    /// Instance of the worker.
    pub worker: u64,
    /// Data-parallel rank.
    pub rank: u32,
    /// Counts up by one for each worker and rank.
    pub id: u64,
    /// Where the blocks lie; none if the name is unknown.
    pub tier: Option<Tier>,
    /// What happened.
    pub change: Change,
}

/// What happened to a worker's blocks.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// These came in behind the parent.
    Stored(Option<u64>, Vec<Block>),
    /// These went.
    Removed(Vec<u64>),
    /// All went.
    Cleared,
}

/// Reads the events of a message: a framed envelope, a bare envelope, or the bare list.
///
/// # Errors
/// When it is none of them. What lies before the fault has been given to `each`.
pub fn read(message: &[u8], each: impl FnMut(RouterEvent)) -> Result<(), Malformed> {
    if message.len() > MAX_BATCH_BYTES {
        return Err(Malformed);
    }
    let framed = message.split_first_chunk::<5>().filter(|([version, a, b, c, d], body)| {
        *version == FRAME_VERSION && u32::from_be_bytes([*a, *b, *c, *d]) as usize == body.len()
    });
    let body = framed.map_or(message, |(_, body)| body);
    let reader = Reader::new(body);
    let Token::Map(_) = reader.peek()? else { return list(reader, each) };
    let mut payload = None;
    for pair in reader.pairs()? {
        let (name, value) = pair?;
        match (name, value.peek()?) {
            (b"payload", Token::Bytes(bytes)) => payload = Some(Reader::new(bytes)),
            // Serde writes a plain list of bytes as numbers.
            (b"worker_id", _) => payload = Some(reader),
            (b"topic", Token::Text(topic)) if !is_topic(topic) => return Ok(()),
            _ => {}
        }
    }
    list(payload.ok_or(Malformed)?, each)
}

/// `kv-events`, or a subject that ends in it.
pub(crate) fn is_topic(topic: &[u8]) -> bool {
    topic.strip_suffix(TOPIC.as_bytes()).is_some_and(|head| head.is_empty() || head.ends_with(b"."))
}

fn list(mut reader: Reader<'_>, mut each: impl FnMut(RouterEvent)) -> Result<(), Malformed> {
    let count = match reader.peek()? {
        Token::Map(_) => 1,
        Token::Array(count) if count <= MAX_EVENTS_PER_BATCH => {
            reader.token()?;
            count
        }
        _ => return Err(Malformed),
    };
    for _ in 0..count {
        each(router_event(reader.value()?)?);
    }
    Ok(())
}

fn int(mut value: Reader<'_>) -> Result<u64, Malformed> {
    match value.token()? {
        Token::Int(value) => Ok(value),
        _ => Err(Malformed),
    }
}

fn router_event(event: Reader<'_>) -> Result<RouterEvent, Malformed> {
    let (mut worker, mut id, mut rank, mut change) = (None, None, 0, None);
    let mut tier = Some(Tier::Device);
    for pair in event.pairs()? {
        let (name, value) = pair?;
        match name {
            b"worker_id" => worker = Some(int(value)?),
            b"storage_tier" => tier = storage_tier(value)?,
            b"event" => {
                for pair in value.pairs()? {
                    let (name, value) = pair?;
                    match name {
                        b"event_id" => id = Some(int(value)?),
                        b"dp_rank" => rank = u32::try_from(int(value)?).map_err(|_| Malformed)?,
                        b"data" => change = Some(read_change(value)?),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let (Some(worker), Some(id), Some(change)) = (worker, id, change) else { return Err(Malformed) };
    Ok(RouterEvent { worker, rank, id, tier, change })
}

fn storage_tier(mut value: Reader<'_>) -> Result<Option<Tier>, Malformed> {
    let name = match value.token()? {
        Token::Nil => return Ok(Some(Tier::Device)),
        Token::Text(name) => name.to_ascii_lowercase(),
        _ => return Err(Malformed),
    };
    Ok(match name.as_slice() {
        b"device" => Some(Tier::Device),
        b"hostpinned" | b"host_pinned" | b"host" => Some(Tier::Host),
        b"disk" | b"external" => Some(Tier::Disk),
        _ => None,
    })
}

fn read_change(data: Reader<'_>) -> Result<Change, Malformed> {
    if data.peek()? == Token::Text(b"cleared") {
        return Ok(Change::Cleared);
    }
    let mut change = None;
    for pair in data.pairs()? {
        let (name, value) = pair?;
        match name {
            b"stored" => change = Some(stored(value)?),
            b"removed" => change = Some(removed(value)?),
            b"cleared" => change = Some(Change::Cleared),
            _ => {}
        }
    }
    change.ok_or(Malformed)
}

fn items<'a>(
    mut list: Reader<'a>,
    mut each: impl FnMut(Reader<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    match list.token()? {
        Token::Array(count) if count <= MAX_TOKENS_PER_EVENT => {
            (0..count).try_for_each(|_| each(list.value()?))
        }
        _ => Err(Malformed),
    }
}

fn removed(data: Reader<'_>) -> Result<Change, Malformed> {
    let mut hashes = Vec::new();
    for pair in data.pairs()? {
        let (name, value) = pair?;
        if name == b"block_hashes" {
            items(value, |mut item| {
                hashes.push(hash(item.token()?).ok_or(Malformed)?);
                Ok(())
            })?;
        }
    }
    Ok(Change::Removed(hashes))
}

fn stored(data: Reader<'_>) -> Result<Change, Malformed> {
    let (mut parent, mut blocks) = (None, Vec::new());
    for pair in data.pairs()? {
        let (name, mut value) = pair?;
        match name {
            b"parent_hash" => parent = hash(value.token()?),
            b"blocks" => items(value, |item| {
                blocks.push(block(item)?);
                Ok(())
            })?,
            _ => {}
        }
    }
    Ok(Change::Stored(parent, blocks))
}

fn block(data: Reader<'_>) -> Result<Block, Malformed> {
    let (mut engine, mut local) = (None, None);
    for pair in data.pairs()? {
        let (name, mut value) = pair?;
        match name {
            b"block_hash" => engine = hash(value.token()?),
            b"tokens_hash" => local = hash(value.token()?),
            _ => {}
        }
    }
    Ok(Block { engine: engine.ok_or(Malformed)?, local: local.ok_or(Malformed)? })
}
