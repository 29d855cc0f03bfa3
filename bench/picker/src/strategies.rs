//! The strategies that are compared, each with the information that it has where it comes from.

use std::time::Duration;
use waypost_config::{Affinity, Picking, Prefixes, Scorer, Strategy};

/// llm-d's defaults for its prefix affinity.
const STICKY: Affinity = Affinity {
    threshold: 0.8,
    max_ttft_penalty: Duration::from_millis(18_000),
    prefill_tokens_per_second: 15_928.0,
    exploration: 0.0,
};

/// All of them by name.
pub(crate) fn all() -> Vec<(&'static str, Picking)> {
    let of = |strategy| Picking { strategy, ..Picking::default() };
    let scorers = |scorers: &[(Scorer, f64)]| Picking { scorers: scorers.to_vec(), ..of(Strategy::Scorers) };
    let events = |picking: Picking| Picking { prefixes: Prefixes::Events, ..picking };
    let sticky = Picking { affinity: Some(STICKY), ..scorers(&[(Scorer::TokenLoad, 1.0)]) };
    vec![
        ("round-robin", of(Strategy::RoundRobin)),
        ("random", of(Strategy::Random)),
        ("least-load", of(Strategy::LeastLoad)),
        ("power-of-two", of(Strategy::PowerOfTwo)),
        (
            "llm-d default",
            scorers(&[(Scorer::Queue, 2.0), (Scorer::KvUtilization, 2.0), (Scorer::Prefix, 3.0)]),
        ),
        ("llm-d sticky", sticky.clone()),
        ("llm-d sticky, events", events(sticky)),
        // Dynamo's side index of prompts just routed is off by default.
        ("dynamo kv, events", Picking { predicted: Duration::ZERO, ..events(of(Strategy::Kv)) }),
        ("kv", of(Strategy::Kv)),
        ("kv, events", events(of(Strategy::Kv))),
        ("ttft", of(Strategy::Ttft)),
        ("ttft, events", events(of(Strategy::Ttft))),
    ]
}
