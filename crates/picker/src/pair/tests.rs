use crate::testing::{ask, chain, specs, store};
use crate::*;
use std::sync::Arc;
use std::time::Duration;
use waypost_config::{Connector, Disaggregation, Picking, Prefixes, Role, Strategy};

/// Endpoints 0 and 1 read prompts, 2 and 3 write answers.
fn pool() -> Pool {
    let mut specs = specs(4);
    let roles = [Role::Prefill, Role::Prefill, Role::Decode, Role::Decode];
    specs.iter_mut().zip(roles).for_each(|(spec, role)| spec.role = role);
    let picking = Picking {
        strategy: Strategy::Kv,
        prefixes: Prefixes::Events,
        predicted: Duration::ZERO,
        disaggregation: Some(Disaggregation {
            connector: Connector::Nixl,
            min_uncached_tokens: 100,
            prefill_timeout: Duration::from_secs(1),
        }),
        ..Picking::default()
    };
    Pool::new(Arc::new(picking), &specs, None)
}

#[test]
fn decode_goes_by_decode_load_and_prefill_by_cost() {
    let pool = pool();
    store(&pool, 1, Tier::Device, 7, 5);
    // It holds the start, but that saves decode nothing.
    store(&pool, 2, Tier::Device, 7, 3);
    let prompt = chain(7, 10);
    let _busy = pool.pick(&Ask { tried: &[3], ..ask(&prompt) }, 0).unwrap();
    let pair = pool.pick_pair(&ask(&prompt), 0).unwrap();
    let prefill = pair.prefill.unwrap();
    assert_eq!((pair.decode.index, prefill.index, pair.why), (3, 1, WhyPair::Split));
    assert_eq!(pool.load(3), Load { prefilling: 0, prefill_tokens: 0, decode_blocks: 10 });
    assert_eq!(pool.load(1), Load { prefilling: 1, prefill_tokens: 80, decode_blocks: 0 });
    let costs: Vec<_> = prefill.choice.unwrap().candidates.iter().map(|c| c.cost).collect();
    assert_eq!(costs, [Some(10.0), Some(5.0), None, None]);
    let costs: Vec<_> = pair.decode.choice.unwrap().candidates.iter().map(|c| c.cost).collect();
    assert_eq!(costs, [None, None, Some(20.0), Some(10.0)]);
    prefill.booking.prefill_done(0);
    drop(prefill.booking);
    drop(pair.decode.booking);
    assert_eq!((pool.load(1), pool.load(3)), (Load::default(), Load::default()));
}

#[test]
fn it_is_not_split_when_that_saves_nothing() {
    let pool = pool();
    let short = chain(7, 6);
    let pair = pool.pick_pair(&ask(&short), 0).unwrap();
    assert_eq!((pair.why, pair.prefill.is_none()), (WhyPair::Short, true));
    assert_eq!(pool.load(pair.decode.index).prefill_tokens, 96, "decode reads it");
    drop(pair);
    (2..4).for_each(|decode| store(&pool, decode, Tier::Device, 8, 4));
    let long = chain(8, 10);
    let pair = pool.pick_pair(&ask(&long), 0).unwrap();
    assert_eq!((pair.why, pair.decode.cached_tokens), (WhyPair::Cached, 64));
    assert_eq!(pool.load(pair.decode.index).prefill_tokens, 96);
    drop(pair);
    let other = chain(9, 10);
    let pair = pool.pick_pair(&Ask { tried: &[0, 1], ..ask(&other) }, 0).unwrap();
    assert_eq!((pair.why, pair.why.as_str()), (WhyPair::NoPrefillEndpoint, "no_prefill_endpoint"));
    assert_eq!(pool.load(pair.decode.index).prefill_tokens, 160);
}

#[test]
fn without_a_decode_endpoint_nothing_is_booked() {
    let pool = pool();
    let prompt = chain(7, 10);
    let refused = pool.pick_pair(&Ask { tried: &[2, 3], ..ask(&prompt) }, 0).unwrap_err();
    assert_eq!(refused, NoPick::Tried);
    assert_eq!(pool.stats().bookings, 0);
}

#[test]
fn one_endpoint_does_not_do_both_sides() {
    let picking = Picking { strategy: Strategy::Kv, ..Picking::default() };
    let pool = Pool::new(Arc::new(picking), &specs(1), None);
    let prompt = chain(7, 10);
    let pair = pool.pick_pair(&ask(&prompt), 0).unwrap();
    assert_eq!((pair.why, pair.prefill.is_none()), (WhyPair::NoPrefillEndpoint, true));
}
