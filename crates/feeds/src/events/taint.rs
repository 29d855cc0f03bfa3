//! What tells blocks of equal tokens apart: LoRA adapter, cache salt, and media.
//!
//! Engines say it in several places. Two places that differ, or a key that could be either, make the
//! blocks uncertain: those are dropped with all behind them, for a wrong name would be a wrong hit, and a
//! hit on another tenant's salt a leak. Called by [`super::decode`].

use waypost_wire::media_hash;

use super::decode::{BlockStored, MAX_TOKENS_PER_EVENT};
use super::msgpack::{Malformed, Reader, Token};
use super::slots::{Slot, Slots};

/// How Dynamo marks a salt among the extra keys.
const SALT_TAG: &str = "dynamo-cache-salt:";

/// Fills in adapter, salt, media and how many blocks are certain; false if none of the event is.
pub(crate) fn read(slots: &Slots<'_>, stored: &mut BlockStored) -> Result<bool, Malformed> {
    let BlockStored { lora, salt, media, .. } = stored;
    lora.clear();
    salt.clear();
    media.clear();
    let mut sure = true;
    match slots.token(Slot::LoraName)? {
        Token::Text(name) => lora.push_str(text(name)?),
        // SGLang's place for the salt.
        Token::Map(_) => sure &= agree(salt, slots.get(Slot::LoraName).map(salt_within)),
        _ => {}
    }
    sure &= agree(salt, slots.get(Slot::Metadata).map(salt_within));
    sure &= agree(salt, slots.get(Slot::Salt).map(one_text));
    // An adapter known by number only has no name that a request could be matched by.
    sure &= !lora.is_empty() || !matches!(slots.token(Slot::LoraId)?, Token::Int(1..));
    let described = slots.get(Slot::Media).filter(|field| field.peek() != Ok(Token::Nil));
    if let Some(field) = slots.get(Slot::ExtraKeys) {
        sure &= extra_keys(field, stored, described.is_none())?;
    }
    if let Some(field) = described {
        block_media(field, stored)?;
    }
    Ok(sure)
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// Takes over a salt; false if another one stands already or the place does not hold a text.
fn agree(salt: &mut String, found: Option<Result<&str, Malformed>>) -> bool {
    match found {
        None | Some(Ok("")) => true,
        Some(Ok(found)) if salt.is_empty() => {
            salt.push_str(found);
            true
        }
        Some(Ok(found)) => salt == found,
        Some(Err(_)) => false,
    }
}

fn one_text(mut field: Reader<'_>) -> Result<&str, Malformed> {
    match field.token()? {
        Token::Nil => Ok(""),
        Token::Text(bytes) => text(bytes),
        _ => Err(Malformed),
    }
}

/// `cache_salt` within a map.
fn salt_within(field: Reader<'_>) -> Result<&str, Malformed> {
    if field.peek()? == Token::Nil {
        return Ok("");
    }
    for pair in field.pairs()? {
        let (name, value) = pair?;
        if name == b"cache_salt" {
            return one_text(value);
        }
    }
    Ok("")
}

/// One entry per block: nil, or what was hashed besides its tokens.
fn extra_keys(mut field: Reader<'_>, stored: &mut BlockStored, take_media: bool) -> Result<bool, Malformed> {
    let Token::Array(blocks) = field.token()? else { return Ok(true) };
    for number in 0..blocks {
        let mut keys = field.value()?;
        let first = number == 0 && stored.parent.is_none();
        let certain = match keys.token()? {
            Token::Nil => true,
            Token::Array(count) => block_keys(&mut keys, count, number, first, take_media, stored)?,
            _ => false,
        };
        if !certain {
            stored.certain = stored.certain.min(number as usize);
            return Ok(number > 0);
        }
    }
    Ok(true)
}

/// vLLM's order: adapter, media, salt (first block of a prompt), embeddings.
fn block_keys(
    keys: &mut Reader<'_>,
    count: u32,
    number: u32,
    first: bool,
    take_media: bool,
    stored: &mut BlockStored,
) -> Result<bool, Malformed> {
    let mut plain = "";
    for _ in 0..count {
        let key = keys.value()?;
        match key.peek()? {
            Token::Text(bytes) => {
                let key = text(bytes)?;
                if let Some(found) = key.strip_prefix(SALT_TAG) {
                    if !first || !agree(&mut stored.salt, Some(Ok(found))) {
                        return Ok(false);
                    }
                } else if key != stored.lora && first {
                    // A salt, or in old versions a medium; two of them cannot be told apart.
                    if !plain.is_empty() {
                        return Ok(false);
                    }
                    plain = key;
                } else if key != stored.lora && take_media {
                    add(stored, number, media_hash(key))?;
                }
            }
            Token::Array(2) => match medium(key)? {
                Some(hash) if take_media => add(stored, number, hash)?,
                Some(_) => {}
                None => return Ok(false),
            },
            _ => return Ok(false),
        }
    }
    Ok(agree(&mut stored.salt, Some(Ok(plain))))
}

fn add(stored: &mut BlockStored, block: u32, hash: u64) -> Result<(), Malformed> {
    if stored.media.len() >= MAX_TOKENS_PER_EVENT as usize {
        return Err(Malformed);
    }
    stored.media.push((block, hash));
    Ok(())
}

/// `(identifier, offset)`.
fn medium(mut pair: Reader<'_>) -> Result<Option<u64>, Malformed> {
    pair.token()?;
    Ok(match (pair.token()?, pair.token()?) {
        (Token::Text(id), Token::Int(_)) => Some(media_hash(text(id)?)),
        (Token::Int(hash), Token::Int(_)) => Some(hash),
        _ => None,
    })
}

/// One entry per block: nil, or `{mm_objects: [{mm_hash, …}, …]}`.
fn block_media(mut field: Reader<'_>, stored: &mut BlockStored) -> Result<(), Malformed> {
    let Token::Array(blocks) = field.token()? else { return Err(Malformed) };
    for number in 0..blocks {
        let Ok(pairs) = field.value()?.pairs() else { continue };
        for pair in pairs {
            let (name, mut objects) = pair?;
            if name != b"mm_objects" {
                continue;
            }
            let Token::Array(count) = objects.token()? else { continue };
            for _ in 0..count {
                add(stored, number, mm_hash(objects.value()?)?)?;
            }
        }
    }
    Ok(())
}

fn mm_hash(object: Reader<'_>) -> Result<u64, Malformed> {
    for pair in object.pairs()? {
        let (name, mut value) = pair?;
        if name == b"mm_hash" {
            return match value.token()? {
                Token::Int(hash) => Ok(hash),
                Token::Text(id) => Ok(media_hash(text(id)?)),
                _ => Err(Malformed),
            };
        }
    }
    Err(Malformed)
}
