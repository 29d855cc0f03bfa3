//! Cryptocurrency addresses: Bitcoin (base58check and bech32), Ethereum, Tron.

use super::checks;
use super::kind::{Kind, Span};
use super::sha256;
use super::spot::Spot;

/// Shortest address of any kind, in bytes.
pub(crate) const MIN_LENGTH: usize = 26;

/// An address that fills the token.
pub(crate) fn find(spot: &Spot<'_>) -> Option<Span> {
    let word = spot.word().as_bytes();
    let end = spot.token().end as usize;
    let confidence = match word {
        [b'0', b'x' | b'X', hex @ ..] if hex.len() == 40 && hex.iter().all(u8::is_ascii_hexdigit) => 0.85,
        [b'b', b'c', b'1', ..] if word.len() <= 90 && checks::bech32(word) => 0.99,
        [b'1' | b'3' | b'T', ..] if (MIN_LENGTH..=35).contains(&word.len()) && base58check(word) => 0.99,
        _ => return None,
    };
    Some(spot.span(end, Kind::Crypto, confidence))
}

/// Base58Check: 21 bytes and the first four of their double SHA-256.
fn base58check(word: &[u8]) -> bool {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut decoded = [0_u8; 25];
    for byte in word {
        let Some(digit) = ALPHABET.iter().position(|a| a == byte) else { return false };
        let mut carry = digit as u32;
        for place in decoded.iter_mut().rev() {
            carry += u32::from(*place) * 58;
            *place = carry as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return false;
        }
    }
    let (payload, sum) = decoded.split_at(21);
    let digest = sha256::one_block(payload).and_then(|once| sha256::one_block(&once));
    digest.is_some_and(|digest| digest.starts_with(sum))
}
