//! Names of KV blocks: XXH3-64 over the token ids of full blocks, chained from the root of the prompt.
//!
//! The same numbers as other KV routers that use XXH3 with seed 1337, so figures and golden vectors
//! can be compared. Allocates nothing per block; called for prompts and for the events of engines.

use std::ops::Range;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Seed of every hash; names that separate caches are added to it.
const SEED: u64 = 1337;

/// Bytes hashed in one piece from the stack: blocks of up to 64 tokens; larger ones are streamed.
const PIECE_BYTES: usize = 256;

/// An image, a sound or a film in the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// The positions of its tokens in the prompt.
    pub tokens: Range<usize>,
    /// What it is, a hash of it that prompts and events agree on.
    pub hash: u64,
}

/// The seed of a prompt's local hashes: prompts of another LoRA adapter or of another salt share no
/// block. An empty name is no name.
pub fn seed(lora: &str, salt: &str) -> u64 {
    let part = |name: &str, seed| if name.is_empty() { 0 } else { xxh3_64_with_seed(name.as_bytes(), seed) };
    SEED.wrapping_add(part(lora, 0)).wrapping_add(part(salt, 1))
}

/// One hash per full block of `block_size` tokens; what is left over has none.
///
/// Blocks that media reach into are also told apart by the sorted hashes of those media.
pub fn local_hashes(tokens: &[u32], block_size: usize, seed: u64, media: &[Media]) -> Vec<u64> {
    let Some(blocks) = tokens.len().checked_div(block_size) else { return Vec::new() };
    let mut hashes = Vec::with_capacity(blocks);
    let (mut within, mut piece) = (Vec::new(), [0; PIECE_BYTES]);
    for (number, block) in tokens.chunks_exact(block_size).enumerate() {
        let (start, end) = (number * block_size, (number + 1) * block_size);
        within.clear();
        let overlaps = |m: &&Media| m.tokens.start < end && start < m.tokens.end && !m.tokens.is_empty();
        within.extend(media.iter().filter(overlaps).map(|m| m.hash));
        within.sort_unstable();
        hashes.push(local(block, seed, &within, &mut piece));
    }
    hashes
}

/// The chain hashes of a prompt's local hashes: each names the block and all that came before it.
pub fn chain(local: &[u64]) -> Vec<u64> {
    let mut last = None;
    let mut step = |&block: &u64| {
        let hash = extend(last, block);
        last = Some(hash);
        hash
    };
    local.iter().map(&mut step).collect()
}

/// The chain hash of the block `local` behind the block with the chain hash `parent`; the first block of
/// a prompt has no parent and is called by its local hash.
#[inline]
pub fn extend(parent: Option<u64>, local: u64) -> u64 {
    let Some(parent) = parent else { return local };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&parent.to_le_bytes());
    bytes[8..].copy_from_slice(&local.to_le_bytes());
    xxh3_64_with_seed(&bytes, SEED)
}

fn local(block: &[u32], seed: u64, media: &[u64], piece: &mut [u8; PIECE_BYTES]) -> u64 {
    let length = block.len() * 4 + media.len() * 8;
    if let Some(bytes) = piece.get_mut(..length) {
        let (tokens, rest) = bytes.split_at_mut(block.len() * 4);
        tokens.chunks_exact_mut(4).zip(block).for_each(|(to, id)| to.copy_from_slice(&id.to_le_bytes()));
        rest.chunks_exact_mut(8).zip(media).for_each(|(to, hash)| to.copy_from_slice(&hash.to_le_bytes()));
        return xxh3_64_with_seed(bytes, seed);
    }
    let mut hasher = Xxh3::with_seed(seed);
    for ids in block.chunks(PIECE_BYTES / 4) {
        let bytes = piece.chunks_exact_mut(4).zip(ids);
        bytes.for_each(|(to, id)| to.copy_from_slice(&id.to_le_bytes()));
        hasher.update(&piece[..ids.len() * 4]);
    }
    media.iter().for_each(|hash| hasher.update(&hash.to_le_bytes()));
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u32; 16] =
        [529, 29989, 1792, 29989, 29958, 13, 1742, 29900, 1734, 29896, 1734, 29906, 1734, 29941, 1734, 29946];
    const B: [u32; 16] = [
        1734, 29945, 1734, 29953, 1734, 29955, 1734, 29947, 1734, 29929, 1734, 29896, 29900, 1734, 29896,
        29896,
    ];

    #[test]
    fn hashes_are_those_seen_on_the_wire_of_another_router() {
        let tokens = [A, B].concat();
        let local = local_hashes(&tokens, 16, seed("", ""), &[]);
        assert_eq!(local, [11_082_112_383_750_589_733, 10_167_742_785_988_678_827]);
        assert_eq!(chain(&local), [11_082_112_383_750_589_733, 6_412_917_467_878_650_700]);
        let lora = seed("my-lora", "");
        assert_eq!(lora, 12_827_409_268_353_072_861);
        assert_eq!(local_hashes(&A, 16, lora, &[]), [9_766_775_162_828_902_335]);
    }

    #[test]
    fn a_salt_is_not_a_lora_and_both_count() {
        let seeds = [seed("", ""), seed("a", ""), seed("", "a"), seed("a", "a")];
        for (n, a) in seeds.iter().enumerate() {
            assert!(seeds[n + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn only_full_blocks_have_a_hash() {
        assert_eq!(local_hashes(&A[..15], 16, SEED, &[]), [0_u64; 0]);
        assert_eq!(local_hashes(&A, 5, SEED, &[]).len(), 3);
        assert_eq!(local_hashes(&A, 0, SEED, &[]), [0_u64; 0]);
        assert_eq!(chain(&[]), [0_u64; 0]);
    }

    #[test]
    fn long_blocks_hash_as_their_bytes_do() {
        for size in [1, 63, 64, 65, 128, 1000, 8192] {
            let tokens: Vec<u32> = (0..size as u32).map(|n| n.wrapping_mul(2_654_435_761)).collect();
            let media = [7, 5].map(|hash| Media { tokens: 0..1, hash });
            let mut bytes: Vec<u8> = tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
            assert_eq!(local_hashes(&tokens, size, 3, &[]), [xxh3_64_with_seed(&bytes, 3)]);
            bytes.extend([5u64, 7].iter().flat_map(|hash| hash.to_le_bytes()));
            assert_eq!(local_hashes(&tokens, size, 3, &media), [xxh3_64_with_seed(&bytes, 3)]);
        }
    }

    #[test]
    fn media_change_the_blocks_they_reach_into_and_no_other() {
        let tokens = [A, B, A].concat();
        let plain = local_hashes(&tokens, 16, SEED, &[]);
        let seen = local_hashes(&tokens, 16, SEED, &[Media { tokens: 15..17, hash: 9 }]);
        assert!(plain[0] != seen[0] && plain[1] != seen[1] && plain[2] == seen[2]);
        let empty = local_hashes(&tokens, 16, SEED, &[Media { tokens: 4..4, hash: 9 }]);
        assert_eq!(plain, empty);
    }
}
