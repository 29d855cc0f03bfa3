//! The strategies that are compared, each with the information that it has where it comes from.

use std::time::Duration;
use waypost_config::{Affinity, Picking, Prefixes, Scorer, Strategy};

/// All of them by name.
pub(crate) fn all() -> Vec<(&'static str, Picking)> {
    let of = |strategy| Picking { strategy, ..Picking::default() };
    let scorers = |scorers: &[(Scorer, f64)]| Picking { scorers: scorers.to_vec(), ..of(Strategy::Scorers) };
    let events = |picking: Picking| Picking { prefixes: Prefixes::Events, ..picking };
    let sticky = Picking { affinity: Some(Affinity::default()), ..scorers(&[(Scorer::TokenLoad, 1.0)]) };
    vec![
        ("round-robin", of(Strategy::RoundRobin)),
        ("random", of(Strategy::Random)),
        ("least-load", of(Strategy::LeastLoad)),
        ("power-of-two", of(Strategy::PowerOfTwo)),
        ("llm-d default", scorers(&Scorer::LLM_D)),
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
