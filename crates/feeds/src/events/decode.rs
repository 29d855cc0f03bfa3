//! The batches of KV events that vLLM, SGLang and TensorRT-LLM publish, read as they differ by version.
//!
//! Pure: bytes in, events out, one at a time into buffers that are used again. Arrays and maps are taken
//! at both levels. What cannot be told for sure is dropped and counted, never guessed. Called by
//! `super::apply`; fuzzed.

use waypost_picker::Tier;

use super::msgpack::{Malformed, Reader, Token, hash};
use super::slots::{Slot, Slots};
use super::taint;

/// Longest batch that is read, in bytes.
pub const MAX_BATCH_BYTES: usize = 10 << 20;
/// Most events in a batch.
pub const MAX_EVENTS_PER_BATCH: u32 = 1 << 16;
/// Most tokens in an event, and most blocks.
pub const MAX_TOKENS_PER_EVENT: u32 = 1 << 20;

/// Why a batch is not read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Not MessagePack, or not of the shape of a batch.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Longer than [`MAX_BATCH_BYTES`] or more than [`MAX_EVENTS_PER_BATCH`].
    #[error("a batch of more than {MAX_BATCH_BYTES} bytes or {MAX_EVENTS_PER_BATCH} events")]
    TooLarge,
}

/// A batch whose bytes are known to be whole.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    at: f64,
    rank: Option<u32>,
    events: Reader<'a>,
    left: u32,
}

/// What is wrong with an event that is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// A field is missing, of the wrong type or too large. A removal among them means stale blocks.
    Malformed {
        /// It would have taken blocks out.
        removal: bool,
    },
    /// A kind of event we do not know.
    Unknown,
    /// Of an attention group that decides nothing about prefixes: sliding window, state space, cross.
    OtherGroup,
    /// In memory of an unknown kind, or not of this worker.
    OtherMedium,
    /// Its salt, adapter or media cannot be told for sure.
    Ambiguous,
}

/// One event.
#[derive(Debug, PartialEq)]
pub enum Event<'a> {
    /// Blocks came in.
    Stored(&'a BlockStored),
    /// Blocks went out of a tier.
    Removed(Tier, &'a [u64]),
    /// Everything went out.
    Cleared,
    /// Nothing that can be used.
    Dropped(Dropped),
}

/// Blocks that came in, one behind the other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockStored {
    /// What the engine calls them.
    pub hashes: Vec<u64>,
    /// The block before the first of them, by the engine's name; none at the start of a prompt.
    pub parent: Option<u64>,
    /// Their tokens; none when blocks only move between tiers. Of Eagle's pairs, the first ones.
    pub tokens: Vec<u32>,
    /// Tokens in a block.
    pub block_size: u32,
    /// Where they lie; none means the device.
    pub tier: Option<Tier>,
    /// The LoRA adapter they were computed with; empty without one.
    pub lora: String,
    /// The cache salt as far as the event tells it; blocks behind a parent inherit the parent's.
    pub salt: String,
    /// Media that reach into blocks: the number of the block within the event, and the hash of the medium.
    pub media: Vec<(u32, u64)>,
    /// So many of the blocks can be told for sure; those behind them are not to be used.
    pub certain: usize,
}

/// Reads events; holds their buffers.
#[derive(Debug, Default)]
pub struct Decoder {
    stored: BlockStored,
}

impl<'a> Batch<'a> {
    /// Checks that the bytes are one whole batch: `[time, events, rank?, …]` or a map of the same.
    ///
    /// # Errors
    /// When it is not, or is too large.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        if bytes.len() > MAX_BATCH_BYTES {
            return Err(BatchError::TooLarge);
        }
        let mut reader = Reader::new(bytes);
        let (mut at, mut events, mut rank) = (None, None, None);
        match reader.peek()? {
            Token::Array(count) => {
                reader.token()?;
                for number in 0..count {
                    let value = reader.value()?;
                    match number {
                        0 => at = Some(value),
                        1 => events = Some(value),
                        2 => rank = Some(value),
                        _ => {}
                    }
                }
            }
            Token::Map(_) => {
                for pair in reader.pairs()? {
                    let (name, value) = pair?;
                    match name {
                        b"ts" => at = Some(value),
                        b"events" => events = Some(value),
                        b"data_parallel_rank" | b"dp_rank" | b"attn_dp_rank" => rank = Some(value),
                        _ => {}
                    }
                }
            }
            _ => return Err(Malformed.into()),
        }
        let mut events = events.ok_or(Malformed)?;
        let Token::Array(left) = events.token()? else { return Err(Malformed.into()) };
        if left > MAX_EVENTS_PER_BATCH {
            return Err(BatchError::TooLarge);
        }
        let rank = match rank.map(|mut rank| rank.token()).transpose()? {
            Some(Token::Int(rank)) => Some(u32::try_from(rank).map_err(|_| Malformed)?),
            _ => None,
        };
        let at = match at.map(|mut at| at.token()).transpose()? {
            Some(Token::Float(at)) => at,
            Some(Token::Int(at)) => at as f64,
            _ => 0.0,
        };
        Ok(Self { at, rank, events, left })
    }

    /// When it was published, in seconds by the publisher's clock; 0 if it does not say.
    #[must_use]
    pub fn at(&self) -> f64 {
        self.at
    }

    /// The data-parallel rank it says it is of.
    #[must_use]
    pub fn rank(&self) -> Option<u32> {
        self.rank
    }
}

