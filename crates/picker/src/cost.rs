//! Dynamo's cost of giving a request to an endpoint, in blocks of KV cache: lower is better.
//!
//! Formula and defaults are those of its KV router 1.6.1. Pure arithmetic, called by the choice for every endpoint.

use crate::prefixes::Cached;
use waypost_config::KvCost;

/// Which part of a request the endpoint would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// All of it.
    Whole,
    /// Only the prompt: what its other requests write does not count.
    Prefill,
    /// Only the answer: nothing is saved by what is cached, nothing is shared with other requests.
    Decode,
}

/// The request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Prompt {
    pub(crate) tokens: f64,
    /// Blocks it takes, the partial last one too.
    pub(crate) blocks: u32,
    /// Tokens in a block.
    pub(crate) block_size: f64,
}

/// An endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Terms {
    /// What it holds of the prompt.
    pub(crate) cached: Cached,
    /// Prompt tokens it has yet to compute for others.
    pub(crate) prefill_tokens: u64,
    /// Blocks that requests in flight use there.
    pub(crate) decode_blocks: u64,
    /// Of the prompt's blocks, those among them.
    pub(crate) active: u32,
    /// Requests in flight there.
    pub(crate) requests: u32,
}

/// The cost. `least_prefill` is the least `prefill_tokens` of all endpoints that could take the request.
pub(crate) fn cost(kv: &KvCost, side: Side, prompt: Prompt, of: &Terms, least_prefill: u64) -> f64 {
    let requests = kv.decode_request_weight * f64::from(of.requests);
    let decode = |active: u32| of.decode_blocks as f64 + f64::from(prompt.blocks.saturating_sub(active));
    if side == Side::Decode {
        return decode(0) + requests;
    }
    let backlog = of.prefill_tokens as f64;
    let ahead = (backlog - least_prefill as f64) / prompt.block_size / f64::from(prompt.blocks.max(1));
    let decay = 1.0 / (1.0 + kv.credit_decay * ahead);
    let credit = kv.overlap_credit * decay * f64::from(of.cached.device)
        + kv.host_weight * f64::from(of.cached.host)
        + kv.disk_weight * f64::from(of.cached.disk);
    let prefill = ((backlog + prompt.tokens) / prompt.block_size - credit).max(0.0);
    let prefill = kv.prefill_load_scale * prefill;
    match side {
        Side::Prefill => prefill + requests,
        _ => prefill + decode(of.active) + requests,
    }
}

/// Takes one of `costs` at random, likelier the lower: costs are spread over 0 to 1, and each is e^(1/`temperature`)
/// times likelier than one that is 1 higher. `draw` is uniform in 0..1.
pub(crate) fn at_temperature<I>(costs: I, temperature: f64, draw: f64) -> Option<usize>
where
    I: Iterator<Item = (usize, f64)> + Clone,
{
    let (least, most) = costs
        .clone()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), (_, c)| (least.min(c), most.max(c)));
    let range = most - least;
    let weight = |cost: f64| if range > 0.0 { (-(cost - least) / (range * temperature)).exp() } else { 1.0 };
    let total: f64 = costs.clone().map(|(_, cost)| weight(cost)).sum();
    let mut left = draw * total;
    let mut last = None;
    for (index, cost) in costs {
        last = Some(index);
        left -= weight(cost);
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.5 blocks of 16 tokens.
    const PROMPT: Prompt = Prompt { tokens: 168.0, blocks: 11, block_size: 16.0 };

    fn cached(device: u32, host: u32, disk: u32) -> Cached {
        Cached { device, host, disk }
    }

    #[test]
    fn costs_are_those_worked_by_hand() {
        let kv = KvCost::default();
        let idle = Terms::default();
        let warm = Terms { cached: cached(6, 0, 0), ..idle };
        let tiers = Terms { cached: cached(2, 4, 4), ..idle };
        let loaded = Terms { prefill_tokens: 320, decode_blocks: 30, active: 5, requests: 3, ..idle };
        let full = Terms { cached: cached(11, 0, 0), active: 11, decode_blocks: 11, ..idle };
        for (kv, side, of, least, expected) in [
            // 10.5 to compute + 11 to add
            (kv, Side::Whole, idle, 0, 21.5),
            // 10.5 - 6 + 11
            (kv, Side::Whole, warm, 0, 15.5),
            // 10.5 - 2 - 0.75*4 - 0.25*4 + 11
            (kv, Side::Whole, tiers, 0, 15.5),
            // 20 + 10.5 + 30 + (11 - 5)
            (kv, Side::Whole, loaded, 0, 66.5),
            // never below 0: 0 + 11 + 0
            (kv, Side::Whole, full, 0, 11.0),
            (KvCost { overlap_credit: 2.0, ..kv }, Side::Whole, warm, 0, 11.0),
            // half of the prefill: 0.5*30.5 + 36 + 0.25*3
            (
                KvCost { prefill_load_scale: 0.5, decode_request_weight: 0.25, ..kv },
                Side::Whole,
                loaded,
                0,
                52.0,
            ),
            (kv, Side::Prefill, loaded, 0, 30.5),
            (kv, Side::Prefill, warm, 0, 4.5),
            (kv, Side::Decode, loaded, 0, 41.0),
            (kv, Side::Decode, full, 0, 22.0),
        ] {
            let got = cost(&kv, side, PROMPT, &of, least);
            assert!((got - expected).abs() < 1e-9, "{side:?} {of:?}: {got}, not {expected}");
        }
    }

    #[test]
    fn credit_fades_with_the_backlog_beyond_the_idlest() {
        let kv = KvCost { credit_decay: 2.0, ..KvCost::default() };
        let of = Terms { cached: cached(6, 0, 0), prefill_tokens: 16 * 33, ..Terms::default() };
        // (33 - 11) / 11 = 2 prompts ahead: 1 / (1 + 2*2) of the credit
        let got = cost(&kv, Side::Whole, PROMPT, &of, 16 * 11);
        assert!((got - (33.0 + 10.5 - 6.0 / 5.0 + 11.0)).abs() < 1e-9, "{got}");
        let idlest = cost(&kv, Side::Whole, PROMPT, &of, 16 * 33);
        assert!((idlest - (33.0 + 10.5 - 6.0 + 11.0)).abs() < 1e-9, "{idlest}");
    }

    #[test]
    fn temperature_gives_the_softmax_of_normalised_costs() {
        let costs = [(7, 10.0), (8, 20.0), (9, 30.0)];
        let (mut counts, n) = ([0_u32; 3], 60_000);
        for i in 0..n {
            let draw = (f64::from(i) + 0.5) / f64::from(n);
            counts[at_temperature(costs.into_iter(), 0.5, draw).unwrap() - 7] += 1;
        }
        // 1, e^-1, e^-2 over their sum
        for (count, expected) in counts.into_iter().zip([0.665_241, 0.244_728, 0.090_031]) {
            let got = f64::from(count) / f64::from(n);
            assert!((got - expected).abs() < 1e-4, "{got} not {expected}");
        }
        let equal = [(0, 5.0), (1, 5.0)];
        assert_eq!(at_temperature(equal.into_iter(), 0.1, 0.49), Some(0));
        assert_eq!(at_temperature(equal.into_iter(), 0.1, 0.51), Some(1));
        assert_eq!(at_temperature([].into_iter(), 0.1, 0.5), None);
        assert_eq!(at_temperature(costs.into_iter(), 1e-9, 0.999_999), Some(7));
    }
}
