//! What tells an image or another medium from others, where blocks of KV cache are hashed.
//!
//! Engines' events and prompts must come to the same number. Called by the tokens, the picker and its feeds.

use xxhash_rust::xxh3::xxh3_64;

/// The hash of a medium: of the id that the client gave it, or of its URL or data. A SHA-256 in hexadecimal is its own hash,
/// cut to its first 64 bits, as in Dynamo's router.
#[must_use]
pub fn media_hash(id: &str) -> u64 {
    let hex = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let head = id.get(..16).filter(|_| hex).and_then(|head| u64::from_str_radix(head, 16).ok());
    head.unwrap_or_else(|| xxh3_64(id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_names_a_medium_by_its_head() {
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(media_hash(&digest), 0x0123_4567_89ab_cdef);
        assert_eq!(media_hash("picture"), xxh3_64(b"picture"));
        let odd = "é".repeat(32);
        assert_eq!(media_hash(&odd), xxh3_64(odd.as_bytes()));
    }
}
