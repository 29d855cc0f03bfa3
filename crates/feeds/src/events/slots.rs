//! The fields of one event, whether it came as a tagged array or as a tagged map.
//!
//! Finds fields and reads none of them. Older engines leave slots out of their arrays; a value that a
//! slot cannot hold belongs to the next slot that can. Called by [`super::decode`].

use super::msgpack::{Malformed, Reader, Token};

/// A field of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    Hashes,
    Parent,
    Tokens,
    BlockSize,
    LoraId,
    Medium,
    LoraName,
    ExtraKeys,
    Group,
    Kind,
    Window,
    Locality,
    Ownership,
    Salt,
    Metadata,
    Media,
}

const COUNT: usize = Slot::Media as usize + 1;

const STORED: [Slot; 13] = [
    Slot::Hashes,
    Slot::Parent,
    Slot::Tokens,
    Slot::BlockSize,
    Slot::LoraId,
    Slot::Medium,
    Slot::LoraName,
    Slot::ExtraKeys,
    Slot::Group,
    Slot::Kind,
    Slot::Window,
    Slot::Locality,
    Slot::Ownership,
];
const REMOVED: [Slot; 7] =
    [Slot::Hashes, Slot::Medium, Slot::Group, Slot::Kind, Slot::Window, Slot::Locality, Slot::Ownership];

impl Slot {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"block_hashes" => Self::Hashes,
            b"parent_block_hash" => Self::Parent,
            b"token_ids" => Self::Tokens,
            b"block_size" => Self::BlockSize,
            b"lora_id" => Self::LoraId,
            b"medium" => Self::Medium,
            b"lora_name" => Self::LoraName,
            b"extra_keys" => Self::ExtraKeys,
            b"group_idx" => Self::Group,
            b"kv_cache_spec_kind" => Self::Kind,
            b"locality" => Self::Locality,
            b"cache_salt" => Self::Salt,
            b"metadata" => Self::Metadata,
            b"block_mm_infos" => Self::Media,
            _ => return None,
        })
    }

    fn holds(self, token: Token<'_>) -> bool {
        match token {
            Token::Nil => true,
            Token::Array(_) => {
                matches!(self, Self::Hashes | Self::Tokens | Self::ExtraKeys | Self::Media)
            }
            Token::Int(_) => {
                matches!(self, Self::Parent | Self::BlockSize | Self::LoraId | Self::Group | Self::Window)
            }
            Token::Bytes(_) => self == Self::Parent,
            Token::Text(_) => {
                matches!(self, Self::Medium | Self::LoraName | Self::Kind | Self::Locality | Self::Ownership)
            }
            Token::Map(_) => matches!(self, Self::LoraName | Self::Metadata),
            _ => false,
        }
    }
}

/// Where each field begins.
#[derive(Debug, Default)]
pub(crate) struct Slots<'a>([Option<Reader<'a>>; COUNT]);

impl<'a> Slots<'a> {
    /// Finds the tag and the fields of an event.
    pub(crate) fn read(mut event: Reader<'a>) -> Result<(&'a [u8], Self), Malformed> {
        let Token::Array(count @ 1..) = event.peek()? else { return Self::map(event) };
        event.token()?;
        Self::array(event, count - 1)
    }

    fn array(mut event: Reader<'a>, count: u32) -> Result<(&'a [u8], Self), Malformed> {
        let Token::Text(tag) = event.token()? else { return Err(Malformed) };
        let mut slots = Self::default();
        let mut order = if tag == b"BlockStored" { STORED.iter() } else { REMOVED.iter() };
        for _ in 0..count {
            let value = event.value()?;
            let token = value.peek()?;
            let Some(slot) = order.find(|slot| slot.holds(token)) else { break };
            slots.set(*slot, value);
        }
        Ok((tag, slots))
    }

    fn map(event: Reader<'a>) -> Result<(&'a [u8], Self), Malformed> {
        let mut slots = Self::default();
        let mut tag = None;
        for pair in event.pairs()? {
            let (name, value) = pair?;
            if let (b"type", Token::Text(text)) = (name, value.peek()?) {
                tag = Some(text);
            } else if let Some(slot) = Slot::named(name) {
                slots.set(slot, value);
            }
        }
        Ok((tag.ok_or(Malformed)?, slots))
    }

    fn set(&mut self, slot: Slot, value: Reader<'a>) {
        if let Some(place) = self.0.get_mut(slot as usize) {
            *place = Some(value);
        }
    }

    /// The field, if the event has it.
    pub(crate) fn get(&self, slot: Slot) -> Option<Reader<'a>> {
        self.0.get(slot as usize).copied().flatten()
    }

    /// The first token of the field; nil if the event does not have it.
    pub(crate) fn token(&self, slot: Slot) -> Result<Token<'a>, Malformed> {
        self.get(slot).map_or(Ok(Token::Nil), |mut field| field.token())
    }
}