impl Decoder {
    /// The next event of the batch.
    pub fn next(&mut self, batch: &mut Batch<'_>) -> Option<Event<'_>> {
        batch.left = batch.left.checked_sub(1)?;
        let Ok(event) = batch.events.value() else {
            batch.left = 0;
            return Some(Event::Dropped(Dropped::Malformed { removal: true }));
        };
        Some(self.event(event))
    }

    fn event(&mut self, event: Reader<'_>) -> Event<'_> {
        let Ok((tag, slots)) = Slots::read(event) else {
            return Event::Dropped(Dropped::Malformed { removal: true });
        };
        let removal = match tag {
            b"BlockStored" => false,
            b"BlockRemoved" => true,
            b"AllBlocksCleared" => return Event::Cleared,
            _ => return Event::Dropped(Dropped::Unknown),
        };
        let tier = match place(&slots, removal) {
            Ok(tier) => tier,
            Err(why) => return Event::Dropped(why),
        };
        let read = if removal { self.removed(&slots) } else { self.stored(&slots) };
        match read {
            Err(Malformed) => Event::Dropped(Dropped::Malformed { removal }),
            Ok(()) if removal => Event::Removed(tier, &self.stored.hashes),
            Ok(()) => {
                self.stored.tier = Some(tier);
                match taint::read(&slots, &mut self.stored) {
                    Ok(true) => Event::Stored(&self.stored),
                    Ok(false) => Event::Dropped(Dropped::Ambiguous),
                    Err(Malformed) => Event::Dropped(Dropped::Malformed { removal }),
                }
            }
        }
    }

    fn removed(&mut self, slots: &Slots<'_>) -> Result<(), Malformed> {
        hashes(slots, &mut self.stored.hashes)
    }

    fn stored(&mut self, slots: &Slots<'_>) -> Result<(), Malformed> {
        let stored = &mut self.stored;
        hashes(slots, &mut stored.hashes)?;
        stored.parent = match slots.token(Slot::Parent)? {
            Token::Nil => None,
            token => Some(hash(token).ok_or(Malformed)?),
        };
        tokens(slots, &mut stored.tokens)?;
        stored.block_size = match slots.token(Slot::BlockSize)? {
            Token::Nil if stored.tokens.is_empty() => 0,
            Token::Int(size) => u32::try_from(size).map_err(|_| Malformed)?,
            _ => return Err(Malformed),
        };
        stored.certain = stored.hashes.len();
        Ok(())
    }
}

/// The tier of an event, or why it does not count.
fn place(slots: &Slots<'_>, removal: bool) -> Result<Tier, Dropped> {
    let text = |slot| match slots.token(slot) {
        Ok(Token::Nil) => Ok(None),
        Ok(Token::Text(text)) => Ok(Some(text)),
        _ => Err(Dropped::Malformed { removal }),
    };
    match text(Slot::Kind)? {
        Some(kind) if !is_main(kind) => return Err(Dropped::OtherGroup),
        Some(_) => {}
        // Without a kind, the first group is the one of full attention.
        None if !matches!(slots.token(Slot::Group), Ok(Token::Nil | Token::Int(0))) => {
            return Err(Dropped::OtherGroup);
        }
        None => {}
    }
    if text(Slot::Locality)?.is_some_and(|locality| !locality.eq_ignore_ascii_case(b"local")) {
        return Err(Dropped::OtherMedium);
    }
    text(Slot::Medium)?.map_or(Some(Tier::Device), tier).ok_or(Dropped::OtherMedium)
}

/// Kinds of attention that need every block of a prefix.
fn is_main(kind: &[u8]) -> bool {
    let kind = kind.to_ascii_lowercase();
    matches!(kind.strip_suffix(b"_attention").unwrap_or(&kind), b"full" | b"mla" | b"sink_full")
}

/// The tier of a medium's name.
pub(crate) fn tier(medium: &[u8]) -> Option<Tier> {
    Some(match medium.to_ascii_uppercase().as_slice() {
        b"GPU" | b"DEVICE" => Tier::Device,
        b"CPU" | b"CPU_PINNED" | b"CPU_TIER1" => Tier::Host,
        b"CPU_TIER2" | b"DISK" | b"NVME" | b"STORAGE" => Tier::Disk,
        b"EXTERNAL" | b"NETWORK" | b"REMOTE" | b"SHARED" => Tier::Disk,
        _ => return None,
    })
}

/// Reads an array of hashes; the buffer grows with what is there, not with what is declared.
fn hashes(slots: &Slots<'_>, into: &mut Vec<u64>) -> Result<(), Malformed> {
    into.clear();
    let mut reader = slots.get(Slot::Hashes).ok_or(Malformed)?;
    let count = array(&mut reader)?;
    for _ in 0..count {
        into.push(hash(reader.token()?).ok_or(Malformed)?);
    }
    Ok(())
}

fn tokens(slots: &Slots<'_>, into: &mut Vec<u32>) -> Result<(), Malformed> {
    into.clear();
    let Some(mut reader) = slots.get(Slot::Tokens) else { return Ok(()) };
    let count = array(&mut reader)?;
    for _ in 0..count {
        let id = match reader.token()? {
            Token::Int(id) => id,
            Token::Array(2) => match (reader.token()?, reader.token()?) {
                (Token::Int(id), Token::Int(_)) => id,
                _ => return Err(Malformed),
            },
            _ => return Err(Malformed),
        };
        into.push(u32::try_from(id).map_err(|_| Malformed)?);
    }
    Ok(())
}

fn array(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    match reader.token()? {
        Token::Array(count) if count <= MAX_TOKENS_PER_EVENT => Ok(count),
        Token::Nil => Ok(0),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests;
