//! The one hash used for vocabulary look-ups and n-gram buckets.
//!
//! Fixed for good: bucket numbers are baked into the trained heads. Not meant to resist attackers; a collision only
//! costs a little accuracy.

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// Hash of some bytes under a seed.
pub(crate) fn bytes(seed: u64, data: &[u8]) -> u64 {
    let mut state = seed ^ (data.len() as u64).wrapping_mul(MULTIPLIER);
    let mut chunks = data.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        state = mix(state ^ u64::from_le_bytes(word));
    }
    let tail = chunks.remainder().iter().fold(0_u64, |tail, &byte| tail << 8 | u64::from(byte));
    mix(state ^ tail)
}

/// Joins two hashes into one; the order matters.
pub(crate) fn join(left: u64, right: u64) -> u64 {
    mix(left.rotate_left(23) ^ right)
}

/// Folds the 128-bit product: fast and well spread.
fn mix(value: u64) -> u64 {
    let product = u128::from(value ^ MULTIPLIER) * u128::from(MULTIPLIER ^ 0x5851_F42D_4C95_7F2D);
    (product as u64) ^ (product >> 64) as u64
}
