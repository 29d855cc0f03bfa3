//! Which arm of a split a request goes to.
//!
//! The same key always goes to the same arm, in every replica and every version. Called by the router.

use waypost_config::{PolicyIndex, Split};

/// The arm of `key`; `salt` is the split's name, so that two splits do not share their halves.
#[must_use]
pub fn arm(split: &Split, salt: &str, key: &[u8]) -> PolicyIndex {
    let total: f64 = split.arms.iter().map(|(_, weight)| weight).sum();
    let mut left = share(salt, key) * total;
    for (policy, weight) in &split.arms {
        if left < *weight {
            return *policy;
        }
        left -= weight;
    }
    // Rounding only; an arm without weight is never last.
    let weighted = split.arms.iter().rev().find(|(_, weight)| *weight > 0.0);
    weighted.map_or(split.arms[0].0, |(policy, _)| *policy)
}

/// 0 to 1, evenly: FNV-1a, whose low bits are then mixed as in SplitMix64.
fn share(salt: &str, key: &[u8]) -> f64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = salt.as_bytes().iter().chain(&[0xff]).chain(key).fold(0xcbf2_9ce4_8422_2325, fnv);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((hash ^ (hash >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_config::SplitBy;

    #[test]
    fn shares_are_as_weighted_and_keys_keep_their_arm() {
        let split = Split { by: SplitBy::Request, arms: vec![(7, 0.0), (3, 90.0), (5, 10.0), (9, 0.0)] };
        let of = |salt: &str, i: u32| arm(&split, salt, &i.to_le_bytes());
        let arms: Vec<_> = (0..20_000).map(|i| of("a", i)).collect();
        let fives = arms.iter().filter(|arm| **arm == 5).count();
        assert!((1_850..2_150).contains(&fives), "{fives}");
        assert!(arms.iter().all(|arm| matches!(arm, 3 | 5)));
        assert!((0..100).all(|i| of("a", i) == arms[i as usize]));
        let both = (0..20_000).filter(|i| of("a", *i) == 5 && of("b", *i) == 5).count();
        assert!((120..290).contains(&both), "two splits are independent: {both}");
        assert_eq!(
            (of("a", 1), of("a", 2), of("a", 12)),
            (3, 3, 3),
            "pinned: it must not change between versions"
        );
    }
}
